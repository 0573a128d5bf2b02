"""Handlers of ticks: what became of the past ticks of schedules."""

from collections.abc import Mapping

from app.core.enums import Scope
from app.core.errors import NotFound
from app.store import tenancy
from app.store.db import Connection, Pool
from app.store.reports import tick_listing
from app.store.reports.tick_listing import TickFilter
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint
from app.web.api.schemas.ticks import TickBody, Ticks, TicksQuery


async def list_ticks(request: ApiRequest) -> ApiResponse:
    """List the decided ticks of the schedule, newest first."""
    async with tenancy.org_transaction(request.context.pool, request.org_id) as connection:
        jobs = await tick_listing.jobs(connection, org_id=request.org_id)
        return await _answer(connection, jobs, request.query)


async def list_job_ticks(request: ApiRequest) -> ApiResponse:
    """List the ticks of a job with their outcomes, newest first."""
    pool, job = request.context.pool, request.path["key"]
    jobs = await tick_listing.jobs(pool, job=job)
    if not jobs:
        raise NotFound(f"there is no schedule {job!r}")
    return await _answer(pool, jobs, request.query)


async def _answer(
    connection: Pool | Connection, jobs: Mapping[int, str], query: TicksQuery
) -> ApiResponse:
    filters = TickFilter(
        since=query.since,
        until=query.until,
        outcome=query.outcome,
        reason=query.reason,
        after=cursor.decode_instant_and_number(query.cursor),
    )
    rows = await tick_listing.ticks(connection, jobs, filters, query.limit + 1)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return ApiResponse(
        Ticks(
            ticks=[TickBody.model_validate(row) for row in page],
            next_cursor=(
                cursor.encode(last["scheduled_for"], last["schedule_id"]) if last else None
            ),
        )
    )


ENDPOINTS: tuple[Endpoint, ...] = (
    Endpoint("GET", "/collection/ticks", Scope.READ, list_ticks, Ticks, query=TicksQuery),
    Endpoint(
        "GET",
        "/operator/jobs/{key}/ticks",
        Scope.READ,
        list_job_ticks,
        Ticks,
        query=TicksQuery,
        errors=(404,),
        operator=True,
    ),
)
