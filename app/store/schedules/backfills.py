"""Statements for backfills: the request, and its runs, enqueued a few at a time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import RunStatus
from app.scheduling.policies import Policies
from app.store.db import Connection, Pool
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import ScheduleState

# Requesting a range again is an upsert: a finished or stopped backfill starts over, with its id.
BEGIN = """
INSERT INTO backfills (id, schedule_id, name, since, until, total, params, requested_by, created_at,
                       ticks, concurrency, reason)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12)
ON CONFLICT (id) DO UPDATE SET completed_at = NULL, stopped_by = NULL, ticks = excluded.ticks,
  fed = 0, concurrency = excluded.concurrency, requested_by = excluded.requested_by,
  reason = excluded.reason
"""

# One worker feeds all backfills, so that together they respect the limit on open runs.
TRY_LOCK = "SELECT pg_try_advisory_xact_lock(hashtext('rollcall.backfills'))"

# The oldest backfills that have ticks to run or runs to wait for, with their next ticks.
UNFINISHED = """
SELECT b.id, s.key, b.name, b.requested_by, b.concurrency,
       b.ticks[b.fed + 1 : b.fed + b.concurrency] AS next
FROM backfills b JOIN schedules s ON s.id = b.schedule_id
WHERE b.completed_at IS NULL ORDER BY b.created_at LIMIT 20
"""

# A backfill is complete when each of its ticks has a run, and none of these is open.
COMPLETE = """
UPDATE backfills SET completed_at = $2
WHERE id = $1 AND completed_at IS NULL AND fed = cardinality(ticks) AND NOT EXISTS (
  SELECT FROM runs WHERE backfill_id = $1 AND status IN ('queued', 'running'))
"""

# By the partial index of a backfill's runs, so that polling does not scan `runs`.
PROGRESS = """
SELECT b.completed_at, b.stopped_by, b.fed,
       (SELECT count(*) FROM runs r
        WHERE r.backfill_id = b.id AND r.status IN ('queued', 'running')) AS open
FROM backfills b WHERE b.id = $1
"""

# The newest backfills of the operator's jobs. The limit comes before the counts, so that only the
# runs of those shown are counted, and after the owner: those of collections take no place.
RECENT = """
SELECT b.id, b.job, b.name, b.since, b.until, b.requested_by, b.reason, b.created_at,
       b.completed_at, b.stopped_by, b.fed, cardinality(b.ticks) AS total,
       r.ended, r.failed, r.open
FROM (SELECT f.*, s.key AS job
      FROM backfills f JOIN schedules s ON s.id = f.schedule_id AND s.org_id IS NULL
      WHERE $2::uuid IS NULL OR f.id = $2
      ORDER BY f.created_at DESC LIMIT $1) b
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE status NOT IN ('queued', 'running')) AS ended,
         count(*) FILTER (WHERE status NOT IN ('queued', 'running', 'success')) AS failed,
         count(*) FILTER (WHERE status IN ('queued', 'running')) AS open
  FROM runs WHERE backfill_id = b.id) r
ORDER BY b.created_at DESC
"""

# A scheduled run that waits for a slot comes first. Runs of organisations are not counted: they
# have slots of their own and a queue that may never be empty, which would block backfills for ever.
FREE_SLOTS = """
SELECT CASE WHEN EXISTS (
  SELECT FROM runs WHERE status = 'queued' AND trigger = 'scheduled' AND org_id IS NULL
    AND coalesce(not_before, queued_at) < $1::timestamptz - interval '1 second')
THEN 0 ELSE $2 - (
  SELECT count(*) FROM runs WHERE status IN ('queued', 'running') AND trigger = 'backfill') END
"""

# Bulk insert by unnest. A run id follows from its tick, so feeding a tick twice adds no run.
INSERT_RUNS = """
INSERT INTO runs (execution_id, job, scheduled_for, trigger, requested_by, params, status, attempt,
                  losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats, org_id,
                  backfill_id, created_at)
SELECT f.run_id, $3, f.at, 'backfill', $4, $5, 'queued', 1, 0, $6, $7, 0, $8, '{}',
       (SELECT org_id FROM schedules WHERE id = $9), $10, clock_timestamp()
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
    """One backfill: the schedule, the range of ticks, and who requested it and why.

    `concurrency`: runs open at the same time.
    """

    id: UUID
    state: ScheduleState
    name: str
    since: datetime
    until: datetime
    requested_by: str
    concurrency: int = 1
    reason: str = ""


@dataclass(frozen=True, slots=True)
class UnfinishedBackfill:
    """A backfill to feed, and its next ticks, at most as many as it may have open at once."""

    id: UUID
    key: str
    name: str
    requested_by: str
    concurrency: int
    next_ticks: Sequence[datetime]


