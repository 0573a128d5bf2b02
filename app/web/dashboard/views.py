"""Views of the dashboard: the front page, one job, one tick, one run."""

import asyncio
import gzip
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from urllib.parse import quote, urlencode
from uuid import UUID, uuid4

from redis.exceptions import RedisError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import HTMLResponse, RedirectResponse, Response

from app.core.collection_keys import collection_name
from app.core.enums import RunStatus, Trigger
from app.core.errors import BadSchedule, UnknownTick
from app.ledger import explain
from app.runs import log
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import UNAVAILABLE, Connection
from app.store.reports import overview
from app.store.reports import proof as proof_rows
from app.store.reports.overview import ScheduleSummary
from app.store.runs import listing, run_pages
from app.store.runs.listing import RejectedFilter, RunFilter
from app.store.schedules import heartbeats, schedule_edits
from app.store.tenancy import transaction
from app.web.context import WebContext, web_context
from app.web.dashboard import (
    job_labels,
    notices,
    page_filters,
    rendering,
    run_form,
    tick_strip,
)
from app.web.dashboard.job_rows import ScheduleData, build_row, summarise_ticks
from app.web.dashboard.page_filters import EPOCH, RunQuery
from app.web.dashboard.rendering import page
from app.web.dashboard.session_auth import NO_STORE, SessionUser
from app.web.dashboard.tick_slots import SHOWN_TICKS, TimeSpan, outages, outcome_text
from app.web.ttl_cache import with_deadline

GZIP_HEADERS = NO_STORE | {"content-encoding": "gzip", "vary": "accept-encoding"}
PER_PAGE = 25
UPCOMING = 8
REJECTED_SHOWN = 50
EDITS = 10
LOG_SECONDS = 0.8


def respond(
    name: str, user: SessionUser, section: str, /, code: int = 200, **values: object
) -> HTMLResponse:
    """The page of that template, never cached. `section`: its part of the navigation."""
    return HTMLResponse(page(name, user=user, section=section, **values), code, NO_STORE)


def postgres_unavailable(user: SessionUser) -> HTMLResponse:
    """The page with status 503 that reports that Postgres does not answer."""
    return respond("away.html", user, "", 503)


async def home(request: Request, user: SessionUser) -> Response:
    """The front page of the operator: jobs and last runs. Organisations have their collections."""
    if user.org_id is not None:
        return RedirectResponse("/collections", 303, NO_STORE)
    context, params = web_context(request), request.query_params
    table = await context.table.value()
    filters = {
        "name": page_filters.clean_text(params.get("name", "")),
        "status": page_filters.clean_text(params.get("status", "")),
        "sort": page_filters.clean_text(params.get("sort", "")),
    }
    selected = any(filters.values())
    drawn = table.drawn.table(table.board.selected(**filters)) if selected else table.html
    by_hand = (await context.snapshot.value()).run_by_hand
    html = rendering.home(table.board, drawn, user, filters, by_hand).encode()
    if "gzip" not in request.headers.get("accept-encoding", ""):
        return HTMLResponse(html, headers=NO_STORE)
    # Only this page is compressed: it contains no CSRF token that the length could leak (BREACH).
    compressed = await asyncio.to_thread(gzip.compress, html, 1)
    return HTMLResponse(compressed, headers=GZIP_HEADERS)


async def job(request: Request, user: SessionUser) -> Response:
    """The page of one schedule: its ticks, runs and actions. Raises HTTPException 400 or 404.

    A job without a schedule can be run; one that no worker knows any more has the list of its runs.
    """
    context, key = web_context(request), request.path_params["key"]
    query = _run_query(request, key)
    patience = timedelta(seconds=context.config.lease_seconds)
    try:
        async with transaction(context.pool, user.org_id) as connection:
            line = await _schedule(connection, key, user.org_id)
            if line is None:
                return await _job_by_hand(connection, context, key, user)
            data = await _read_schedule(connection, line, patience)
            runs = await run_pages.run_page(connection, query.filters, PER_PAGE)
            edits = await schedule_edits.edits(connection, key, EDITS)
            labels = await job_labels.labels(connection, user, [key])
    except UNAVAILABLE:
        return postgres_unavailable(user)
    snapshot = await context.snapshot.value()
    slots = summarise_ticks(
        data.line, data.lines.ticks[data.line.id], data.lines.gaps, data.lines.now
    )
    upcoming = _upcoming(data.line, data.lines.now)
    return respond(
        "job.html",
        user,
        "jobs",
        labels=labels,
        row=build_row(data.line, snapshot.jobs.get(key), slots),
        line=data.line,
        now=data.lines.now,
        slots=slots.slots,
        timeline=tick_strip.large_strip(slots.slots, upcoming, data.outages, data.lines.now),
        legend=tick_strip.LEGEND,
        params=await asyncio.to_thread(
            run_form.fields_of, context.config, data.line.key, data.line.job
        ),
        edits=edits,
        collection=None if user.org_id is None else collection_name(key),
        once=str(uuid4()),
        notice=notices.notice(request.query_params, paused=[data.line.paused_at is not None]),
        statuses=list(RunStatus),
        triggers=list(Trigger),
        **page_filters.page_of_runs(query, runs, f"/jobs/{quote(key, safe='')}"),
    )


