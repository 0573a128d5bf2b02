"""Statements that decide due ticks: what a decision reads, and what it writes."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.core.enums import RunStatus, TickOutcome, TickReason
from app.scheduling.policies import Policies
from app.scheduling.policy import AliveSpan, OpenRun
from app.store.db import Connection, Pool
from app.store.schedules.schedule_rows import ScheduleState


@dataclass(frozen=True, slots=True)
class TickWrite:
    """One tick to write, with the run it queues."""

    scheduled_for: datetime
    outcome: TickOutcome
    reason: TickReason | None
    run_id: UUID | None
    blocking_run_id: UUID | None


@dataclass(frozen=True, slots=True)
class GapWrite:
    """Consecutive ticks to write as one row."""

    first_tick: datetime
    last_tick: datetime
    count: int
    outcome: TickOutcome
    reason: TickReason


@dataclass(frozen=True, slots=True)
class TickDecision:
    """The decision for one schedule: ticks with their runs, gaps, the frontier, the next tick."""

    state: ScheduleState
    policies: Policies
    ticks: Sequence[TickWrite]
    gaps: Sequence[GapWrite]
    frontier: datetime
    next_tick_at: datetime
    due_at: datetime


# One index probe per schedule: a join would read every queued run, and there may be a hundred
# thousand. OFFSET 0 keeps the planner from flattening the subquery into a join.
OPEN_RUNS = """
SELECT s.id, r.execution_id, r.status, r.scheduled_for
FROM unnest($1::bigint[]) AS s (id)
CROSS JOIN LATERAL (
  SELECT execution_id, status, scheduled_for, created_at FROM runs
  WHERE schedule_id = s.id AND status IN ('queued', 'running') ORDER BY created_at OFFSET 0
) AS r
ORDER BY r.created_at
"""

# One statement for a whole batch: frontiers, runs and ticks are written together or not at all.
RECORD = """
WITH moved AS (
  UPDATE schedules s
  SET evaluated_through = m.frontier, next_tick_at = m.next_tick, due_at = m.due
  FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::timestamptz[],
              $5::int[], $6::float8[])
       AS m (id, frontier, next_tick, due, max_attempts, timeout)
  WHERE s.id = m.id
  RETURNING s.id, s.job, s.org_id, s.params, s.version, m.max_attempts, m.timeout
), decided AS (
  SELECT * FROM unnest($7::bigint[], $8::timestamptz[], $9::text[], $10::text[], $11::uuid[],
                       $12::uuid[])
           AS t (schedule_id, tick, outcome, reason, run_id, blocking)
), queued AS (
  INSERT INTO runs (execution_id, job, schedule_id, org_id, scheduled_for, trigger, params, status,
                    attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at,
                    created_at, stats)
  SELECT d.run_id, m.job, m.id, m.org_id, d.tick, 'scheduled', m.params, 'queued',
         1, 0, m.max_attempts, m.timeout, 0, $13, clock_timestamp(), '{}'
  FROM decided d JOIN moved m ON m.id = d.schedule_id WHERE d.run_id IS NOT NULL
)
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason,
                   run_id, blocking_run_id, decided_at)
SELECT m.id, d.tick, m.version, d.outcome, d.reason, d.run_id, d.blocking, $13
FROM decided d JOIN moved m ON m.id = d.schedule_id
"""

# The same for one tick of one built-in schedule, which is not locked: nothing is written if its row
# has changed since it had the stamp $2 and the frontier $3, or if a run of it is open.
# Returns the new stamp. Its commit does not wait for the disk; that of the run's claim does, for
# both. If Postgres crashes before, neither tick nor run was, and the tick is decided again.
RECORD_PUNCTUAL = """
WITH moved AS (
  UPDATE schedules s SET evaluated_through = $4, next_tick_at = $5, due_at = $6
  WHERE s.id = $1 AND s.xmin::text = $2 AND s.evaluated_through = $3 AND s.org_id IS NULL
    AND NOT EXISTS (SELECT FROM runs r
                    WHERE r.schedule_id = $1 AND r.status IN ('queued', 'running'))
  RETURNING s.id, s.job, s.params, s.version, s.xmin::text AS stamp
), queued AS (
  INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status,
                    attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats)
  SELECT $7, job, id, $8, 'scheduled', params, 'queued', 1, 0, $9, $10, 0, $11, '{}' FROM moved
), decided AS (
  INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)
  SELECT id, $8, version, 'ran', $7, $11 FROM moved
)
SELECT stamp, set_config('synchronous_commit', 'off', true) FROM moved
"""

# One row for each gap of a batch.
WRITE_GAPS = """
INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version,
                       outcome, reason, decided_at)
