"""What people do from the page: run now, pause, resume. Each is written down with who did it."""

import asyncio
from collections.abc import Iterable
from urllib.parse import quote
from uuid import uuid4

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app import ledger, log
from app.ledger import Queued
from app.queue import enqueue_many
from app.scheduling.policies import Policies
from app.store import beats, controls, history, runs, schedules
from app.store.db import AWAY
from app.store.overview import ScheduleLine
from app.store.runs import Wanted
from app.store.tenancy import org_transaction
from app.web.desk import Desk
from app.web.views import COLLECTION, line_of
from app.web.visitors import NO_STORE, Form, Visitor, desk_of

LONGEST_NOTE = 500

_log = log.logger(__name__)


async def run_now(request: Request, visitor: Visitor, _: Form) -> Response:
    """Ask for a run of a built-in job; if one is open already, show that one."""
    desk = desk_of(request)
    try:
        line = await _line(request, visitor)
        if line.job == COLLECTION:
            raise HTTPException(409, "A collection is run from its own address.")
        if not line.enabled:
            raise HTTPException(409, "The settings switch this job off.")
        source = schedules.source_of(line.key, line.job)
        going = await history.open_run(desk.pool, line.job, source)
        if going is not None:
            return _to(f"/runs/{going}")
        wanted = await _ask(desk, line, visitor)
    except AWAY:
        raise _postgres_away() from None
    await _tell(desk, [Queued(wanted.run_id, wanted.job)])
    return _to(f"/runs/{wanted.run_id}")


async def pause(request: Request, visitor: Visitor, form: Form) -> Response:
    """Let a schedule rest, with a reason."""
    note = form.get("note", "").strip()
    if not note or len(note) > LONGEST_NOTE or not note.isprintable():
        raise HTTPException(422, f"Say why, in one line of at most {LONGEST_NOTE} characters.")
    desk = desk_of(request)
    try:
        line = await _line(request, visitor)
        if line.paused_at is not None:
            return _to_job(line.key)
        now = await beats.database_now(desk.pool)
        by = visitor.principal.name
        queued = await ledger.pause(desk.pool, line.key, now, by=by, note=note)
        await controls.note(desk.pool, line.key, now, by, ("pause", None, {"note": note}))
    except AWAY:
        raise _postgres_away() from None
    await _tell(desk, queued)
    _log.info("schedule.paused_by", schedule=line.key, by=by)
    return _to_job(line.key, "paused")


async def resume(request: Request, visitor: Visitor, _: Form) -> Response:
    """Let a paused schedule go on."""
    desk = desk_of(request)
    try:
        line = await _line(request, visitor)
        if line.paused_at is None:
            return _to_job(line.key)
        now = await beats.database_now(desk.pool)
        by = visitor.principal.name
        queued = await ledger.resume(desk.pool, line.key, now)
        await controls.note(
            desk.pool, line.key, now, by, ("resume", {"note": line.paused_note}, None)
        )
    except AWAY:
        raise _postgres_away() from None
    await _tell(desk, queued)
    _log.info("schedule.resumed_by", schedule=line.key, by=by)
    return _to_job(line.key, "resumed")


async def _line(request: Request, visitor: Visitor) -> ScheduleLine:
    """The schedule of the address, if the visitor's organisation may see it."""
    async with org_transaction(desk_of(request).pool, visitor.principal.org_id) as connection:
        return await line_of(connection, request.path_params["key"], visitor.principal.org_id)


async def _ask(desk: Desk, line: ScheduleLine, visitor: Visitor) -> Wanted:
    policies = Policies.from_spec(line.policies)
    now = await beats.database_now(desk.pool)
    by = visitor.principal.name
    source = schedules.source_of(line.key, line.job)
    params = {} if source is None else {"source": source}
    wanted = Wanted(uuid4(), line.job, params, by, policies.max_attempts, policies.timeout)
    async with desk.pool.acquire() as connection, connection.transaction():
        await runs.request(connection, wanted, now)
        await controls.asked(connection, wanted.run_id, now, by)
    _log.info("run.requested", execution_id=str(wanted.run_id), job=line.job, by=by)
    return wanted


async def _tell(desk: Desk, queued: Iterable[Queued]) -> None:
    """Tell Redis at once; what it does not hear, a sweep tells it again."""
    wanted = [(run.job, [str(run.run_id)], f"run:{run.run_id}:{run.attempt}") for run in queued]
    try:
        async with asyncio.timeout(2):
            await enqueue_many(desk.queue, wanted)
    except (RedisError, OSError, TimeoutError) as error:
        _log.warning("run.not_told", error=repr(error))


def _postgres_away() -> HTTPException:
    return HTTPException(503, "Postgres does not answer, so nothing was done. Try again.")


def _to_job(key: str, done: str = "") -> Response:
    return _to(f"/jobs/{quote(key, safe='')}{f'?done={done}' if done else ''}")


def _to(path: str) -> Response:
    return RedirectResponse(path, 303, NO_STORE)
