"""Handlers of /collection/run and /collection/runs."""

from typing import Any

from app.core.errors import NotFound
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.store import tenancy
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.web.api import cursor, schemas
from app.web.api.context import ApiRequest, ApiResponse


async def ask_for_run(request: ApiRequest) -> ApiResponse:
    """Queue a run of the collection now, whatever its schedule says."""
    requested = CollectionRequest(
        request.org_id, request.principal.name, request.now, collection=request.collection
    )
    queued = await collection.request_run(request.context.pool, request.context.config, requested)
    await request.context.enqueue([queued])
    body = schemas.QueuedRunBody(run_id=queued.run_id, queued_at=request.now)
    return ApiResponse(body, {"location": f"/collection/runs/{queued.run_id}"})


async def list_runs(request: ApiRequest) -> ApiResponse:
    """List runs, newest first."""
    query: schemas.RunsQuery = request.query
    after = cursor.decode_instant_and_id(query.cursor)
    key = query.collection and collection.schedule_key(request.org_id, query.collection)
    filters = RunFilter(
        job=key,
        statuses=None if query.status is None else [query.status],
        since=query.since,
        org_id=request.org_id,
        after=after,
    )
    async with tenancy.org_transaction(request.context.pool, request.org_id) as connection:
        rows = await listing.runs(connection, filters, query.limit + 1)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return ApiResponse(
        schemas.Runs(
            runs=[schemas.RunBody.model_validate(_with_id(row)) for row in page],
            next_cursor=cursor.encode(last["created_at"], last["execution_id"]) if last else None,
        )
    )


async def read_run(request: ApiRequest) -> ApiResponse:
    """Read a run and the result of each of its sources."""
    run_id = request.path["run_id"]
    async with tenancy.org_transaction(request.context.pool, request.org_id) as connection:
        row = await listing.run(connection, run_id)
        if row is None or row["org_id"] != request.org_id:
            raise NotFound(f"there is no run {run_id}")
        sources = await listing.sources(connection, run_id)
    body = _with_id(row) | {"sources": sources}
    return ApiResponse(schemas.RunWithSources.model_validate(body))


def _with_id(row: dict[str, Any]) -> dict[str, Any]:
    return row | {
        "id": row["execution_id"],
        "collection": collection.collection_name(row["job"]),
    }
