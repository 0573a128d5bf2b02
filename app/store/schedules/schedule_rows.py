"""Statements for schedules and their ticks, gaps and frontiers."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.core.enums import SOURCE_TASK, RunStatus, TickOutcome, TickReason
from app.scheduling.policies import Policies
from app.scheduling.policy import AliveSpan, OpenRun
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """A schedule's row, read with or without its row lock."""

    id: int
    key: str
    job: str
    spec: dict[str, Any]
    policies: dict[str, Any]
    params: dict[str, Any]
    version: int
    effective_from: datetime
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    evaluated_through: datetime
    next_tick_at: datetime | None
    due_at: datetime | None
    retired_at: datetime | None = None


def source_of(key: str, job: str) -> str | None:
    """Return the recipe of a schedule with that key; None if `job` is another task."""
    return key.removeprefix(f"{SOURCE_TASK}:") if job == SOURCE_TASK else None


def key_of(job: str, params: Mapping[str, Any]) -> str:
    """Return the key of the built-in schedule that a manual run belongs to."""
    source = params.get("source") if job == SOURCE_TASK else None
    return job if source is None else f"{SOURCE_TASK}:{source}"


def manual_params(state: ScheduleState) -> dict[str, Any]:
    """Return the parameters of a run without a tick of this schedule, with its source."""
    source = source_of(state.key, state.job)
    return state.params if source is None else {"source": source} | state.params


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

    ticks: Sequence[TickWrite]
    gaps: Sequence[GapWrite]
    policies: Policies
    frontier: datetime
    next_tick_at: datetime
    due_at: datetime
    now: datetime


# The schedule of a disabled organisation counts as disabled.
ENABLED = (
    "enabled AND NOT EXISTS (SELECT FROM organizations o"
    " WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL) AS enabled"
)
COLUMNS = (
    f"id, key, job, spec, policies, params, version, effective_from, {ENABLED},"
    " paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at"
)

# Built-in schedules of recipes that no longer exist.
DISABLE_UNDECLARED = """
UPDATE schedules SET enabled = false
WHERE job = $1 AND org_id IS NULL AND enabled AND NOT (key = ANY ($2::text[])) RETURNING key
"""

# One row lock per schedule: two workers that trigger the same tick decide it one after the other.
LOCK = f"SELECT {COLUMNS} FROM schedules WHERE key = $1 FOR UPDATE"  # noqa: S608 - constant fragments
LOOK = f"SELECT {COLUMNS} FROM schedules"  # noqa: S608 - constant fragments

DUE = """
SELECT key FROM schedules
WHERE due_at <= $1 AND org_id IS NULL
  AND ($3::text[] IS NULL OR job = ANY ($3)) ORDER BY due_at LIMIT $2
"""

OPEN_RUNS = """
SELECT execution_id, status, scheduled_for FROM runs
WHERE schedule_id = $1 AND status IN ('queued', 'running') ORDER BY created_at
"""

RECORD = """
WITH queued AS (
  INSERT INTO runs (execution_id, job, schedule_id, org_id, scheduled_for, trigger, params, status,
                    attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats)
  SELECT r.run_id, $2, $1, (SELECT org_id FROM schedules WHERE id = $1), r.tick, 'scheduled', $3,
         'queued', 1, 0, $4, $5, 0, $6, '{}'
  FROM unnest($7::timestamptz[], $10::uuid[]) AS r (tick, run_id)
  WHERE r.run_id IS NOT NULL
), written AS (
  INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason,
                     run_id, blocking_run_id, decided_at)
  SELECT $1, t.tick, $15, t.outcome, t.reason, t.run_id, t.blocking, $6
  FROM unnest($7::timestamptz[], $8::text[], $9::text[], $10::uuid[], $11::uuid[])
       AS t (tick, outcome, reason, run_id, blocking)
)
UPDATE schedules SET evaluated_through = $12, next_tick_at = $13, due_at = $14 WHERE id = $1
"""

WRITE_GAP = """
INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version,
                       outcome, reason, decided_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
"""

# The trail: the newest ticks with the same outcome, back to a different outcome or a gap.
TRAIL = """
WITH edge AS (
  SELECT greatest(
    (SELECT scheduled_for FROM ticks
     WHERE schedule_id = $1 AND (outcome, reason, version) IS DISTINCT FROM ($2, $3, $4)
     ORDER BY scheduled_for DESC LIMIT 1),
    (SELECT last_tick FROM tick_gaps WHERE schedule_id = $1 ORDER BY first_tick DESC LIMIT 1)
  ) AS at
), trail AS (
  SELECT count(*) AS count, min(scheduled_for) AS first_tick, max(scheduled_for) AS last_tick
  FROM ticks
  WHERE schedule_id = $1 AND scheduled_for > coalesce((SELECT at FROM edge), '-infinity')
)
SELECT count, first_tick, last_tick,
       (SELECT g.first_tick FROM tick_gaps g
        WHERE g.schedule_id = $1 AND (g.outcome, g.reason, g.version) = ($2, $3, $4)
          AND g.last_tick = (SELECT at FROM edge)) AS gap
FROM trail
"""

