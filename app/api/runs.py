"""The runs' addresses: ask for one, leaf through them, look at one."""

from typing import Any

from app import collection
from app.api import cursor, shapes
from app.api.desk import Answer, Asking
from app.collection import Asked
from app.errors import NotThere
from app.store import paged, tenancy
from app.store.paged import SoughtRuns


async def ask_for_run(asking: Asking) -> Answer:
    """Run the collection now, whatever its schedule says."""
    asked = Asked(asking.who, asking.now)
    queued = await collection.run(asking.desk.pool, asking.desk.config, asked)
    await asking.desk.tell([queued])
    body = shapes.QueuedRun(run_id=queued.run_id, queued_at=asking.now)
    return Answer(body, {"location": f"/collection/runs/{queued.run_id}"})


async def list_runs(asking: Asking) -> Answer:
    """List runs, the newest first."""
    page: shapes.RunsQuery = asking.query
    after = cursor.instant_and_id(page.cursor)
    sought = SoughtRuns(page.status, page.since)
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        rows = await paged.runs(connection, asking.org_id, page.limit + 1, after, sought)
    more = len(rows) > page.limit
    shown = rows[: page.limit]
    return Answer(
        shapes.Runs(
            runs=[shapes.Run.model_validate(row) for row in shown],
            next_cursor=_after(shown[-1]) if more else None,
        )
    )


async def read_run(asking: Asking) -> Answer:
    """Say what became of one run, and of each of its sources."""
    run_id = asking.path["run_id"]
    async with tenancy.org_transaction(asking.desk.pool, asking.org_id) as connection:
        row = await paged.run(connection, asking.org_id, run_id)
        sources = await paged.sources(connection, asking.org_id, run_id)
    if row is None:
        raise NotThere(f"there is no run {run_id}")
    return Answer(shapes.RunWithSources.model_validate(row | {"sources": sources}))


def _after(row: dict[str, Any]) -> str:
    return cursor.after(row["created_at"], row["id"])
