"""Dashboard actions: run now, pause and resume a schedule. Each is recorded with its author."""

from urllib.parse import quote
from uuid import UUID, uuid4

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app.core import log
from app.core.errors import BadSchedule
from app.ledger import edit
from app.scheduling.policies import Policies
from app.store.db import UNAVAILABLE
from app.store.reports.overview import ScheduleSummary
from app.store.runs import listing, run_rows
from app.store.runs.run_rows import QueuedRun, RunRequest
from app.store.schedules import heartbeats, schedule_edits, schedule_rows
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import collection_actions
from app.web.dashboard.session_auth import NO_STORE, Form, SessionUser
from app.web.dashboard.views import find_schedule

MAX_NOTE_LENGTH = 500

_log = log.logger(__name__)


async def run_now(request: Request, user: SessionUser, _: Form) -> Response:
    """Request a run and redirect to it; redirect to the open run if there is one.

    Raises HTTPException 409 if the job is disabled, 503 if Postgres does not answer.
    """
    context = web_context(request)
    try:
        line = await _line(request, user)
        if line.org_id is not None:
            run_id, queued = await collection_actions.run(context, line, user)
        else:
            run_id, queued = await _run(context, line, user)
    except UNAVAILABLE:
        raise _postgres_unavailable() from None
    await context.enqueue(queued)
    return _redirect(f"/runs/{run_id}")


async def _run(
    context: WebContext, line: ScheduleSummary, user: SessionUser
) -> tuple[UUID, list[QueuedRun]]:
    if not line.enabled:
        raise HTTPException(409, "This job is disabled in the settings.")
    open_run = await listing.open_run(context.pool, line.key)
    if open_run is not None:
        return open_run, []
    request = await _request(context, line, user)
    return request.run_id, [QueuedRun(request.run_id, request.job)]


async def pause(request: Request, user: SessionUser, form: Form) -> Response:
    """Pause a schedule and record the reason. Its ticks are skipped until it is resumed.

    Raises HTTPException 422 if the reason is missing or too long, 503 if Postgres does not answer.
    """
    note = form.get("note", "").strip()
    if not note or len(note) > MAX_NOTE_LENGTH or not note.isprintable():
        raise HTTPException(
            422, f"Enter a reason of one line, at most {MAX_NOTE_LENGTH} characters."
        )
    context = web_context(request)
    try:
        line = await _line(request, user)
        if line.paused_at is not None:
            return _redirect_to_schedule(user, line)
        if line.org_id is not None:
            queued = await collection_actions.pause(context, line, user, note)
        else:
            queued = await _pause(context, line, user, note)
    except UNAVAILABLE:
        raise _postgres_unavailable() from None
    await context.enqueue(queued)
    _log.info("schedule.paused_by", schedule=line.key, by=user.principal.name)
    return _redirect_to_schedule(user, line, "paused")


async def _pause(
    context: WebContext, line: ScheduleSummary, user: SessionUser, note: str
) -> list[QueuedRun]:
    now, by = await heartbeats.database_now(context.pool), user.principal.name
    queued = await edit.pause(context.pool, line.key, now, by=by, note=note)
    await schedule_edits.record_edit(
        context.pool, line.key, now, by, ("pause", None, {"note": note})
    )
    return queued


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
            queued = await _resume(context, line, user)
    except UNAVAILABLE:
        raise _postgres_unavailable() from None
    await context.enqueue(queued)
    _log.info("schedule.resumed_by", schedule=line.key, by=user.principal.name)
    return _redirect_to_schedule(user, line, "resumed")


async def _resume(context: WebContext, line: ScheduleSummary, user: SessionUser) -> list[QueuedRun]:
    now, by = await heartbeats.database_now(context.pool), user.principal.name
    queued = await edit.resume(context.pool, line.key, now)
    change = ("resume", {"note": line.paused_note}, None)
    await schedule_edits.record_edit(context.pool, line.key, now, by, change)
    return queued


async def _line(request: Request, user: SessionUser) -> ScheduleSummary:
    """The schedule named by the path, if the user may see it."""
    async with transaction(web_context(request).pool, user.org_id) as connection:
        return await find_schedule(connection, request.path_params["key"], user.org_id)


async def _request(context: WebContext, line: ScheduleSummary, user: SessionUser) -> RunRequest:
    try:
        policies = Policies.from_spec(line.policies)
    except BadSchedule as error:
        raise HTTPException(409, f"The schedule cannot be read: {error}") from None
    now = await heartbeats.database_now(context.pool)
    by = user.principal.name
    source = schedule_rows.source_of(line.key, line.job)
    params = {} if source is None else {"source": source}
    request = RunRequest(uuid4(), line.job, params, by, policies.max_attempts, policies.timeout)
    async with context.pool.acquire() as connection, connection.transaction():
        await run_rows.request(connection, request, now)
        await schedule_edits.record_request(connection, request.run_id, now, by)
    _log.info("run.requested", execution_id=str(request.run_id), job=line.job, by=by)
    return request


def _postgres_unavailable() -> HTTPException:
    return HTTPException(
        503, "Postgres does not answer, so the action was not performed. Try again."
    )


def _redirect_to_schedule(user: SessionUser, line: ScheduleSummary, done: str = "") -> Response:
    page = "/collections" if user.org_id is not None else f"/jobs/{quote(line.key, safe='')}"
    return _redirect(f"{page}?done={done}" if done else page)


def _redirect(path: str) -> Response:
    return RedirectResponse(path, 303, NO_STORE)
