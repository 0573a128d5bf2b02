"""Handlers of /collection/run and /collection/runs."""

from app.core.errors import NotFound
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.store import tenancy
from app.store.orgs import org_listing
from app.store.orgs.org_listing import OrgRunFilter
from app.web.api import cursor, schemas
from app.web.api.context import ApiRequest, ApiResponse


async def ask_for_run(request: ApiRequest) -> ApiResponse:
    """Queue a run of the collection now, whatever its schedule says."""
    requested = CollectionRequest(request.principal, request.now)
    queued = await collection.request_run(request.context.pool, request.context.config, requested)
    await request.context.enqueue([queued])
    body = schemas.QueuedRunBody(run_id=queued.run_id, queued_at=request.now)
    return ApiResponse(body, {"location": f"/collection/runs/{queued.run_id}"})


async def list_runs(request: ApiRequest) -> ApiResponse:
    """List runs, newest first."""
    query: schemas.RunsQuery = request.query
    after = cursor.decode_instant_and_id(query.cursor)
    filters = OrgRunFilter(query.status, query.since)
    async with tenancy.org_transaction(request.context.pool, request.org_id) as connection:
        rows = await org_listing.runs(connection, request.org_id, query.limit + 1, after, filters)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return ApiResponse(
        schemas.Runs(
            runs=[schemas.RunBody.model_validate(row) for row in page],
            next_cursor=cursor.encode(last["created_at"], last["id"]) if last else None,
        )
    )


async def read_run(request: ApiRequest) -> ApiResponse:
    """Read a run and the result of each of its sources."""
    run_id = request.path["run_id"]
    async with tenancy.org_transaction(request.context.pool, request.org_id) as connection:
        row = await org_listing.run(connection, request.org_id, run_id)
        sources = await org_listing.sources(connection, request.org_id, run_id)
    if row is None:
        raise NotFound(f"there is no run {run_id}")
    return ApiResponse(schemas.RunWithSources.model_validate(row | {"sources": sources}))
