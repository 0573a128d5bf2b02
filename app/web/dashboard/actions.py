"""Dashboard actions: run now, pause and resume a schedule. Each is recorded with its author."""

import asyncio
from datetime import datetime
from typing import Any
from urllib.parse import quote
from uuid import UUID

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.core import log
from app.core.errors import BadParameters, BadSchedule
from app.ledger import edit, manual_runs
from app.ledger.manual_runs import ManualRun
from app.store.db import UNAVAILABLE
from app.store.reports.overview import ScheduleSummary
from app.store.runs import listing
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import collection_actions, page_filters, run_form
from app.web.dashboard.session_auth import NO_STORE, Form, SessionUser
from app.web.dashboard.views import find_schedule
from workers.schedule_settings import default_policies

MAX_NOTE_LENGTH = 500

_log = log.logger(__name__)


async def run_now(request: Request, user: SessionUser, form: Form) -> Response:
    """Request a run and redirect to it; redirect to the open run if there is one.

    Raises HTTPException 409 if the job is disabled, 422 if a parameter is invalid, 503 if Postgres
    does not answer.
    """
    context = web_context(request)
    try:
        line = await _line(request, user)
        if line.org_id is not None:
            run_id, queued = await collection_actions.run(context, line, user)
        else:
            run_id, queued = await _run(context, line, user, form)
    except UNAVAILABLE:
        raise postgres_unavailable_error() from None
    await context.enqueue(queued)
    return redirect(f"/runs/{run_id}")


async def _run(
    context: WebContext, line: ScheduleSummary, user: SessionUser, form: Form
) -> tuple[UUID, list[QueuedRun]]:
    if not line.enabled:
        raise HTTPException(409, "This job is disabled in the settings.")
    try:
        params = await asyncio.to_thread(
            run_form.params_from, context.config, line.key, line.job, form
        )
    except BadParameters as error:
        raise HTTPException(422, str(error)) from None
    return await request_job(context, line, params, user.principal.name, reason_of(form))


async def request_job(
    context: WebContext, line: ScheduleSummary, params: dict[str, Any], by: str, reason: str
) -> tuple[UUID, list[QueuedRun]]:
    """Request a run of the job unless one is open. Returns its id, and the runs to enqueue."""
    open_run = await listing.open_run(context.pool, line.key)
    if open_run is not None:
        return open_run, []
    with_source = manual_runs.params_of(line.key, line.job, params)
    queued = await request_run(context, ManualRun(line.job, with_source, by, reason))
    return queued.run_id, [queued]


async def request_run(context: WebContext, wanted: ManualRun) -> QueuedRun:
    """Insert the run; it is still to be enqueued. Raises HTTPException 409."""
    now = await heartbeats.database_now(context.pool)
    try:
        return await manual_runs.request(
            context.pool, wanted, default_policies(context.config), now
        )
    except BadSchedule as error:
        raise HTTPException(409, f"The schedule cannot be read: {error}") from None


def until_of(form: Form, now: datetime) -> datetime | None:
    """The end of a pause in a form; None if it has none. Raises HTTPException 422."""
    text = form.get("until", "").strip()
    if not text:
        return None
    try:
        until = page_filters.instant(text)
    except HTTPException:
        raise HTTPException(422, "The end of the pause is not a valid instant.") from None
    if until <= now:
        raise HTTPException(422, "The end of the pause is in the past.")
    return until


def reason_of(form: Form, *, required: bool = False) -> str:
    """The reason in a form, which may be empty unless `required`. Raises HTTPException 422."""
    note = form.get("note", "").strip()
    if (required and not note) or len(note) > MAX_NOTE_LENGTH or not note.isprintable():
        raise HTTPException(
            422, f"Enter a reason of one line, at most {MAX_NOTE_LENGTH} characters."
        )
    return note


async def pause(request: Request, user: SessionUser, form: Form) -> Response:
    """Pause a schedule and record the reason. Its ticks are skipped until it is resumed.

    Raises HTTPException 422 if the reason or the end is invalid, 503 if Postgres does not answer.
    """
    note = reason_of(form, required=True)
    context = web_context(request)
    try:
        line = await _line(request, user)
        now = await heartbeats.database_now(context.pool)
        until = until_of(form, now)
        if line.paused_at is not None:
            return _redirect_to_schedule(user, line)
        if line.org_id is not None:
            queued = await collection_actions.pause(context, line, user, note, until)
        else:
            queued = await edit.pause(
                context.pool, line.key, now, by=user.principal.name, note=note, until=until
            )
    except UNAVAILABLE:
        raise postgres_unavailable_error() from None
    await context.enqueue(queued)
    await context.publish_job(line.key)
    _log.info("schedule.paused_by", schedule=line.key, by=user.principal.name)
    return _redirect_to_schedule(user, line, "paused")


async def resume(request: Request, user: SessionUser, _: Form) -> Response:
    """Resume a paused schedule. Raises HTTPException 503 if Postgres does not answer."""
    context = web_context(request)
    try:
        line = await _line(request, user)
        if line.paused_at is None:
            return _redirect_to_schedule(user, line)
        if line.org_id is not None:
            queued = await collection_actions.resume(context, line, user)
        else:
            now = await heartbeats.database_now(context.pool)
            queued = await edit.resume(context.pool, line.key, now, by=user.principal.name)
    except UNAVAILABLE:
        raise postgres_unavailable_error() from None
    await context.enqueue(queued)
    await context.publish_job(line.key)
    _log.info("schedule.resumed_by", schedule=line.key, by=user.principal.name)
    return _redirect_to_schedule(user, line, "resumed")


async def _line(request: Request, user: SessionUser) -> ScheduleSummary:
    """The schedule named by the path, if the user may see it."""
    async with transaction(web_context(request).pool, user.org_id) as connection:
        return await find_schedule(connection, request.path_params["key"], user.org_id)


def postgres_unavailable_error() -> HTTPException:
    return HTTPException(
        503, "Postgres does not answer, so the action was not performed. Try again."
    )


def _redirect_to_schedule(user: SessionUser, line: ScheduleSummary, done: str = "") -> Response:
    page = "/collections" if user.org_id is not None else f"/jobs/{quote(line.key, safe='')}"
    return redirect(f"{page}?done={done}" if done else page)


def redirect(path: str) -> Response:
    return RedirectResponse(path, 303, NO_STORE)