DROP_TRAIL = "DELETE FROM ticks WHERE schedule_id = $1 AND scheduled_for BETWEEN $2 AND $3"
EXTEND_GAP = """
UPDATE tick_gaps SET last_tick = $3, count = count + $4 WHERE schedule_id = $1 AND first_tick = $2
"""


async def lock(connection: Connection, key: str) -> ScheduleState | None:
    """Lock the schedule's row until the transaction ends; None if there is no such schedule."""
    row = await connection.fetchrow(LOCK, key)
    return None if row is None else ScheduleState(*row)


async def all_of(pool: Pool | Connection) -> list[ScheduleState]:
    """Return every schedule, by key."""
    return [ScheduleState(*row) for row in await pool.fetch(f"{LOOK} ORDER BY key")]


async def one(pool: Pool | Connection, key: str) -> ScheduleState | None:
    """Return one schedule without locking it; None if there is none."""
    row = await pool.fetchrow(f"{LOOK} WHERE key = $1", key)
    return None if row is None else ScheduleState(*row)


async def due(
    pool: Pool,
    now: datetime,
    *,
    jobs: Sequence[str] | None = None,
    head_start: timedelta = timedelta(0),
    limit: int = 500,
) -> list[str]:
    """Return the keys of built-in schedules that are due by `now`, the longest due first.

    Only of these `jobs`, unless None. Each has its own trigger, which gets `head_start` to decide
    the tick. Organisations' schedules are decided in bulk (`store.batches`).
    """
    rows = await pool.fetch(DUE, now - head_start, limit, jobs)
    return [row["key"] for row in rows]


async def open_runs(connection: Connection, schedule_id: int) -> list[OpenRun]:
    """Return the queued and running runs of the schedule, oldest first."""
    rows = await connection.fetch(OPEN_RUNS, schedule_id)
    return [OpenRun(row[0], RunStatus(row[1]), row[2]) for row in rows]


async def beats(connection: Connection, since: datetime) -> list[AliveSpan]:
    """Return the heartbeat intervals that end at or after `since`, ordered by start."""
    rows = await connection.fetch(
        "SELECT since, until, jumped FROM worker_beats WHERE until >= $1 ORDER BY since", since
    )
    return [AliveSpan(*row) for row in rows]


async def record(connection: Connection, state: ScheduleState, decision: TickDecision) -> None:
    """Write ticks, queue their runs and move the frontier in one statement; then the gaps."""
    ticks = decision.ticks
    await connection.execute(
        RECORD,
        state.id,
        state.job,
        state.params,
        decision.policies.max_attempts,
        decision.policies.timeout,
        decision.now,
        [tick.scheduled_for for tick in ticks],
        [tick.outcome.value for tick in ticks],
        [tick.reason and tick.reason.value for tick in ticks],
        [tick.run_id for tick in ticks],
        [tick.blocking_run_id for tick in ticks],
        decision.frontier,
        decision.next_tick_at,
        decision.due_at,
        state.version,
    )
    if decision.gaps:
        await _write_gaps(connection, state, decision.gaps, decision.now)


async def _write_gaps(
    connection: Connection, state: ScheduleState, gaps: Iterable[GapWrite], now: datetime
) -> None:
    await connection.executemany(
        WRITE_GAP,
        [
            (state.id, g.first_tick, g.last_tick, g.count, state.version, g.outcome, g.reason, now)
            for g in gaps
        ],
    )


async def compress(
    connection: Connection, state: ScheduleState, last: TickWrite, now: datetime, threshold: int
) -> None:
    """Compress the newest ticks into a gap if more than `threshold` in a row are alike."""
    matching = (state.id, last.outcome.value, last.reason and last.reason.value, state.version)
    trail = await connection.fetchrow(TRAIL, *matching)
    if trail is None or trail["first_tick"] is None:
        return
    if trail["gap"] is not None:
        await connection.execute(
            EXTEND_GAP, state.id, trail["gap"], trail["last_tick"], trail["count"]
        )
    elif trail["count"] > threshold and last.reason is not None:
        gap = GapWrite(
            trail["first_tick"], trail["last_tick"], trail["count"], last.outcome, last.reason
        )
        await _write_gaps(connection, state, [gap], now)
    else:
        return
    await connection.execute(DROP_TRAIL, state.id, trail["first_tick"], trail["last_tick"])


async def disable_undeclared(pool: Pool, job: str, declared: Sequence[str]) -> list[str]:
    """Disable the job's built-in schedules that are not declared; returns their keys.

    Their ticks are recorded as `skipped(disabled)`.
    """
    return [row["key"] for row in await pool.fetch(DISABLE_UNDECLARED, job, list(declared))]
