"""Every statement about backfills: written down once, and fed a few runs at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store import schedules
from app.store.db import Connection, Pool
from app.store.schedules import ScheduleState
from app.words import RunStatus

BEGIN = """
INSERT INTO backfills (id, schedule_id, name, since, until, total, params, requested_by, created_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (id) DO UPDATE SET completed_at = NULL
"""

# All that feed come here one after the other, so that together they keep to the limit.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall.backfills'))"

# A scheduled run that waits for a slot comes first. Those of organisations have slots of their own,
# and a line that may never be empty: to wait for them would be to wait for ever.
ROOM = """
SELECT CASE WHEN EXISTS (
  SELECT FROM runs WHERE status = 'queued' AND trigger = 'scheduled' AND org_id IS NULL
    AND coalesce(not_before, queued_at) < $1::timestamptz - interval '1 second')
THEN 0 ELSE $2 - (
  SELECT count(*) FROM runs WHERE status IN ('queued', 'running') AND trigger = 'backfill') END
"""

FEED = """
INSERT INTO runs (execution_id, job, scheduled_for, trigger, requested_by, params, status, attempt,
                  losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats, org_id,
                  backfill_id)
SELECT f.run_id, $3, f.at, 'backfill', $4, $5, 'queued', 1, 0, $6, $7, 0, $8, '{}',
       (SELECT org_id FROM schedules WHERE id = $9), $10
FROM unnest($1::uuid[], $2::timestamptz[]) AS f (run_id, at)
ON CONFLICT (execution_id) DO NOTHING RETURNING execution_id
"""

# A run that was pruned since had ended; of a tick without one nothing came.
SERVED = """
SELECT t.scheduled_for FROM ticks t LEFT JOIN runs r ON r.execution_id = t.run_id
WHERE t.schedule_id = $1 AND t.scheduled_for BETWEEN $2 AND $3 AND t.outcome = 'ran'
  AND coalesce(r.status, 'success') IN ('success', 'partial_failure', 'queued', 'running')
"""


@dataclass(frozen=True, slots=True)
class Backfill:
    """Which instants of a schedule are wanted again, by whom, and as what."""

    id: UUID
    state: ScheduleState
    name: str
    since: datetime
    until: datetime
    requested_by: str
    max_attempts: int
    timeout: float


async def begin(pool: Pool, backfill: Backfill, total: int, now: datetime) -> None:
    """Write the backfill down; one that was begun before goes on."""
    await pool.execute(
        BEGIN,
        backfill.id,
        backfill.state.id,
        backfill.name,
        backfill.since,
        backfill.until,
        total,
        schedules.by_hand(backfill.state),
        backfill.requested_by,
        now,
    )


async def complete(pool: Pool, backfill_id: UUID, now: datetime) -> None:
    """Say that all its runs have ended."""
    await pool.execute("UPDATE backfills SET completed_at = $2 WHERE id = $1", backfill_id, now)


async def room(connection: Connection, now: datetime, most: int) -> int:
    """How many runs may be fed, that no more than `most` of all backfills are open at once.

    None while a scheduled run waits for a slot. Wants a transaction, in which they are fed.
    """
    await connection.execute(LOCK)
    free: int = await connection.fetchval(ROOM, now, most)
    return max(0, free)


async def feed(
    connection: Connection,
    backfill: Backfill,
    runs: Sequence[tuple[UUID, datetime]],
    now: datetime,
) -> list[UUID]:
    """Queue the runs of these instants; returns those that were not there yet."""
    rows = await connection.fetch(
        FEED,
        [run_id for run_id, _ in runs],
        [at for _, at in runs],
        backfill.state.job,
        backfill.requested_by,
        schedules.by_hand(backfill.state),
        backfill.max_attempts,
        backfill.timeout,
        now,
        backfill.state.id,
        backfill.id,
    )
    return [row["execution_id"] for row in rows]


async def statuses(pool: Pool, run_ids: Sequence[UUID]) -> dict[UUID, RunStatus]:
    """How these runs stand; those that do not exist are left out."""
    rows = await pool.fetch(
        "SELECT execution_id, status FROM runs WHERE execution_id = ANY ($1::uuid[])", list(run_ids)
    )
    return {row["execution_id"]: RunStatus(row["status"]) for row in rows}


async def served(pool: Pool, schedule_id: int, since: datetime, until: datetime) -> set[datetime]:
    """Instants whose scheduled run brought something, or still may."""
    rows = await pool.fetch(SERVED, schedule_id, since, until)
    return {row["scheduled_for"] for row in rows}


async def recent(pool: Pool, limit: int = 20) -> list[dict[str, Any]]:
    """The newest backfills, as plain rows."""
    rows = await pool.fetch(
        "SELECT b.*, s.key AS schedule FROM backfills b JOIN schedules s ON s.id = b.schedule_id"
        " ORDER BY b.created_at DESC LIMIT $1",
        limit,
    )
    return [dict(row) for row in rows]
