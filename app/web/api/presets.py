"""Handlers of /collection/presets."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app.core.enums import Scope
from app.core.errors import Conflict, InvalidValue, NotFound, StaleEdit
from app.orgs.limits import OrgLimits
from app.store.db import Connection
from app.store.orgs import collection
from app.store.orgs import presets as store
from app.store.orgs.presets import CollectionPreset
from app.web.api import problems
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, patch, post
from app.web.api.schemas.presets import PresetBody, PresetChange, PresetCreate, Presets

MAX_PRESETS = 200  # presets per organisation


async def list_presets(request: ApiRequest) -> ApiResponse:
    """List the presets that can be chosen, built-in ones first."""
    async with request.transaction() as connection:
        found = await store.all_of(connection, request.org_id)
    return ApiResponse(Presets(presets=[PresetBody.model_validate(preset) for preset in found]))


async def read_preset(request: ApiRequest) -> ApiResponse:
    """Read a preset."""
    async with request.transaction() as connection:
        found = await store.one(connection, request.org_id, request.path["preset_id"])
    return _answer(_existing(found, request.path["preset_id"]))


async def create_preset(request: ApiRequest) -> ApiResponse:
    """Create a preset."""
    body: PresetCreate = request.body
    sources = [source.model_dump() for source in body.sources]
    preset = CollectionPreset(
        uuid4(), body.name, sources, 1, request.now, request.now, built_in=False
    )
    async with request.transaction() as connection:
        limits = await _locked(connection, request)
        await _check(connection, request, limits, sources)
        if len(await store.all_of(connection, request.org_id)) >= MAX_PRESETS:
            raise Conflict(f"an organisation can have at most {MAX_PRESETS} presets")
        try:
            await store.add(connection, request.org_id, preset)
        except asyncpg.UniqueViolationError:
            raise _name_taken(body.name) from None
    answer = _answer(preset)
    return ApiResponse(
        answer.body, {**answer.headers, "location": f"/collection/presets/{preset.id}"}
    )


async def change_preset(request: ApiRequest) -> ApiResponse:
    """Change the given fields of a preset; runs that start from now on use them."""
    body: PresetChange = request.body
    changes: dict[str, Any] = body.model_dump(include=body.model_fields_set)
    async with request.transaction() as connection:
        limits = await _locked(connection, request)
        before = await _editable(connection, request)
        after = replace(before, **changes)
        if after == before:
            return _answer(before)
        if after.sources != before.sources:
            await _check(connection, request, limits, after.sources)
        try:
            await store.change(connection, request.org_id, after, request.now)
        except asyncpg.UniqueViolationError:
            raise _name_taken(after.name) from None
    return _answer(replace(after, revision=before.revision + 1, updated_at=request.now))


async def delete_preset(request: ApiRequest) -> ApiResponse:
    """Delete a preset that the schedule does not use."""
    async with request.transaction() as connection:
        await _locked(connection, request)
        preset = await _editable(connection, request)
        try:
            await store.drop(connection, request.org_id, preset.id)
        except asyncpg.ForeignKeyViolationError:
            raise Conflict(
                f"the schedule uses preset {preset.name!r}: choose another preset first"
            ) from None
    return ApiResponse()


async def _editable(connection: Connection, request: ApiRequest) -> CollectionPreset:
    preset_id = request.path["preset_id"]
    found = _existing(await store.one(connection, request.org_id, preset_id), preset_id)
    if found.built_in:
        raise Conflict(f"preset {found.name!r} is built in: create one with the same sources")
    if request.revision not in (None, found.revision):
        raise StaleEdit(f"the preset is at revision {found.revision}, not {request.revision}")
    return found


async def _locked(connection: Connection, request: ApiRequest) -> OrgLimits:
    """Lock the organisation, so that its edits come one after the other; return its limits."""
    overrides = await collection.lock_org(connection, request.org_id)
    return OrgLimits.of(request.context.config, overrides)


async def _check(
    connection: Connection, request: ApiRequest, limits: OrgLimits, sources: Sequence[Any]
) -> None:
    if fault := limits.fault("max_sources", len(sources)):
        raise InvalidValue("sources", fault)
    faults = await request.context.declared.check_sources(connection, request.org_id, sources)
    if faults:
        raise problems.of_fields(
            problems.FieldError(field=field, message=message) for field, message in faults
        )


def _existing(found: CollectionPreset | None, preset_id: UUID) -> CollectionPreset:
    if found is None:
        raise NotFound(f"there is no preset {preset_id}")
    return found


def _name_taken(name: str) -> Conflict:
    return Conflict(f"a preset named {name!r} already exists")


def _answer(preset: CollectionPreset) -> ApiResponse:
    return ApiResponse(PresetBody.model_validate(preset), {"etag": f'"{preset.revision}"'})


PRESETS = "/collection/presets"
PRESET = "/collection/presets/{preset_id}"


ENDPOINTS: tuple[Endpoint, ...] = (
    get(PRESETS, Scope.READ, list_presets, Presets),
    post(PRESETS, Scope.ADMIN, create_preset, PresetBody, status=201, body=PresetCreate, etag=True),
    get(PRESET, Scope.READ, read_preset, PresetBody, etag=True),
    patch(
        PRESET,
        Scope.ADMIN,
        change_preset,
        PresetBody,
        body=PresetChange,
        etag=True,
        if_match=True,
        errors=(404, 409),
    ),
    delete(PRESET, Scope.ADMIN, delete_preset, status=204, if_match=True, errors=(409,)),
)