async def tick(request: Request, user: SessionUser, connection: Connection) -> Response:
    """The page of one tick: its outcome and how it came about. Raises HTTPException 404."""
    key, at = request.path_params["key"], page_filters.instant(request.path_params["at"])
    await find_schedule(connection, key, user.org_id)
    try:
        sentences = await explain.explain_in(connection, key, at)
    except UnknownTick as error:
        raise HTTPException(404, f"{error}.") from None
    found = await proof_rows.tick(connection, key, at)
    return respond(
        "tick.html",
        user,
        "jobs",
        key=key,
        labels=await job_labels.labels(connection, user, [key]),
        at=at,
        story=sentences,
        tick=found,
        why="" if found is None else outcome_text(found.outcome, found.reason),
    )


async def run(request: Request, user: SessionUser) -> Response:
    """The page of one run: attempts, sources, rejected records, log. Raises HTTPException 404."""
    context, run_id = web_context(request), request.path_params["run_id"]
    try:
        async with transaction(context.pool, user.org_id) as connection:
            row = await find_run(connection, run_id, user.org_id)
            labels = await job_labels.labels(connection, user, [row["job"]])
            events = await listing.events(connection, run_id)
            sources = await listing.sources(connection, run_id)
            rejected, count = await listing.rejected(
                connection, RejectedFilter(run_id=run_id), REJECTED_SHOWN
            )
    except UNAVAILABLE:
        return postgres_unavailable(user)
    return respond(
        "run.html",
        user,
        "jobs",
        run=row,
        labels=labels,
        events=events,
        sources=sources,
        rejected=rejected,
        rejected_count=count,
        once=str(uuid4()),
        notice=notices.notice(request.query_params),
        log=await _log_of(request, run_id),
    )


@dataclass(frozen=True, slots=True)
class _ScheduleData:
    line: ScheduleSummary
    lines: ScheduleData
    outages: list[TimeSpan]


async def _read_schedule(
    connection: Connection, line: ScheduleSummary, patience: timedelta
) -> _ScheduleData:
    now = await heartbeats.database_now(connection)
    ticks = await overview.ticks(connection, {line.id: EPOCH}, SHOWN_TICKS)
    gaps = await overview.gaps(connection, [line.id], SHOWN_TICKS)
    since = min([now - timedelta(hours=1), *(tick.scheduled_for for tick in ticks)])
    alive = await overview.heartbeats(connection, since)
    return _ScheduleData(
        line, ScheduleData(now, [line], {line.id: ticks}, gaps), outages(alive, now, patience)
    )


async def find_run(connection: Connection, run_id: UUID, org_id: UUID | None) -> dict[str, Any]:
    """The run, if it is this organisation's, or any for the operator. Raises HTTPException 404."""
    row = await listing.run(connection, run_id, org_id)
    if row is None:
        raise HTTPException(404, "No such run, or retention has removed it.")
    return row


async def find_schedule(connection: Connection, key: str, org_id: UUID | None) -> ScheduleSummary:
    """The schedule, if it is this organisation's, or any for the operator. Raises 404."""
    line = await _schedule(connection, key, org_id)
    if line is None:
        raise HTTPException(404, "No such job.")
    return line


async def _schedule(
    connection: Connection, key: str, org_id: UUID | None
) -> ScheduleSummary | None:
    return await overview.one(connection, key, org_id) if key.isprintable() else None


async def _job_by_hand(
    connection: Connection, context: WebContext, key: str, user: SessionUser
) -> Response:
    if user.org_id is not None or not key.isprintable():
        raise HTTPException(404, "No such job.")
    runs = await listing.runs(connection, RunFilter(job=key), PER_PAGE)
    if key in (await context.snapshot.value()).run_by_hand:
        params = await asyncio.to_thread(run_form.fields_of, context.config, key, key)
        once = str(uuid4())
        return respond(
            "job_by_hand.html", user, "jobs", key=key, runs=runs, params=params, once=once
        )
    if not runs:
        raise HTTPException(404, "No such job.")
    return RedirectResponse(f"/runs?{urlencode({'job': key, 'period': ''})}", 303, NO_STORE)


def _upcoming(line: ScheduleSummary, now: datetime) -> list[datetime]:
    if line.next_tick_at is None or not line.enabled:
        return []
    try:
        schedule = Schedule.from_spec(line.spec, name=line.key, stamp=line.zone_data)
        policies = Policies.from_spec(line.policies)
    except BadSchedule:
        return []
    ahead: list[datetime] = []
    while len(ahead) < UPCOMING and (at := policies.next_run(schedule, now)) is not None:
        ahead.append(now := at)
    return ahead


def _run_query(request: Request, key: str) -> RunQuery:
    params = request.query_params
    status, trigger = params.get("status", ""), params.get("trigger", "")
    fields = {
        "status": status if status in list(RunStatus) else "",
        "trigger": trigger if trigger in list(Trigger) else "",
    }
    filters = RunFilter(
        job=key,
        statuses=page_filters.statuses_of(fields["status"]),
        trigger=fields["trigger"] or None,
        after=page_filters.run_cursor(params.get("before", "")),
    )
    return RunQuery(filters, fields)


async def _log_of(request: Request, run_id: UUID) -> list[str] | None:
    try:
        return await with_deadline(LOG_SECONDS, log.read_lines(web_context(request).redis, run_id))
    except (RedisError, OSError, TimeoutError):
        return None
