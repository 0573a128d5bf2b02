"""The pages of the jobs: the dashboard, one job, one tick, one run."""

import asyncio
import gzip
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from app import proof, run_log
from app.errors import BadSchedule, UnknownJob
from app.scheduling.schedule import Schedule
from app.store import beats, controls, history, overview, schedules
from app.store import proof as told
from app.store.db import AWAY, Connection
from app.store.history import Wanted
from app.store.overview import ScheduleLine
from app.store.tenancy import org_transaction
from app.web import plain, strip
from app.web.fresh import within
from app.web.pages import home as home_page
from app.web.pages import page
from app.web.rows import Lines, drawn, row_of
from app.web.slots import SHOWN, Stretch, outages
from app.web.visitors import NO_STORE, Visitor, desk_of
from app.words import RunStatus, Trigger

PACKED = NO_STORE | {"content-encoding": "gzip", "vary": "accept-encoding"}
COLLECTION = "collection"  # the job of every organisation's schedule
PER_PAGE = 25
EVER = datetime(1970, 1, 1, tzinfo=UTC)
BEYOND = 9000  # the year from which no rule is asked
UPCOMING = 8
EDITS = 10
LOG_SECONDS = 0.8
SAID = {
    "run": "It is asked for. A worker takes it up in a moment.",
    "paused": "It is paused. Its ticks are recorded as skipped until it is resumed.",
    "resumed": "It goes on.",
}


def shown(html: str, status: int = 200) -> HTMLResponse:
    """A page, which nobody between us and the reader may keep."""
    return HTMLResponse(html, status, NO_STORE)


def away(visitor: Visitor) -> HTMLResponse:
    """That Postgres does not answer."""
    return shown(page("away.html", visitor=visitor), 503)


async def home(request: Request, visitor: Visitor) -> Response:
    """The dashboard."""
    desk = desk_of(request)
    table = await desk.table.value()
    html = home_page(table.board, table.drawn, visitor).encode()
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return HTMLResponse(html, headers=NO_STORE)
    # Only here: it holds no secret that its length could tell, and two hundred strips are large.
    packed = await asyncio.to_thread(gzip.compress, html, 1)
    return HTMLResponse(packed, headers=PACKED)


async def job(request: Request, visitor: Visitor) -> Response:
    """One schedule: its ticks, its runs, and what may be done to it."""
    desk, key = desk_of(request), request.path_params["key"]
    wanted, filters = _wanted(request)
    patience = timedelta(seconds=desk.config.lease_seconds)
    try:
        async with org_transaction(desk.pool, visitor.principal.org_id) as connection:
            seen = await _seen(connection, (key, visitor.principal.org_id), patience)
            runs = await history.runs(connection, _of(seen.line, wanted), PER_PAGE + 1)
            edits = await controls.edits(connection, key, EDITS)
    except AWAY:
        return away(visitor)
    snapshot = await desk.snapshot.value()
    slots = drawn(seen.line, seen.lines.ticks[seen.line.id], seen.lines.gaps, seen.lines.now)
    upcoming = _upcoming(seen.line, seen.lines.now)
    context: dict[str, Any] = {
        "visitor": visitor,
        "here": "jobs",
        "row": row_of(seen.line, snapshot.jobs.get(key), slots),
        "line": seen.line,
        "now": seen.lines.now,
        "slots": slots.slots,
        "timeline": strip.timeline(slots.slots, upcoming, seen.outages, seen.lines.now),
        "legend": strip.LEGEND,
        "edits": edits,
        "said": SAID.get(request.query_params.get("done", ""), ""),
        "statuses": list(RunStatus),
        "triggers": list(Trigger),
        **_paged(key, runs, filters),
    }
    return shown(page("job.html", **context))


async def tick(request: Request, visitor: Visitor) -> Response:
    """What became of one instant, and why."""
    desk, key = desk_of(request), request.path_params["key"]
    at = _instant(request.path_params["at"])
    try:
        async with org_transaction(desk.pool, visitor.principal.org_id) as connection:
            await line_of(connection, key, visitor.principal.org_id)
            story = await proof.story(connection, key, at)
            found = await told.tick(connection, key, at)
    except UnknownJob:
        raise HTTPException(404, "There is no such job.") from None
    except AWAY:
        return away(visitor)
    context = {"key": key, "at": at, "story": story, "tick": found, "visitor": visitor}
    return shown(page("tick.html", here="jobs", **context))