@dataclass(frozen=True, slots=True)
class BackfillProgress:
    """How far a backfill is: how many ticks have their run, and how many runs are open."""

    completed_at: datetime | None
    stopped_by: str | None
    fed: int
    open: int


async def begin(
    connection: Connection, backfill: Backfill, ticks: Sequence[datetime], now: datetime
) -> None:
    """Insert the backfill, or begin it anew with these ticks if it exists."""
    await connection.execute(
        BEGIN,
        backfill.id,
        backfill.state.id,
        backfill.name,
        backfill.since,
        backfill.until,
        len(ticks),
        schedule_rows.manual_params(backfill.state),
        backfill.requested_by,
        now,
        list(ticks),
        backfill.concurrency,
        backfill.reason or None,
    )


async def any_unfinished(pool: Pool) -> bool:
    """Return whether there is a backfill to feed or to complete."""
    return bool(
        await pool.fetchval("SELECT EXISTS (SELECT FROM backfills WHERE completed_at IS NULL)")
    )


async def lock_unfinished(connection: Connection) -> list[UnfinishedBackfill]:
    """Return the unfinished backfills, the oldest first; none if another worker feeds them now.

    Holds a lock until the transaction ends.
    """
    if not await connection.fetchval(TRY_LOCK):
        return []
    return [UnfinishedBackfill(*row) for row in await connection.fetch(UNFINISHED)]


async def record_fed(connection: Connection, backfill_id: UUID, count: int) -> None:
    """Record that `count` more ticks have their run."""
    await connection.execute(
        "UPDATE backfills SET fed = fed + $2 WHERE id = $1", backfill_id, count
    )


async def complete(connection: Connection, backfill_id: UUID, now: datetime) -> None:
    """Mark a backfill as completed if all its runs have ended."""
    await connection.execute(COMPLETE, backfill_id, now)


async def stop(connection: Connection, backfill_id: UUID, now: datetime, by: str) -> str | None:
    """End a backfill before its last tick. Returns its job; None if it is complete or unknown."""
    key: str | None = await connection.fetchval(
        "UPDATE backfills b SET completed_at = $2, stopped_by = $3 FROM schedules s"
        " WHERE b.id = $1 AND b.completed_at IS NULL AND s.id = b.schedule_id RETURNING s.key",
        backfill_id,
        now,
        by,
    )
    return key


async def unfinished_within(pool: Pool, backfill: Backfill) -> list[UUID]:
    """Return the unfinished backfills of this schedule and name that have a part of its range."""
    # A range that ends `now` is another one each time.
    rows = await pool.fetch(
        "SELECT id FROM backfills WHERE schedule_id = $1 AND name = $2 AND completed_at IS NULL"
        " AND since <= $4 AND until >= $3 ORDER BY created_at DESC, id",
        backfill.state.id,
        backfill.name,
        backfill.since,
        backfill.until,
    )
    return [row["id"] for row in rows]


async def progress(pool: Pool, backfill_id: UUID) -> BackfillProgress | None:
    """Return how far a backfill is; None if there is none."""
    row = await pool.fetchrow(PROGRESS, backfill_id)
    return None if row is None else BackfillProgress(*row)


async def free_slots(connection: Connection, now: datetime, limit: int) -> int:
    """Return how many runs may be enqueued so that at most `limit` backfill runs are open at once.

    0 while a scheduled run waits for a slot.
    """
    free: int = await connection.fetchval(FREE_SLOTS, now, limit)
    return max(0, free)


async def insert_runs(
    connection: Connection,
    backfill: UnfinishedBackfill,
    of: tuple[ScheduleState, Policies],
    runs: Sequence[tuple[UUID, datetime]],
    now: datetime,
) -> list[UUID]:
    """Insert queued runs of a backfill; returns the ids of those that did not exist yet.

    `of`: its schedule, with the policies of that. `runs`: the id and the tick of each.
    """
    state, policies = of
    rows = await connection.fetch(
        INSERT_RUNS,
        [run_id for run_id, _ in runs],
        [at for _, at in runs],
        state.job,
        backfill.requested_by,
        schedule_rows.manual_params(state),
        policies.max_attempts,
        policies.timeout,
        now,
        state.id,
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


async def recent(
    connection: Pool | Connection, limit: int, backfill_id: UUID | None = None
) -> list[dict[str, Any]]:
    """Return the newest backfills of the operator's jobs with their counts of runs, as plain rows.

    `failed`: runs that ended without full success. `backfill_id`: only this one.
    """
    return [dict(row) for row in await connection.fetch(RECENT, limit, backfill_id)]
