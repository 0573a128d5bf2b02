"""Handlers of /collection/run and /collection/runs."""

from typing import Any
from uuid import UUID

from app.core.collection_keys import collection_name, schedule_key
from app.core.enums import OPEN_STATUSES, AuditAction, Scope
from app.core.errors import Conflict, NotFound
from app.ledger import manual_runs
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.store.audit import AuditEntry
from app.store.db import Connection
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.runs.run_rows import QueuedRun
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get, post
from app.web.api.schemas.runs import QueuedRunBody, RunBody, Runs, RunsQuery, RunWithSources

RUNS, RUN = "/collection/runs", "/collection/runs/{run_id}"


async def ask_for_run(request: ApiRequest) -> ApiResponse:
    """Queue a run of the collection now, whatever its schedule says."""
    return await _queue(request, request.collection)


async def list_runs(request: ApiRequest) -> ApiResponse:
    """List runs, newest first."""
    query: RunsQuery = request.query
    after = cursor.decode(query.cursor, cursor.Instant, UUID)
    key = query.collection and schedule_key(request.org_id, query.collection)
    filters = RunFilter(
        job=key,
        statuses=None if query.status is None else [query.status],
        since=query.since,
        org_id=request.org_id,
        after=after,
    )
    async with request.transaction() as connection:
        rows = await listing.runs(connection, filters, query.limit + 1)
    page, following = cursor.page_of(rows, query.limit, "created_at", "execution_id")
    bodies = [RunBody.model_validate(_with_id(row)) for row in page]
    return ApiResponse(Runs(runs=bodies, next_cursor=following))


async def read_run(request: ApiRequest) -> ApiResponse:
    """Read a run and the result of each of its sources."""
    async with request.transaction() as connection:
        return await _answer(connection, request)


async def cancel_run(request: ApiRequest) -> ApiResponse:
    """Cancel a run that is queued or running; its worker stops within seconds."""
    async with request.transaction() as connection:
        run, by = await _existing(connection, request), request.principal.name
        entry = AuditEntry(request.now, by, AuditAction.CANCEL)
        if not await manual_runs.cancel_in(connection, [run], entry, f"by {by}"):
            raise Conflict(f"run {run['execution_id']} has ended")
        return await _answer(connection, request)


async def retry_run(request: ApiRequest) -> ApiResponse:
    """Queue a new run of the same collection, after one that has ended."""
    async with request.transaction() as connection:
        row = await _existing(connection, request)
    if row["status"] in OPEN_STATUSES:
        raise Conflict(f"run {row['execution_id']} has not ended", row["execution_id"])
    return await _queue(request, collection_name(row["job"]))


async def _queue(request: ApiRequest, name: str) -> ApiResponse:
    context, by = request.context, request.principal.name
    requested = CollectionRequest(request.org_id, by, request.now, collection=name)
    queued = await collection.request_run(context.pool, context.config, requested)
    await context.enqueue([queued])
    return queued_answer(request, queued, RUNS)


def queued_answer(request: ApiRequest, queued: QueuedRun, runs: str) -> ApiResponse:
    """The answer for a run that was just queued. `runs`: the path below which it is found."""
    body = QueuedRunBody(run_id=queued.run_id, queued_at=request.now)
    return ApiResponse(body, {"location": f"{runs}/{queued.run_id}"})


async def _existing(connection: Connection, request: ApiRequest) -> dict[str, Any]:
    run_id = request.path["run_id"]
    row = await listing.run(connection, run_id, request.org_id)
    if row is None:
        raise NotFound(f"there is no run {run_id}")
    return row


async def _answer(connection: Connection, request: ApiRequest) -> ApiResponse:
    row = await _existing(connection, request)
    sources = await listing.sources(connection, row["execution_id"])
    body = _with_id(row) | {"sources": sources}
    return ApiResponse(RunWithSources.model_validate(body))


def _with_id(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "id": row["execution_id"],
        "collection": collection_name(row["job"]),
        "deferred_until": row["not_before"] if row["deferrals"] else None,
    }


ENDPOINTS: tuple[Endpoint, ...] = (
    post("/collection/run", Scope.OPERATE, ask_for_run, QueuedRunBody, status=202),
    post("/collections/{collection}/run", Scope.OPERATE, ask_for_run, QueuedRunBody, status=202),
    get(RUNS, Scope.READ, list_runs, Runs, query=RunsQuery),
    get(RUN, Scope.READ, read_run, RunWithSources),
    post(f"{RUN}/cancel", Scope.OPERATE, cancel_run, RunWithSources),
    post(f"{RUN}/retry", Scope.OPERATE, retry_run, QueuedRunBody, status=202),
)
