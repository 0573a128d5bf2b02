"""Runs of a collection that the operator requests, under the organisation's own limits."""

from uuid import UUID

from app.cli import run_requests
from app.cli.terminal import CommandContext
from app.core.enums import COLLECTION_TASK
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.orgs.tokens import OPERATOR
from app.queue import enqueue
from app.store.schedules import heartbeats


async def trigger_collection(
    context: CommandContext, org_id: UUID, by: str, *, wait: bool, as_json: bool
) -> None:
    """Queue a run of the organisation's collection, with its present selection of sources.

    With `wait`, follow the run and raise typer.Exit with the exit code of its status.
    Raises Conflicting if a run is open or nothing is selected, and OverLimit if the organisation
    has used up its runs of the day.
    """
    now = await heartbeats.database_now(context.pool)
    request = CollectionRequest(org_id, f"{OPERATOR}/{by}", now)
    queued = await collection.request_run(context.pool, context.config, request)
    await enqueue.enqueue_runs(context.pool, context.redis, [queued])
    await run_requests.report_queued_run(
        context,
        queued.run_id,
        (f"{COLLECTION_TASK}:{org_id}", COLLECTION_TASK),
        wait=wait,
        as_json=as_json,
    )
