"""Dashboard actions on an organisation's collection, with the same rules as its API."""

from datetime import datetime
from uuid import UUID

from starlette.exceptions import HTTPException

from app.core.errors import Conflict, NotFound, OverLimit
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.store.reports.overview import ScheduleSummary
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats
from app.web.context import WebContext
from app.web.dashboard.session_auth import SessionUser


async def run(
    context: WebContext, line: ScheduleSummary, user: SessionUser
) -> tuple[UUID, list[QueuedRun]]:
    """Request a run. Returns its id, or that of the open run, and the runs to enqueue.

    Raises HTTPException: 409 if nothing is selected, 429 if the daily limit of runs is reached.
    """
    try:
        queued = await collection.request_run(
            context.pool, context.config, await _request(context, line, user)
        )
    except Conflict as error:
        if error.run_id is None:
            raise HTTPException(409, _sentence(error)) from None
        return error.run_id, []
    except OverLimit as error:
        raise HTTPException(429, _sentence(error)) from None
    return queued.run_id, [queued]


async def pause(
    context: WebContext,
    line: ScheduleSummary,
    user: SessionUser,
    note: str,
    until: datetime | None,
) -> list[QueuedRun]:
    """Pause the schedule. Returns runs that were due before, to be enqueued.

    Raises HTTPException 404 if there is no schedule.
    """
    request = await _request(context, line, user)
    try:
        return (await collection.pause(context.pool, context.config, request, note, until)).queued
    except NotFound as error:
        raise HTTPException(404, _sentence(error)) from None


async def resume(context: WebContext, line: ScheduleSummary, user: SessionUser) -> list[QueuedRun]:
    """Resume the schedule. Returns runs that were due before, to be enqueued.

    Raises HTTPException 404 if there is no schedule.
    """
    request = await _request(context, line, user)
    try:
        return (await collection.resume(context.pool, context.config, request, None)).queued
    except NotFound as error:
        raise HTTPException(404, _sentence(error)) from None


async def _request(
    context: WebContext, line: ScheduleSummary, user: SessionUser
) -> CollectionRequest:
    now = await heartbeats.database_now(context.pool)
    name = collection.collection_name(line.key)
    return CollectionRequest(_owner(line), user.principal.name, now, collection=name)


def _owner(line: ScheduleSummary) -> UUID:
    if line.org_id is None:
        raise LookupError(f"{line.key} is not a collection")
    return line.org_id


def _sentence(error: Exception) -> str:
    text = str(error)
    return f"{text[:1].upper()}{text[1:]}."
