"""Handlers of /collection/presets."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app.core.errors import Conflicting, NotThere, Outdated, OverLimit, Unsuitable
from app.orgs.limits import Allowance
from app.store import tenancy
from app.store.db import Connection
from app.store.orgs import collection
from app.store.orgs import presets as store
from app.store.orgs.presets import Preset
from app.web.api import problems, schemas
from app.web.api.context import Answer, Asking

MOST = 200  # presets per organisation


async def list_presets(request: Asking) -> Answer:
    """List the presets that can be chosen, built-in ones first."""
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        found = await store.all_of(connection, request.org_id)
    return Answer(schemas.Presets(presets=[_body(preset) for preset in found]))


async def read_preset(request: Asking) -> Answer:
    """Read a preset."""
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        found = await store.one(connection, request.org_id, request.path["preset_id"])
    return _answer(_existing(found, request.path["preset_id"]))


async def create_preset(request: Asking) -> Answer:
    """Create a preset."""
    body: schemas.PresetWanted = request.body
    sources = [source.model_dump() for source in body.sources]
    preset = Preset(uuid4(), body.name, sources, 1, request.now, request.now, built_in=False)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        await _check(connection, request, sources)
        if len(await store.all_of(connection, request.org_id)) >= MOST:
            raise Conflicting(f"an organisation can have at most {MOST} presets")
        try:
            await store.add(connection, request.org_id, preset)
        except asyncpg.UniqueViolationError:
            raise _name_taken(body.name) from None
    answer = _answer(preset)
    return Answer(answer.body, {**answer.headers, "location": f"/collection/presets/{preset.id}"})


async def change_preset(request: Asking) -> Answer:
    """Change the given fields of a preset; runs that start from now on use them."""
    body: schemas.PresetChange = request.body
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        await collection.hold(connection, request.org_id)
        before = await _editable(connection, request)
        after = replace(before, **changes)
        if after == before:
            return _answer(before)
        if after.sources != before.sources:
            await _check(connection, request, after.sources)
        try:
            await store.change(connection, request.org_id, after, request.now)
        except asyncpg.UniqueViolationError:
            raise _name_taken(after.name) from None
    return _answer(replace(after, revision=before.revision + 1, updated_at=request.now))


async def delete_preset(request: Asking) -> Answer:
    """Delete a preset that the schedule does not use."""
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        await collection.hold(connection, request.org_id)
        preset = await _editable(connection, request)
        try:
            await store.drop(connection, request.org_id, preset.id)
        except asyncpg.ForeignKeyViolationError:
            raise Conflicting(
                f"the schedule uses preset {preset.name!r}: choose another preset first"
            ) from None
    return Answer()


async def _editable(connection: Connection, request: Asking) -> Preset:
    preset_id = request.path["preset_id"]
    found = _existing(await store.one(connection, request.org_id, preset_id), preset_id)
    if found.built_in:
        raise Conflicting(f"preset {found.name!r} is built in: create one with the same sources")
    if request.revision not in (None, found.revision):
        raise Outdated(f"the preset is at revision {found.revision}, not {request.revision}")
    return found


async def _check(connection: Connection, request: Asking, sources: Sequence[Any]) -> None:
    try:
        overrides = await collection.hold(connection, request.org_id)
        Allowance.of(request.desk.config, overrides).check("max_sources", len(sources))
    except OverLimit as error:
        raise Unsuitable("sources", str(error)) from None
    faults = await request.desk.check(connection, request.org_id, sources)
    if faults:
        raise problems.of_fields(
            problems.Fault(field=field, message=message) for field, message in faults
        )


def _existing(found: Preset | None, preset_id: UUID) -> Preset:
    if found is None:
        raise NotThere(f"there is no preset {preset_id}")
    return found


def _name_taken(name: str) -> Conflicting:
    return Conflicting(f"a preset named {name!r} already exists")


def _answer(preset: Preset) -> Answer:
    return Answer(_body(preset), {"etag": f'"{preset.revision}"'})


def _body(preset: Preset) -> schemas.Preset:
    return schemas.Preset(
        id=preset.id,
        name=preset.name,
        built_in=preset.built_in,
        sources=[schemas.ShownSource.model_validate(source) for source in preset.sources],
        revision=preset.revision,
        created_at=preset.created_at,
        updated_at=preset.updated_at,
    )
