"""Handlers of ticks: what became of the past ticks of schedules."""

from collections.abc import Mapping
from typing import Any

from app.core.enums import Scope, TickOutcome
from app.core.errors import InvalidValue, NotFound
from app.store.db import Connection, Pool
from app.store.reports import tick_listing
from app.store.reports.tick_listing import TickFilter
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.schemas.ticks import (
    AllTicks,
    AllTicksQuery,
    JobTickBody,
    TickBody,
    Ticks,
    TicksQuery,
)


async def list_ticks(request: ApiRequest) -> ApiResponse:
    """List the decided ticks of the schedule, newest first."""
    async with request.transaction() as connection:
        jobs = await tick_listing.jobs(connection, org_id=request.org_id)
        return await _answer(connection, jobs, request.query)


async def list_job_ticks(request: ApiRequest) -> ApiResponse:
    """List the ticks of a job with their outcomes, newest first."""
    pool, job = request.context.pool, request.path["key"]
    jobs = await tick_listing.jobs(pool, job=job)
    if not jobs:
        raise NotFound(f"there is no schedule {job!r}")
    return await _answer(pool, jobs, request.query)


async def list_all_ticks(request: ApiRequest) -> ApiResponse:
    """List the ticks of all jobs with their outcomes, newest first; with `job`, of that one."""
    query: AllTicksQuery = request.query
    jobs = await tick_listing.jobs(request.context.pool, job=query.job)
    if not jobs and query.job is not None:
        raise InvalidValue("job", f"there is no schedule {query.job!r}")
    page, following = await _page(request.context.pool, jobs, query)
    ticks = [JobTickBody.model_validate(row) for row in page]
    return ApiResponse(AllTicks(ticks=ticks, next_cursor=following))


async def _answer(
    connection: Pool | Connection, jobs: Mapping[int, str], query: TicksQuery
) -> ApiResponse:
    page, following = await _page(connection, jobs, query)
    ticks = [TickBody.model_validate(row) for row in page]
    return ApiResponse(Ticks(ticks=ticks, next_cursor=following))


async def _page(
    connection: Pool | Connection, jobs: Mapping[int, str], query: TicksQuery
) -> tuple[list[dict[str, Any]], str | None]:
    """The rows of a page, and the cursor of the next one."""
    if query.outcome is TickOutcome.RAN and query.reason is not None:
        raise InvalidValue("reason", "a tick that ran has no reason")
    filters = TickFilter(
        since=query.since,
        until=query.until,
        outcome=query.outcome,
        reason=query.reason,
        after=cursor.decode(query.cursor, cursor.Instant, cursor.Number),
    )
    rows = await tick_listing.ticks(connection, jobs, filters, query.limit + 1)
    return cursor.page_of(rows, query.limit, "scheduled_for", "schedule_id")


ENDPOINTS: tuple[Endpoint, ...] = (
    get("/collection/ticks", Scope.READ, list_ticks, Ticks, query=TicksQuery),
    get("/operator/jobs/{key}/ticks", Scope.READ, list_job_ticks, Ticks, query=TicksQuery),
    get("/operator/ticks", Scope.READ, list_all_ticks, AllTicks, query=AllTicksQuery),
)