SELECT g.*, $8::timestamptz
FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[], $4::bigint[], $5::int[],
            $6::text[], $7::text[]) AS g
"""

# Asked for every batch of runs that is enqueued for organisations. A run counts the organisation's
# runs that wait before it, so that one with many collections gets no more than its share.
# `OFFSET 0`: the last duration is read once, not once for each place that it is named in. The
# status is a filter of the count: as a condition, it would have all open runs read for each one if
# statistics say that there are none.
LAST_DURATIONS = """
SELECT r.execution_id, last.seconds + ahead.runs * greatest(last.seconds, 1)
FROM runs r
CROSS JOIN LATERAL (
  SELECT coalesce((SELECT o.duration_seconds FROM runs o
                   WHERE o.org_id = r.org_id AND o.duration_seconds IS NOT NULL
                   ORDER BY o.created_at DESC LIMIT 1), 0) AS seconds OFFSET 0) last
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE q.status IN ('queued', 'running')) AS runs FROM runs q
  WHERE q.org_id = r.org_id
    AND q.created_at BETWEEN r.created_at - interval '1 hour' AND r.created_at
    AND (q.created_at, q.execution_id) < (r.created_at, r.execution_id)) ahead
WHERE r.execution_id = ANY ($1::uuid[])
"""


async def open_runs(connection: Connection, ids: Sequence[int]) -> dict[int, list[OpenRun]]:
    """Return the queued and running runs, oldest first, by schedule id."""
    found: dict[int, list[OpenRun]] = {}
    for row in await connection.fetch(OPEN_RUNS, ids):
        found.setdefault(row[0], []).append(OpenRun(row[1], RunStatus(row[2]), row[3]))
    return found


async def beats(connection: Connection, since: datetime) -> list[AliveSpan]:
    """Return the heartbeat intervals that end at or after `since`, ordered by start."""
    rows = await connection.fetch(
        "SELECT since, until, jumped FROM worker_beats WHERE until >= $1 ORDER BY since", since
    )
    return [AliveSpan(*row) for row in rows]


async def record(connection: Connection, decisions: Sequence[TickDecision], now: datetime) -> None:
    """Write all ticks, queue their runs and move the frontiers in one statement; then the gaps."""
    ticks = [(one.state.id, tick) for one in decisions for tick in one.ticks]
    await connection.execute(
        RECORD,
        [one.state.id for one in decisions],
        [one.frontier for one in decisions],
        [one.next_tick_at for one in decisions],
        [one.due_at for one in decisions],
        [one.policies.max_attempts for one in decisions],
        [one.policies.timeout for one in decisions],
        [schedule_id for schedule_id, _ in ticks],
        [tick.scheduled_for for _, tick in ticks],
        [tick.outcome.value for _, tick in ticks],
        [tick.reason and tick.reason.value for _, tick in ticks],
        [tick.run_id for _, tick in ticks],
        [tick.blocking_run_id for _, tick in ticks],
        now,
    )
    gaps = [
        (one.state.id, g.first_tick, g.last_tick, g.count, one.state.version, g.outcome, g.reason)
        for one in decisions
        for g in one.gaps
    ]
    await write_gaps(connection, gaps, now)


async def record_punctual(pool: Pool, decision: TickDecision, now: datetime) -> str | None:
    """Write the one tick of a decision, which runs, as `record` does; return the row's new stamp.

    Returns None, and has written nothing, if the row has changed since it had the stamp of
    `decision.state`, or a run of the schedule is open.
    """
    (tick,) = decision.ticks
    written: str | None = await pool.fetchval(
        RECORD_PUNCTUAL,
        decision.state.id,
        decision.state.stamp,
        decision.state.evaluated_through,
        decision.frontier,
        decision.next_tick_at,
        decision.due_at,
        tick.run_id,
        tick.scheduled_for,
        decision.policies.max_attempts,
        decision.policies.timeout,
        now,
    )
    return written


async def write_gaps(
    connection: Connection, gaps: Sequence[tuple[object, ...]], now: datetime
) -> None:
    """Write gaps; their columns are those of WRITE_GAPS."""
    if gaps:
        await connection.execute(WRITE_GAPS, *map(list, zip(*gaps, strict=True)), now)


async def last_durations(pool: Pool, run_ids: Sequence[UUID]) -> dict[UUID, float]:
    """Return, for each run, the duration in seconds of the last finished run of its organisation.

    0 if the organisation has none.
    """
    rows = await pool.fetch(LAST_DURATIONS, run_ids)
    return {row[0]: row[1] for row in rows}
