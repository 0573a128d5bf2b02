"""Handlers of /collection/schedule: read, change, retire, pause, resume, list edits."""

from typing import Any

from app.orgs import collection
from app.orgs.collection import Asked
from app.scheduling import cron
from app.store import tenancy
from app.store.orgs import org_listing
from app.store.orgs.collection import Standing
from app.web.api import cursor, schemas
from app.web.api.context import Answer, Asking


async def read_schedule(request: Asking) -> Answer:
    """Read the schedule; the defaults if there is none."""
    return _answer(await collection.look(request.desk.pool, request.who))


async def change_schedule(request: Asking) -> Answer:
    """Change the given fields of the schedule; creates it if there is none."""
    body: schemas.ScheduleChange = request.body
    changes: dict[str, Any] = {name: getattr(body, name) for name in body.model_fields_set}
    if "cron_expression" in changes:  # rejected before any row is locked
        changes["cron_expression"] = cron.checked_expression(changes["cron_expression"])
    context = request.desk
    change = await collection.edit(
        context.pool, context.config, _collection_request(request), changes
    )
    await context.tell(change.queued)
    return _answer(change.standing)


async def retire_schedule(request: Asking) -> Answer:
    """Retire the schedule: it has no further ticks, and its history is kept."""
    change = await collection.retire(
        request.desk.pool, request.desk.config, _collection_request(request)
    )
    await request.desk.tell(change.queued)
    return Answer()


async def read_pause(request: Asking) -> Answer:
    """Say whether the schedule is paused."""
    return _pause_answer(await collection.look(request.desk.pool, request.who))


async def pause_schedule(request: Asking) -> Answer:
    """Pause the schedule; its ticks are recorded as paused until it is resumed."""
    body: schemas.Pausing = request.body
    context = request.desk
    change = await collection.pause(
        context.pool, context.config, _collection_request(request), body.note
    )
    await context.tell(change.queued)
    return _pause_answer(change.standing)


async def resume_schedule(request: Asking) -> Answer:
    """Resume a paused schedule."""
    body: schemas.Resuming = request.body
    context = request.desk
    change = await collection.resume(
        context.pool, context.config, _collection_request(request), body.note
    )
    await context.tell(change.queued)
    return _pause_answer(change.standing)


async def list_edits(request: Asking) -> Answer:
    """List the edits of the schedule, newest first."""
    query: schemas.Paged = request.query
    number = cursor.number(query.cursor)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        rows = await org_listing.edits(connection, request.org_id, query.limit + 1, number)
    page, more = rows[: query.limit], len(rows) > query.limit
    edits = [schemas.Edit.model_validate(row) for row in page]
    return Answer(
        schemas.Edits(edits=edits, next_cursor=cursor.after(edits[-1].id) if more else None)
    )


def _collection_request(request: Asking) -> Asked:
    return Asked(request.who, request.now, request.revision)


def _answer(schedule: Standing | None) -> Answer:
    settings = collection.chosen(schedule)
    active = None if schedule is None or schedule.retired_at is not None else schedule
    ticking = active is not None and active.enabled and active.paused_at is None
    body = schemas.Schedule(
        id=active and active.id,
        preset_id=settings.preset_id,
        preset_name=active and active.preset_name,
        cron_expression=settings.cron_expression,
        timezone=settings.timezone,
        enabled=settings.enabled,
        notify=settings.notify,
        last_run_at=active and active.last_run_at,
        last_status=active and active.last_status,  # pyright: ignore[reportArgumentType] - checked by the model
        next_run_at=active.next_tick_at if active is not None and ticking else None,
    )
    return Answer(body, _etag(schedule))


def _pause_answer(schedule: Standing | None) -> Answer:
    paused_at = None if schedule is None else schedule.paused_at
    body = schemas.Pause(
        paused=paused_at is not None,
        paused_at=paused_at,
        paused_by=schedule and schedule.paused_by,
        note=schedule and schedule.paused_note,
    )
    return Answer(body, _etag(schedule))


def _etag(schedule: Standing | None) -> dict[str, str]:
    return {"etag": f'"{0 if schedule is None else schedule.revision}"'}
