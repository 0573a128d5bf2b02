"""Queries for the command line: filtered runs, changes of runs, and scheduling lag."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Pool


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Filter of runs; None matches any."""

    job: str | None = None
    statuses: Sequence[str] | None = None
    trigger: str | None = None
    since: datetime | None = None
    until: datetime | None = None


COLUMNS = """
r.execution_id, r.job, s.key AS schedule, r.trigger, r.requested_by, r.status, r.attempt,
r.scheduled_for, r.created_at, r.started_at, r.completed_at, r.duration_seconds, r.worker,
r.error_type, r.error_message, r.params, r.stats, r.backfill_id, r.org_id
"""

MATCHING = """
FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE ($1::text IS NULL OR r.job = $1 OR s.key = $1)
  AND ($2::text[] IS NULL OR r.status = ANY ($2))
  AND ($3::text IS NULL OR r.trigger = $3)
  AND ($4::timestamptz IS NULL OR r.created_at >= $4)
  AND ($5::timestamptz IS NULL OR r.created_at < $5)
"""
NEWEST = f"SELECT {COLUMNS} {MATCHING} ORDER BY r.created_at DESC LIMIT $6"

# Runs that are open, or were created, started or completed since $6.
MOVED = f"""
SELECT {COLUMNS} {MATCHING}
  AND (r.created_at > $6 OR r.started_at > $6 OR r.completed_at > $6
       OR r.status IN ('queued', 'running'))
ORDER BY r.created_at LIMIT 1000
"""

BY_PREFIX = "SELECT execution_id FROM runs WHERE execution_id::text LIKE $1 LIMIT 2"

OPEN = """
SELECT count(*) FILTER (WHERE status = 'queued') AS queued,
       count(*) FILTER (WHERE status = 'running') AS running,
       min(queued_at) FILTER (WHERE status = 'queued' AND coalesce(not_before, $1) <= $1) AS oldest
FROM runs WHERE status IN ('queued', 'running')
"""

LAG = """
SELECT count(*) AS late, min(due_at) AS since FROM schedules
WHERE due_at < $1::timestamptz - interval '1 minute'
"""


async def newest(pool: Pool, filters: RunFilter, limit: int) -> list[dict[str, Any]]:
    """Return the newest matching runs, newest first."""
    return [dict(row) for row in await pool.fetch(NEWEST, *_values(filters), limit)]


async def changed_since(pool: Pool, filters: RunFilter, since: datetime) -> list[dict[str, Any]]:
    """Return matching runs that are open, or changed after `since`, oldest first."""
    return [dict(row) for row in await pool.fetch(MOVED, *_values(filters), since)]


async def ids_with_prefix(pool: Pool, begins: str) -> list[UUID]:
    """Return at most two run ids with that prefix of hexadecimal digits and hyphens."""
    return [row[0] for row in await pool.fetch(BY_PREFIX, f"{begins.lower()}%")]


async def open_runs(pool: Pool, now: datetime) -> dict[str, Any]:
    """Return the numbers of queued and running runs, and since when the oldest has been queued."""
    row = await pool.fetchrow(OPEN, now)
    return {} if row is None else dict(row)


async def scheduling_lag(pool: Pool, now: datetime) -> tuple[int, datetime | None]:
    """Return how many schedules are more than a minute overdue, and since when."""
    row = await pool.fetchrow(LAG, now)
    return (0, None) if row is None else (row["late"], row["since"])


def _values(wanted: RunFilter) -> tuple[Any, ...]:
    statuses = None if wanted.statuses is None else list(wanted.statuses)
    return wanted.job, statuses, wanted.trigger, wanted.since, wanted.until