async def run(request: Request, visitor: Visitor) -> Response:
    """All that is kept of one run."""
    desk, run_id = desk_of(request), request.path_params["run_id"]
    try:
        async with org_transaction(desk.pool, visitor.principal.org_id) as connection:
            row = await history.run(connection, run_id, visitor.principal.org_id)
            if row is None:
                raise HTTPException(404, "There is no such run, or it is no longer kept.")
            events = await history.events(connection, run_id)
            sources = await history.sources(connection, run_id)
            rejected, count = await history.rejected(connection, run_id)
    except AWAY:
        return away(visitor)
    context: dict[str, Any] = {
        "visitor": visitor,
        "here": "jobs",
        "run": row,
        "key": row["schedule_key"] or (_key(row) if row["org_id"] is None else None),
        "events": events,
        "sources": sources,
        "rejected": rejected,
        "rejected_count": count,
        "log": await _log_of(request, run_id),
    }
    return shown(page("run.html", **context))


@dataclass(frozen=True, slots=True)
class _Seen:
    line: ScheduleLine
    lines: Lines
    outages: list[Stretch]


async def _seen(connection: Connection, whose: tuple[str, UUID], patience: timedelta) -> _Seen:
    line = await line_of(connection, *whose)
    now = await beats.database_now(connection)
    ticks = await overview.ticks(connection, {line.id: EVER}, SHOWN)
    gaps = await overview.gaps(connection, [line.id], SHOWN)
    first = min([now - timedelta(hours=1), *(tick.scheduled_for for tick in ticks)])
    beaten = await overview.beats(connection, first)
    return _Seen(line, Lines(now, [line], {line.id: ticks}, gaps), outages(beaten, now, patience))


async def line_of(connection: Connection, key: str, org_id: UUID) -> ScheduleLine:
    """The schedule, if it is the house's or this organisation's. Raises HTTPException 404."""
    line = await overview.one(connection, key, org_id) if key.isprintable() else None
    if line is None:
        raise HTTPException(404, "There is no such job.")
    return line


def _upcoming(line: ScheduleLine, now: datetime) -> list[datetime]:
    if line.next_tick_at is None or not line.enabled:
        return []
    try:
        schedule, at = Schedule.from_spec(line.spec, name=line.key), now
        return [at := schedule.next(at) for _ in range(UPCOMING)]
    except BadSchedule:
        return []


def _wanted(request: Request) -> tuple[Wanted, dict[str, str]]:
    asked = request.query_params
    filters = {
        "status": asked.get("status", "") if asked.get("status") in list(RunStatus) else "",
        "trigger": asked.get("trigger", "") if asked.get("trigger") in list(Trigger) else "",
    }
    at, _, run_id = asked.get("before", "").partition("_")
    try:
        before = (_instant(at), UUID(run_id)) if run_id else None
    except ValueError:
        raise HTTPException(400, "This address leads to no page.") from None
    kept = Wanted(
        status=filters["status"] or None, trigger=filters["trigger"] or None, before=before
    )
    return kept, filters


def _key(row: dict[str, Any]) -> str:
    """The schedule whose page a run of none is shown on."""
    return schedules.key_of(row["job"], row["params"])


def _of(line: ScheduleLine, wanted: Wanted) -> Wanted:
    """Runs of a built-in job count whoever asked for them; those of a collection are its own."""
    if line.job == COLLECTION:
        return replace(wanted, schedule_id=line.id)
    return replace(wanted, job=line.job, source=schedules.source_of(line.key, line.job))


def _paged(key: str, runs: list[dict[str, Any]], filters: dict[str, str]) -> dict[str, Any]:
    here = f"/jobs/{quote(key, safe='')}"
    kept = {name: value for name, value in filters.items() if value}
    older = ""
    if len(runs) > PER_PAGE:
        last = runs[PER_PAGE - 1]
        cursor = f"{plain.iso(last['created_at'])}_{last['execution_id']}"
        older = f"{here}?{urlencode(kept | {'before': cursor})}#runs"
    first_page = f"{here}?{urlencode(kept)}#runs" if kept else f"{here}#runs"
    return {"runs": runs[:PER_PAGE], "older": older, "first_page": first_page, "filters": filters}


async def _log_of(request: Request, run_id: UUID) -> list[str] | None:
    try:
        return await within(LOG_SECONDS, run_log.lines(desk_of(request).redis, run_id))
    except (RedisError, OSError, TimeoutError):
        return None


def _instant(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise HTTPException(404, "That is no instant.") from None
    if not EVER.year <= at.year < BEYOND:
        raise HTTPException(404, "That is no instant of ours.")
    return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
