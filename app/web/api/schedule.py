"""Handlers of collections' schedules: list, read, change, retire, pause, resume, list edits.

`/collection/schedule` is the one of the collection `default`.
"""

from typing import Any

from app.core.collection_keys import collection_name
from app.core.enums import Scope
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.scheduling import cron
from app.store.orgs import org_listing
from app.store.orgs.collection import CollectionSchedule
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, delete, get, patch, post
from app.web.api.schemas.base import PageQuery
from app.web.api.schemas.schedule import (
    CollectionBody,
    Collections,
    EditBody,
    Edits,
    PauseBody,
    PauseRequest,
    ResumeRequest,
    ScheduleBody,
    ScheduleChange,
)


async def list_collections(request: ApiRequest) -> ApiResponse:
    """List the collections with their schedules, the default one first."""
    found = await collection.read_all(request.context.pool, request.org_id)
    lines = [CollectionBody(name=collection_name(one.key), schedule=_body(one)) for one in found]
    return ApiResponse(Collections(collections=lines))


async def read_schedule(request: ApiRequest) -> ApiResponse:
    """Read the schedule; the defaults if there is none."""
    return _answer(await _read(request))


async def change_schedule(request: ApiRequest) -> ApiResponse:
    """Change the given fields of the schedule; creates it if there is none."""
    body: ScheduleChange = request.body
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "cron_expression" in changes:  # rejected before any row is locked
        changes["cron_expression"] = cron.validated_expression(changes["cron_expression"])
    context = request.context
    change = await collection.edit(
        context.pool, context.config, _collection_request(request), changes
    )
    await context.enqueue(change.queued)
    return _answer(change.schedule)


async def retire_schedule(request: ApiRequest) -> ApiResponse:
    """Retire the schedule: it has no further ticks, and its history is kept."""
    change = await collection.retire(
        request.context.pool, request.context.config, _collection_request(request)
    )
    await request.context.enqueue(change.queued)
    return ApiResponse()


async def read_pause(request: ApiRequest) -> ApiResponse:
    """Say whether the schedule is paused."""
    return _pause_answer(await _read(request))


async def pause_schedule(request: ApiRequest) -> ApiResponse:
    """Pause the schedule; its ticks are recorded as paused until it is resumed.

    409 if somebody else has paused it: resume it first.
    """
    body: PauseRequest = request.body
    context = request.context
    change = await collection.pause(
        context.pool, context.config, _collection_request(request), body.note
    )
    await context.enqueue(change.queued)
    return _pause_answer(change.schedule)


async def resume_schedule(request: ApiRequest) -> ApiResponse:
    """Resume a paused schedule."""
    body: ResumeRequest = request.body
    context = request.context
    change = await collection.resume(
        context.pool, context.config, _collection_request(request), body.note
    )
    await context.enqueue(change.queued)
    return _pause_answer(change.schedule)


async def list_edits(request: ApiRequest) -> ApiResponse:
    """List the edits of the schedule, newest first."""
    query: PageQuery = request.query
    number = cursor.decode_number(query.cursor)
    async with request.transaction() as connection:
        of = (request.org_id, _collection_request(request).key)
        rows = await org_listing.edits(connection, of, query.limit + 1, number)
    page, following = cursor.page_of(rows, query.limit, "id")
    edits = [EditBody.model_validate(row) for row in page]
    return ApiResponse(Edits(edits=edits, next_cursor=following))


async def _read(request: ApiRequest) -> CollectionSchedule | None:
    return await collection.read(request.context.pool, request.org_id, request.collection)


def _collection_request(request: ApiRequest) -> CollectionRequest:
    return CollectionRequest(
        request.org_id, request.principal.name, request.now, request.revision, request.collection
    )


def _answer(schedule: CollectionSchedule | None) -> ApiResponse:
    return ApiResponse(_body(schedule), _etag(schedule))


def _body(schedule: CollectionSchedule | None) -> ScheduleBody:
    settings = collection.settings_of(schedule)
    active = None if schedule is None or schedule.retired_at is not None else schedule
    ticking = active is not None and active.enabled and active.paused_at is None
    return ScheduleBody(
        **{name: settings.policies.get(name) for name in collection.POLICY_FIELDS},
        id=active and active.id,
        preset_id=settings.preset_id,
        preset_name=active and active.preset_name,
        cron_expression=settings.cron_expression,
        timezone=settings.timezone,
        enabled=settings.enabled,
        notify=settings.notify,
        last_run_at=active and active.last_run_at,
        last_status=active and active.last_status,  # pyright: ignore[reportArgumentType] - checked by the model
        next_run_at=collection.next_run_at(active) if active is not None and ticking else None,
    )


def _pause_answer(schedule: CollectionSchedule | None) -> ApiResponse:
    paused_at = None if schedule is None else schedule.paused_at
    body = PauseBody(
        paused=paused_at is not None,
        paused_at=paused_at,
        paused_by=schedule and schedule.paused_by,
        note=schedule and schedule.paused_note,
    )
    return ApiResponse(body, _etag(schedule))


def _etag(schedule: CollectionSchedule | None) -> dict[str, str]:
    return {"etag": f'"{0 if schedule is None else schedule.revision}"'}


def _schedule(path: str) -> tuple[Endpoint, ...]:
    return (
        get(path, Scope.READ, read_schedule, ScheduleBody, etag=True),
        patch(
            path,
            Scope.ADMIN,
            change_schedule,
            ScheduleBody,
            body=ScheduleChange,
            etag=True,
            if_match=True,
        ),
        delete(path, Scope.ADMIN, retire_schedule, status=204, if_match=True, errors=(404,)),
        get(f"{path}/edits", Scope.READ, list_edits, Edits, query=PageQuery),
    )


def _pause(path: str) -> tuple[Endpoint, ...]:
    return (
        get(f"{path}/pause", Scope.READ, read_pause, PauseBody, etag=True),
        post(
            f"{path}/pause",
            Scope.OPERATE,
            pause_schedule,
            PauseBody,
            body=PauseRequest,
            etag=True,
            if_match=True,
            errors=(404, 409),
        ),
        post(
            f"{path}/resume",
            Scope.OPERATE,
            resume_schedule,
            PauseBody,
            body=ResumeRequest,
            etag=True,
            if_match=True,
            errors=(404,),
        ),
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    get("/collections", Scope.READ, list_collections, Collections),
    *_schedule("/collection/schedule"),
    *_pause("/collection/schedule"),
    *_schedule("/collections/{collection}/schedule"),
    *_pause("/collections/{collection}/schedule"),
)
