"""Handlers of /collection/run and /collection/runs."""

from app.core.errors import NotThere
from app.orgs import collection
from app.orgs.collection import Asked
from app.store import tenancy
from app.store.orgs import org_listing
from app.store.orgs.org_listing import SoughtRuns
from app.web.api import cursor, schemas
from app.web.api.context import Answer, Asking


async def ask_for_run(request: Asking) -> Answer:
    """Queue a run of the collection now, whatever its schedule says."""
    requested = Asked(request.who, request.now)
    queued = await collection.run(request.desk.pool, request.desk.config, requested)
    await request.desk.tell([queued])
    body = schemas.QueuedRun(run_id=queued.run_id, queued_at=request.now)
    return Answer(body, {"location": f"/collection/runs/{queued.run_id}"})


async def list_runs(request: Asking) -> Answer:
    """List runs, newest first."""
    query: schemas.RunsQuery = request.query
    after = cursor.instant_and_id(query.cursor)
    filters = SoughtRuns(query.status, query.since)
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        rows = await org_listing.runs(connection, request.org_id, query.limit + 1, after, filters)
    page, more = rows[: query.limit], len(rows) > query.limit
    last = page[-1] if more else None
    return Answer(
        schemas.Runs(
            runs=[schemas.Run.model_validate(row) for row in page],
            next_cursor=cursor.after(last["created_at"], last["id"]) if last else None,
        )
    )


async def read_run(request: Asking) -> Answer:
    """Read a run and the result of each of its sources."""
    run_id = request.path["run_id"]
    async with tenancy.org_transaction(request.desk.pool, request.org_id) as connection:
        row = await org_listing.run(connection, request.org_id, run_id)
        sources = await org_listing.sources(connection, request.org_id, run_id)
    if row is None:
        raise NotThere(f"there is no run {run_id}")
    return Answer(schemas.RunWithSources.model_validate(row | {"sources": sources}))
