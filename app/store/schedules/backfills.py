"""Statements for backfills: the request, and its runs, enqueued a few at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import RunStatus
from app.store.db import Connection, Pool
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import ScheduleState

BEGIN = """
INSERT INTO backfills (id, schedule_id, name, since, until, total, params, requested_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO UPDATE SET completed_at = NULL
"""

# Serialises all backfills, so that together they respect the limit on open runs.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall.backfills'))"

# A scheduled run that waits for a slot comes first. Runs of organisations are not counted: they
# have slots of their own and a queue that may never be empty, which would block backfills for ever.
FREE_SLOTS = """
SELECT CASE WHEN EXISTS (
  SELECT FROM runs WHERE status = 'queued' AND trigger = 'scheduled' AND org_id IS NULL
    AND coalesce(not_before, queued_at) < $1::timestamptz - interval '1 second')
THEN 0 ELSE $2 - (
  SELECT count(*) FROM runs WHERE status IN ('queued', 'running') AND trigger = 'backfill') END
"""

INSERT_RUNS = """
INSERT INTO runs (execution_id, job, scheduled_for, trigger, requested_by, params, status, attempt,
                  losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats, org_id,
                  backfill_id)
SELECT f.run_id, $3, f.at, 'backfill', $4, $5, 'queued', 1, 0, $6, $7, 0, $8, '{}',
       (SELECT org_id FROM schedules WHERE id = $9), $10
FROM unnest($1::uuid[], $2::timestamptz[]) AS f (run_id, at)
ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
"""

# A pruned run counts as successful: retention only deletes finished runs.
SUCCESSFUL_TICKS = """
SELECT t.scheduled_for FROM ticks t LEFT JOIN runs r ON r.execution_id = t.run_id
WHERE t.schedule_id = $1 AND t.scheduled_for BETWEEN $2 AND $3 AND t.outcome = 'ran'
  AND coalesce(r.status, 'success') IN ('success', 'partial_failure', 'queued', 'running')
"""


@dataclass(frozen=True, slots=True)
class Backfill:
    """One backfill: the schedule, the range of ticks, the requester, and the runs' limits.

    `timeout`: seconds for each run.
    """

    id: UUID
    state: ScheduleState
    name: str
    since: datetime
    until: datetime
    requested_by: str
    max_attempts: int
    timeout: float


async def begin(pool: Pool, backfill: Backfill, total: int, now: datetime) -> None:
    """Insert the backfill, or resume it if it exists."""
    await pool.execute(
        BEGIN,
        backfill.id,
        backfill.state.id,
        backfill.name,
        backfill.since,
        backfill.until,
        total,
        schedule_rows.manual_params(backfill.state),
        backfill.requested_by,
        now,
    )


async def complete(pool: Pool, backfill_id: UUID, now: datetime) -> None:
    """Mark a backfill as completed: all its runs have ended."""
    await pool.execute("UPDATE backfills SET completed_at = $2 WHERE id = $1", backfill_id, now)


async def free_slots(connection: Connection, now: datetime, limit: int) -> int:
    """Return how many runs may be enqueued so that at most `limit` backfill runs are open at once.

    0 while a scheduled run waits for a slot. Holds a lock until the transaction ends, in which the
    caller must insert the runs.
    """
    await connection.execute(LOCK)
    free: int = await connection.fetchval(FREE_SLOTS, now, limit)
    return max(0, free)


async def insert_runs(
    connection: Connection,
    backfill: Backfill,
    runs: Sequence[tuple[UUID, datetime]],
    now: datetime,
) -> list[UUID]:
    """Insert queued runs for these ticks; returns the ids of those that did not exist yet."""
    rows = await connection.fetch(
        INSERT_RUNS,
        [run_id for run_id, _ in runs],
        [at for _, at in runs],
        backfill.state.job,
        backfill.requested_by,
        schedule_rows.manual_params(backfill.state),
        backfill.max_attempts,
        backfill.timeout,
        now,
        backfill.state.id,
        backfill.id,
    )
    return [row["execution_id"] for row in rows]


async def statuses(pool: Pool, run_ids: Sequence[UUID]) -> dict[UUID, RunStatus]:
    """Return the status of each run; those that do not exist are left out."""
    rows = await pool.fetch(
        "SELECT execution_id, status FROM runs WHERE execution_id = ANY ($1::uuid[])", list(run_ids)
    )
    return {row["execution_id"]: RunStatus(row["status"]) for row in rows}


async def successful_ticks(
    pool: Pool, schedule_id: int, since: datetime, until: datetime
) -> set[datetime]:
    """Return the ticks in [since, until] whose scheduled run succeeded or is still open."""
    rows = await pool.fetch(SUCCESSFUL_TICKS, schedule_id, since, until)
    return {row["scheduled_for"] for row in rows}


async def recent(pool: Pool, limit: int = 20) -> list[dict[str, Any]]:
    """Return the newest backfills, as plain rows."""
    rows = await pool.fetch(
        "SELECT b.*, s.key AS schedule FROM backfills b JOIN schedules s ON s.id = b.schedule_id"
        " ORDER BY b.created_at DESC LIMIT $1",
        limit,
    )
    return [dict(row) for row in rows]
