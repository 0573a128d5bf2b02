"""Handlers of /operator/runs and /operator/workers: the runs of every job.

They call what the commands `runs`, `run`, `cancel`, `retry` and `status` and the pages call.
"""

from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from uuid import UUID

from app.core.enums import Scope
from app.core.errors import Conflict, NotFound
from app.health.judge import OverallReason
from app.store.runs import backlog, listing, run_pages
from app.store.runs.listing import RunFilter
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get, post
from app.web.api.problems import RETRY_AFTER, Problem
from app.web.api.runs import queued_answer
from app.web.api.schemas.jobs import (
    AllRuns,
    AllRunsQuery,
    AnyRunBody,
    AnyRunWithSources,
    ReasonRequest,
    WorkerBody,
    Workers,
)
from app.web.api.schemas.runs import QueuedRunBody

RUNS, RUN = "/operator/runs", "/operator/runs/{run_id}"


async def list_all_runs(request: ApiRequest) -> ApiResponse:
    """List the runs of every job, newest first."""
    query: AllRunsQuery = request.query
    filters = RunFilter(
        job=query.job,
        statuses=None if query.status is None else [query.status],
        trigger=query.trigger,
        source=query.source,
        since=query.since,
        until=query.until,
        after=cursor.decode(query.cursor, cursor.Instant, UUID),
    )
    rows = await listing.runs(request.context.pool, filters, query.limit + 1)
    page, following = cursor.page_of(rows, query.limit, "created_at", "execution_id")
    bodies = [AnyRunBody.model_validate(_with_id(row)) for row in page]
    return ApiResponse(AllRuns(runs=bodies, next_cursor=following))


async def read_any_run(request: ApiRequest) -> ApiResponse:
    """Read a run of any job, the result of each of its sources, and its events."""
    row, pool = await _existing(request), request.context.pool
    body = _with_id(row) | {
        "sources": await listing.sources(pool, row["execution_id"]),
        "events": await listing.events(pool, row["execution_id"]),
    }
    return ApiResponse(AnyRunWithSources.model_validate(body))


async def cancel_any_run(request: ApiRequest) -> ApiResponse:
    """Cancel a run that is queued or running; its worker stops within a third of its lease."""
    row = await _existing(request)
    if not await request.context.steering.cancel([row], request.act(request.body.reason)):
        raise Conflict(f"run {row['execution_id']} has ended")
    return await read_any_run(request)


async def retry_any_run(request: ApiRequest) -> ApiResponse:
    """Queue a new run like one that has ended, which stays as it is."""
    row, context = await _existing(request), request.context
    queued = await context.steering.retry(row, request.act(request.body.reason))
    await context.enqueue([queued])
    return queued_answer(request, queued, RUNS)


async def list_workers(request: ApiRequest) -> ApiResponse:
    """List the live workers with what they run, and how many runs wait."""
    context = request.context
    snapshot = await context.snapshot.value()
    if snapshot.reason is OverallReason.REDIS_UNREACHABLE:
        detail = "Redis does not answer, so the workers are not known"
        raise Problem(HTTPStatus.SERVICE_UNAVAILABLE, detail, headers=RETRY_AFTER)
    running = await run_pages.running(context.pool)
    open_runs = await backlog.open_runs(context.pool, request.now)
    workers = [
        WorkerBody.model_validate(
            asdict(facts)
            | {
                "worker": name,
                "schema_": facts.schema,
                "runs": [run["execution_id"] for run in running.get(name, ())],
            }
        )
        for name, facts in sorted(snapshot.workers.items())
    ]
    return ApiResponse(
        Workers(
            workers=workers,
            queued=open_runs["queued"],
            running=open_runs["running"],
            oldest_queued_at=open_runs["oldest"],
        )
    )


async def _existing(request: ApiRequest) -> dict[str, Any]:
    run_id = request.path["run_id"]
    row = await listing.run(request.context.pool, run_id)
    if row is None:
        raise NotFound(f"there is no run {run_id}")
    return row


def _with_id(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "id": row["execution_id"],
        "deferred_until": row["not_before"] if row["deferrals"] else None,
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    get(RUNS, Scope.READ, list_all_runs, AllRuns, query=AllRunsQuery),
    get(RUN, Scope.READ, read_any_run, AnyRunWithSources),
    post(f"{RUN}/cancel", Scope.OPERATE, cancel_any_run, AnyRunWithSources, body=ReasonRequest),
    post(
        f"{RUN}/retry", Scope.OPERATE, retry_any_run, QueuedRunBody, status=202, body=ReasonRequest
    ),
    get("/operator/workers", Scope.READ, list_workers, Workers),
)
