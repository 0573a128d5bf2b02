"""The presets' addresses: a collection is chosen from them, not programmed."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app.allowance import Allowance
from app.api import problems, shapes
from app.api.desk import Answer, Asking
from app.errors import Conflicting, NotThere, Outdated, OverLimit, Unsuitable
from app.store import collection, tenancy
from app.store import presets as store
from app.store.db import Connection
from app.store.presets import Preset

MOST = 200  # presets of one organisation


async def list_presets(asking: Asking) -> Answer:
    """List the presets that may be chosen, built in ones first."""
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        found = await store.all_of(connection, asking.org_id)
    return Answer(shapes.Presets(presets=[_shape(preset) for preset in found]))


async def read_preset(asking: Asking) -> Answer:
    """Say what one preset holds."""
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        found = await store.one(connection, asking.org_id, asking.path["preset_id"])
    return _shown(_there(found, asking.path["preset_id"]))


async def create_preset(asking: Asking) -> Answer:
    """Make a preset."""
    body: shapes.PresetWanted = asking.body
    sources = [one.model_dump() for one in body.sources]
    made = Preset(uuid4(), body.name, sources, 1, asking.now, asking.now, built_in=False)
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        await _check(connection, asking, sources)
        if len(await store.all_of(connection, asking.org_id)) >= MOST:
            raise Conflicting(f"an organisation keeps at most {MOST} presets")
        try:
            await store.add(connection, asking.org_id, made)
        except asyncpg.UniqueViolationError:
            raise _taken(body.name) from None
    answer = _shown(made)
    return Answer(answer.body, {**answer.headers, "location": f"/collection/presets/{made.id}"})


async def change_preset(asking: Asking) -> Answer:
    """Change what is said of a preset, and leave the rest; runs from now on collect by it."""
    body: shapes.PresetChange = asking.body
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set)
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        await collection.hold(connection, asking.org_id)
        before = await _own(connection, asking)
        after = replace(before, **changes)
        if after == before:
            return _shown(before)
        if after.sources != before.sources:
            await _check(connection, asking, after.sources)
        try:
            await store.change(connection, asking.org_id, after, asking.now)
        except asyncpg.UniqueViolationError:
            raise _taken(after.name) from None
    return _shown(replace(after, revision=before.revision + 1, updated_at=asking.now))


async def delete_preset(asking: Asking) -> Answer:
    """Delete a preset that the schedule has not chosen."""
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        await collection.hold(connection, asking.org_id)
        preset = await _own(connection, asking)
        try:
            await store.drop(connection, asking.org_id, preset.id)
        except asyncpg.ForeignKeyViolationError:
            raise Conflicting(f"the schedule has chosen {preset.name!r}: choose another") from None
    return Answer()


async def _own(connection: Connection, asking: Asking) -> Preset:
    preset_id = asking.path["preset_id"]
    found = _there(await store.one(connection, asking.org_id, preset_id), preset_id)
    if found.built_in:
        raise Conflicting(f"{found.name!r} is built in: make a preset of your own with its sources")
    if asking.revision not in (None, found.revision):
        raise Outdated(f"the preset is at revision {found.revision}, not {asking.revision}")
    return found


async def _check(connection: Connection, asking: Asking, sources: Sequence[Any]) -> None:
    try:
        own = await collection.hold(connection, asking.org_id)
        Allowance.of(asking.desk.config, own).check("max_sources", len(sources))
    except OverLimit as error:
        raise Unsuitable("sources", str(error)) from None
    faults = await asking.desk.check(connection, asking.org_id, sources)
    if faults:
        raise problems.of_fields(problems.Fault(field=at, message=why) for at, why in faults)


def _there(found: Preset | None, preset_id: UUID) -> Preset:
    if found is None:
        raise NotThere(f"there is no preset {preset_id}")
    return found


def _taken(name: str) -> Conflicting:
    return Conflicting(f"there is a preset {name!r} already")


def _shown(preset: Preset) -> Answer:
    return Answer(_shape(preset), {"etag": f'"{preset.revision}"'})


def _shape(preset: Preset) -> shapes.Preset:
    return shapes.Preset(
        id=preset.id,
        name=preset.name,
        built_in=preset.built_in,
        sources=[shapes.ShownSource.model_validate(source) for source in preset.sources],
        revision=preset.revision,
        created_at=preset.created_at,
        updated_at=preset.updated_at,
    )
