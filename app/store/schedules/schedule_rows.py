"""Statements that read schedules: with or without their row lock, all, one, or those due."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.core.enums import SOURCE_TASK
from app.store.db import Connection, Pool
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class ScheduleState:
    """A schedule's row, read with or without its row lock.

    `enabled`: false as well while its organisation is disabled. `zone_data`: the stamp of the zone
    data that its ticks and exclusions are derived with; None for an interval without exclusions.
    `stamp`: the row's `xmin`; of a locked row, what it is once this transaction has written it.
    """

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
    zone_data: str | None = None
    paused_until: datetime | None = None
    stamp: str | None = None

    @property
    def version_key(self) -> str:
        return f"{self.key} {self.version}"


@dataclass(frozen=True, slots=True)
class DueQuery:
    """Which schedules of organisations to decide: those due by `now`, at most `limit` of them.

    Only of these `jobs`, unless None, and without those whose `version_key` is in `excluded`.
    """

    now: datetime
    limit: int
    jobs: Sequence[str] | None = None
    excluded: Sequence[str] = ()


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


# One row lock per schedule: two workers that trigger the same tick decide it one after the other.
LOCK = """
SELECT id, key, job, spec, policies, params, version, effective_from,
       enabled AND NOT EXISTS (SELECT FROM organizations o
                               WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL),
       paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at,
       zone_data, paused_until, pg_current_xact_id()::xid::text
FROM schedules WHERE key = $1 FOR UPDATE
"""

# SKIP LOCKED: concurrent workers share the due schedules instead of waiting for each other.
LOCK_DUE = """
SELECT id, key, job, spec, policies, params, version, effective_from,
       enabled AND NOT EXISTS (SELECT FROM organizations o
                               WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL),
       paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at,
       zone_data, paused_until
FROM schedules WHERE due_at <= $1 AND org_id IS NOT NULL
  AND ($2::text[] IS NULL OR job = ANY ($2))
  AND ($3::text[] IS NULL OR key || ' ' || version <> ALL ($3))
ORDER BY due_at LIMIT $4 FOR UPDATE SKIP LOCKED
"""

# Those of the schedules that are due, as LOCK does, but without waiting for other workers.
LOCK_KEYS = """
SELECT id, key, job, spec, policies, params, version, effective_from,
       enabled AND NOT EXISTS (SELECT FROM organizations o
                               WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL),
       paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at,
       zone_data, paused_until, pg_current_xact_id()::xid::text
FROM schedules WHERE key = ANY ($1::text[]) AND due_at <= $2 AND retired_at IS NULL
ORDER BY due_at FOR UPDATE SKIP LOCKED
"""

# With so many conditions, Postgres estimates a handful of due rows: it would sort a hundred
# thousand for every batch instead of reading the first ones from the index.
FORCE_INDEX = """
SELECT set_config(name, 'off', true)
FROM unnest('{enable_seqscan,enable_bitmapscan,enable_sort}'::text[]) AS name
"""

# Asked every second by every worker: it reads one entry of the index.
ANY_DUE = """
SELECT EXISTS (
  SELECT FROM schedules WHERE due_at <= $1 AND org_id IS NOT NULL
    AND ($2::text[] IS NULL OR job = ANY ($2))
    AND ($3::text[] IS NULL OR key || ' ' || version <> ALL ($3)))
"""

# The same rows as LOCK_DUE, without their locks.
DUE_KEYS = """
SELECT key || ' ' || version, key FROM schedules
WHERE due_at <= $1 AND org_id IS NOT NULL
  AND ($2::text[] IS NULL OR job = ANY ($2))
  AND ($3::text[] IS NULL OR key || ' ' || version <> ALL ($3))
ORDER BY due_at LIMIT $4
"""

# Asked every second by every worker. Without those that another session has locked, which decides
# or edits them: waiting for one would delay all others.
DUE_BUILT_IN = """
SELECT key || ' ' || version, key FROM schedules
WHERE due_at <= $1 AND org_id IS NULL
  AND ($2::text[] IS NULL OR job = ANY ($2))
  AND ($3::text[] IS NULL OR key || ' ' || version <> ALL ($3))
ORDER BY due_at LIMIT $4 FOR NO KEY UPDATE SKIP LOCKED
"""

# Every schedule, by key.
ALL = """
SELECT id, key, job, spec, policies, params, version, effective_from,
       enabled AND NOT EXISTS (SELECT FROM organizations o
                               WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL),
       paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at,
       zone_data, paused_until
FROM schedules ORDER BY key
"""

# One schedule, without its lock.
ONE = """
SELECT id, key, job, spec, policies, params, version, effective_from,
       enabled AND NOT EXISTS (SELECT FROM organizations o
                               WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL),
       paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at,
       zone_data, paused_until
