"""What people do from the page: run now, pause, resume. Each is written down with who did it."""

import asyncio
from collections.abc import Sequence
from urllib.parse import quote
from uuid import UUID, uuid4

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from app import backlog, ledger, log, telling
from app.ledger import Queued
from app.scheduling.policies import Policies
from app.store import beats, controls, history, runs, schedules
from app.store.db import AWAY
from app.store.overview import ScheduleLine
from app.store.runs import Wanted
from app.store.tenancy import org_transaction
from app.web import collecting
from app.web.desk import Desk
from app.web.views import COLLECTION, line_of
from app.web.visitors import NO_STORE, Form, Visitor, desk_of

LONGEST_NOTE = 500

_log = log.logger(__name__)


async def run_now(request: Request, visitor: Visitor, _: Form) -> Response:
    """Ask for a run; if one is open already, show that one."""
    desk = desk_of(request)
    try:
        line = await _line(request, visitor)
        of = collecting.run(desk, visitor) if line.job == COLLECTION else _run(desk, line, visitor)
        run_id, queued = await of
    except AWAY:
        raise _postgres_away() from None
    await _tell(desk, queued)
    return _to(f"/runs/{run_id}")


async def _run(desk: Desk, line: ScheduleLine, visitor: Visitor) -> tuple[UUID, list[Queued]]:
    if not line.enabled:
        raise HTTPException(409, "The settings switch this job off.")
    source = schedules.source_of(line.key, line.job)
    going = await history.open_run(desk.pool, line.job, source)
    if going is not None:
        return going, []
    wanted = await _ask(desk, line, visitor)
    return wanted.run_id, [Queued(wanted.run_id, wanted.job)]


async def pause(request: Request, visitor: Visitor, form: Form) -> Response:
    """Let a schedule rest, with a reason."""
    note = form.get("note", "").strip()
    if not note or len(note) > LONGEST_NOTE or not note.isprintable():
        raise HTTPException(422, f"Say why, in one line of at most {LONGEST_NOTE} characters.")
    desk = desk_of(request)
    try:
        line = await _line(request, visitor)
        if line.paused_at is not None:
            return _to_page(line)
        if line.job == COLLECTION:
            queued = await collecting.pause(desk, visitor, note)
        else:
            queued = await _pause(desk, line, visitor, note)
    except AWAY:
        raise _postgres_away() from None
    await _tell(desk, queued)
    _log.info("schedule.paused_by", schedule=line.key, by=visitor.principal.name)
    return _to_page(line, "paused")


async def _pause(desk: Desk, line: ScheduleLine, visitor: Visitor, note: str) -> list[Queued]:
    now, by = await beats.database_now(desk.pool), visitor.principal.name
    queued = await ledger.pause(desk.pool, line.key, now, by=by, note=note)
    await controls.note(desk.pool, line.key, now, by, ("pause", None, {"note": note}))
    return queued


async def resume(request: Request, visitor: Visitor, _: Form) -> Response:
    """Let a paused schedule go on."""
    desk = desk_of(request)
    try:
        line = await _line(request, visitor)
        if line.paused_at is None:
            return _to_page(line)
        if line.job == COLLECTION:
            queued = await collecting.resume(desk, visitor)
        else:
            queued = await _resume(desk, line, visitor)
    except AWAY:
        raise _postgres_away() from None
    await _tell(desk, queued)
    _log.info("schedule.resumed_by", schedule=line.key, by=visitor.principal.name)
    return _to_page(line, "resumed")


async def _resume(desk: Desk, line: ScheduleLine, visitor: Visitor) -> list[Queued]:
    now, by = await beats.database_now(desk.pool), visitor.principal.name
    queued = await ledger.resume(desk.pool, line.key, now)
    await controls.note(desk.pool, line.key, now, by, ("resume", {"note": line.paused_note}, None))
    return queued


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


async def _tell(desk: Desk, queued: Sequence[Queued]) -> None:
    """Tell Redis at once; what it does not hear, a sweep tells it again."""
    if not queued:
        return
    try:
        async with asyncio.timeout(2):
            await telling.tell(desk.pool, desk.queue, queued)
            await backlog.admit(desk.queue)
    except (RedisError, *AWAY) as error:
        _log.warning("run.not_told", error=repr(error))


def _postgres_away() -> HTTPException:
    return HTTPException(503, "Postgres does not answer, so nothing was done. Try again.")


def _to_page(line: ScheduleLine, done: str = "") -> Response:
    own = line.job == COLLECTION
    page = "/collections" if own else f"/jobs/{quote(line.key, safe='')}"
    return _to(f"{page}?done={done}" if done else page)


def _to(path: str) -> Response:
    return RedirectResponse(path, 303, NO_STORE)
