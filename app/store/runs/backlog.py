"""What is queued, running and overdue: for `status` and `doctor`, and for Postgres' planner."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from app.store.db import Pool

# How much is queued and running.
OPEN = """
SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
       count(*) FILTER (WHERE status = 'running') AS running,
       min(coalesce(not_before, queued_at))
         FILTER (WHERE status = 'queued' AND coalesce(not_before, $1) <= $1) AS oldest
FROM runs WHERE status IN ('queued', 'running')
"""

# How many schedules are overdue, but for some.
LAG = """
SELECT count(*) AS late, min(due_at) AS since FROM schedules
WHERE due_at < $1::timestamptz - interval '1 minute' AND key <> ALL ($2::text[])
"""

# Whether statistics say that no run is open, as they do if none was when `runs` was analysed.
NONE_KNOWN = "SELECT reltuples = 0 FROM pg_class WHERE oid = 'runs_open'::regclass"

# Skipped while another session analyses or vacuums it.
ANALYZE = "ANALYZE (SKIP_LOCKED) runs"


async def open_runs(pool: Pool, now: datetime) -> dict[str, Any]:
    """Return the numbers of queued and running runs, and since when the oldest has been due."""
    row = await pool.fetchrow(OPEN, now)
    return {} if row is None else dict(row)


async def scheduling_lag(
    pool: Pool, now: datetime, besides: Sequence[str] = ()
) -> tuple[int, datetime | None]:
    """Return how many schedules are more than a minute overdue `besides` these, and since when."""
    row = await pool.fetchrow(LAG, now, list(besides))
    return (0, None) if row is None else (row["late"], row["since"])


async def count_for_planner(pool: Pool) -> None:
    """Have Postgres analyse `runs` if its statistics say that none is open, though many are.

    It takes the indexes of open runs for empty then, and reads one whole for each run that is
    claimed, until autovacuum analyses the table, which may be a minute later.
    """
    if await pool.fetchval(NONE_KNOWN):
        await pool.execute(ANALYZE)