FROM schedules WHERE key = $1
"""

# Built-in schedules, without their locks, each with its stamp.
STAMPED = """
SELECT id, key, job, spec, policies, params, version, effective_from,
       enabled AND NOT EXISTS (SELECT FROM organizations o
                               WHERE o.id = schedules.org_id AND o.disabled_at IS NOT NULL),
       paused_at, paused_by, paused_note, evaluated_through, next_tick_at, due_at, retired_at,
       zone_data, paused_until, xmin::text
FROM schedules WHERE key = ANY ($1::text[]) AND org_id IS NULL
"""

# Built-in schedules of recipes that no longer exist.
UNDECLARED = """
SELECT key FROM schedules
WHERE job = $1 AND org_id IS NULL AND enabled AND NOT (key = ANY ($2::text[])) ORDER BY key
"""

# Of schedules that a worker declares: those that another one, which lacks their recipes, disabled.
DISABLED = """
SELECT key FROM schedules WHERE key = ANY ($1) AND NOT enabled AND retired_at IS NULL ORDER BY key
"""


async def lock(connection: Connection, key: str) -> ScheduleState | None:
    """Lock the schedule's row until the transaction ends; None if there is no such schedule."""
    states = await _states(connection, await connection.fetch(LOCK, key))
    return states[0] if states else None


async def lock_due(connection: Connection, due: DueQuery) -> list[ScheduleState]:
    """Lock and return the due schedules that no other worker has locked, the longest due first.

    They stay locked until the transaction ends; until then Postgres uses only index scans.
    """
    await connection.execute(FORCE_INDEX)
    rows = await connection.fetch(
        LOCK_DUE, due.now, due.jobs, list(due.excluded) or None, due.limit
    )
    return await _states(connection, rows)


async def lock_keys(
    connection: Connection, keys: Sequence[str], now: datetime
) -> list[ScheduleState]:
    """Lock and return those of the schedules that are due by `now` and not locked by others."""
    return await _states(connection, await connection.fetch(LOCK_KEYS, list(keys), now))


async def all_of(pool: Pool | Connection) -> list[ScheduleState]:
    """Return every schedule, by key."""
    return await _states(pool, await pool.fetch(ALL))


async def one(pool: Pool | Connection, key: str) -> ScheduleState | None:
    """Return one schedule without locking it; None if there is none."""
    states = await _states(pool, await pool.fetch(ONE, key))
    return states[0] if states else None


async def stamped(pool: Pool, keys: Sequence[str]) -> list[ScheduleState]:
    """Return these built-in schedules without locking them, each with its stamp."""
    return await _states(pool, await pool.fetch(STAMPED, list(keys)))


async def _states(
    connection: Pool | Connection, rows: Sequence[Iterable[Any]]
) -> list[ScheduleState]:
    states = [ScheduleState(*row) for row in rows]
    await zones.ensure(connection, ((state.spec, state.zone_data) for state in states))
    return states


async def any_due(pool: Pool, due: DueQuery) -> bool:
    """Return whether any schedule of an organisation is due."""
    return bool(await pool.fetchval(ANY_DUE, due.now, due.jobs, list(due.excluded) or None))


async def due_keys(pool: Pool, due: DueQuery) -> list[tuple[str, str]]:
    """Return (version key, key) of the due schedules of organisations, the longest due first."""
    rows = await pool.fetch(DUE_KEYS, due.now, due.jobs, list(due.excluded) or None, due.limit)
    return [(row[0], row[1]) for row in rows]


async def due_built_in(
    pool: Pool, due: DueQuery, *, head_start: timedelta = timedelta(0)
) -> list[tuple[str, str]]:
    """Return (version key, key) of the due built-in schedules, the longest due first.

    Each has its own trigger, which gets `head_start` to decide the tick.
    """
    excluded = list(due.excluded) or None
    rows = await pool.fetch(DUE_BUILT_IN, due.now - head_start, due.jobs, excluded, due.limit)
    return [(row[0], row[1]) for row in rows]


async def pauses_ended(pool: Pool, now: datetime) -> list[str]:
    rows = await pool.fetch("SELECT key FROM schedules WHERE paused_until <= $1", now)
    return [row["key"] for row in rows]


async def undeclared(pool: Pool, job: str, declared: Sequence[str]) -> list[str]:
    """Return the keys of the job's enabled built-in schedules that are not declared."""
    return [row["key"] for row in await pool.fetch(UNDECLARED, job, list(declared))]


async def disabled(pool: Pool, keys: Sequence[str]) -> list[str]:
    """Return those of the schedules that are disabled, without retired ones."""
    return [row["key"] for row in await pool.fetch(DISABLED, list(keys))]
