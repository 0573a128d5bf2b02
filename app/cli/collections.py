"""Runs of a collection that the operator requests, under the organisation's own limits."""

from uuid import UUID

from app.cli import run_requests
from app.cli.terminal import CommandContext
from app.core.enums import COLLECTION_TASK
from app.core.errors import UnknownJob
from app.orgs import collection
from app.orgs.collection import CollectionRequest
from app.orgs.tokens import OPERATOR
from app.queue import enqueue
from app.store.schedules import heartbeats


async def trigger_collection(
    context: CommandContext, key: str, by: str, *, wait: bool, as_json: bool
) -> None:
    """Queue a run of the collection whose schedule has this key, with its present selection.

    With `wait`, follow the run and raise typer.Exit with the exit code of its status.
    Raises UnknownJob for a key that is none, Conflict if a run is open or nothing is
    selected, and OverLimit if the organisation has used up its runs of the day.
    """
    org_id, name = _parse_key(key)
    now = await heartbeats.database_now(context.pool)
    request = CollectionRequest(org_id, f"{OPERATOR}/{by}", now, collection=name)
    queued = await collection.request_run(context.pool, context.config, request)
    await enqueue.enqueue_runs(context.pool, context.redis, [queued])
    await run_requests.report_queued_run(
        context,
        queued.run_id,
        (key, COLLECTION_TASK),
        wait=wait,
        as_json=as_json,
    )


def _parse_key(key: str) -> tuple[UUID, str]:
    try:
        return UUID(key.split(":")[1]), collection.collection_name(key)
    except (ValueError, IndexError):
        raise UnknownJob(f"there is no collection {key!r}; see `rollcall jobs`") from None
