"""Pages of runs for people, which examine a bounded number of rows, whatever is searched for."""

from collections import defaultdict
from dataclasses import replace
from typing import Any
from uuid import UUID

from sqlmodel import col, select

from app.core.enums import OPEN_STATUSES, RunStatus, Trigger
from app.models.runs import RunRow
from app.store import select as selects
from app.store.bounded import MAX_EXAMINED, RowPage
from app.store.db import Connection, Pool
from app.store.runs import listing
from app.store.runs.listing import RunFilter

MAX_RUNNING = 500
LAST_ID = UUID(int=2**128 - 1)  # after it come the runs of an earlier instant
RunsByWorker = dict[str | None, list[dict[str, Any]]]


async def run_page(
    connection: Connection, filters: RunFilter, limit: int, examined: int = MAX_EXAMINED
) -> RowPage:
    """Return one page of the matching runs, newest first, as `listing.runs` does.

    What no index answers, such as a text in the error, is looked for in the newest `examined` runs
    that match the other filters, and in those of the same instant as the last of them.
    """
    end = None
    if _rare(filters):
        conditions = await listing.indexed_conditions(connection, filters)
        row = col(RunRow.created_at)
        last: Any = select(row).where(*conditions).order_by(row.desc())
        rows = await selects.fetch(connection, last.offset(examined - 1).limit(1))
        end = rows[0]["created_at"] if rows else None
        filters = filters if end is None else replace(filters, since=end)
    found = await listing.runs(connection, filters, limit + 1)
    if end is None or len(found) > limit:
        return RowPage.of(found, limit, "created_at", "execution_id")
    return RowPage(found, (end, LAST_ID), examined)


async def running(connection: Pool | Connection, org_id: UUID | None = None) -> RunsByWorker:
    """Return the newest running runs, at most MAX_RUNNING, by the name of their worker."""
    filters = RunFilter(statuses=[RunStatus.RUNNING], org_id=org_id)
    found: RunsByWorker = defaultdict(list)
    for row in await listing.runs(connection, filters, MAX_RUNNING):
        found[row["worker"]].append(row)
    return found


def _rare(filters: RunFilter) -> bool:
    """Whether there may be few matches among many runs, in no index."""
    if filters.error is not None or filters.worker is not None or filters.source is not None:
        return True
    if filters.trigger not in {None, Trigger.SCHEDULED}:
        return True
    statuses = set(filters.statuses or ())
    return len(statuses) == 1 and not statuses & (OPEN_STATUSES | {RunStatus.SUCCESS})
