"""Queries for the proof: schedule versions, the outcomes of their ticks, and their runs."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import suppress
from dataclasses import astuple, dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from asyncpg import ReadOnlySQLTransactionError

from app.core.enums import TickOutcome, TickReason
from app.store.db import Connection, Pool
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a schedule and the ticks it covers: (since, until].

    `pruned_expected`: the number of earlier ticks, which retention deleted. `pruned`: their number
    by outcome and reason. `proven_through`: up to where ticks were proven last; `proven_expected`,
    `proven`: as for pruned ticks, which they include. `zone_data`: the stamp of the zone data that
    its ticks are derived with.
    """

    schedule_id: int
    version: int
    spec: dict[str, Any]
    zone_data: str | None
    since: datetime
    until: datetime
    pruned_expected: int
    pruned: dict[str, int]
    pruned_through: datetime | None
    proven_through: datetime | None
    proven_expected: int
    proven: dict[str, int]

    def after_proven(self) -> "VersionRow":
        """Return the same version without the ticks that were proven, which count as pruned."""
        at = self.proven_through
        if at is None or not self.since <= at <= self.until:
            return self
        return replace(self, since=at, pruned_expected=self.proven_expected, pruned=self.proven)


@dataclass(frozen=True, slots=True)
class ProvenTicks:
    """Numbers to store for a version that is consistent up to `through`.

    `pruned_through`: up to where its ticks were pruned when they were counted.
    """

    schedule_id: int
    version: int
    pruned_through: datetime | None
    through: datetime
    expected: int
    counts: dict[str, int]


@dataclass(frozen=True, slots=True)
class RecordedTicks:
    """A recorded tick, or a gap of `count` ticks from `first` to `last`."""

    first: datetime
    last: datetime
    count: int
    outcome: TickOutcome
    reason: TickReason | None


# All versions in one statement, each with the span that its rows and its numbers cover.
VERSIONS = """
SELECT v.schedule_id, v.version, v.spec, v.zone_data,
       coalesce(v.pruned_through, v.effective_from),
       coalesce(v.answers_until, s.evaluated_through), v.pruned_expected, v.pruned,
       v.pruned_through, v.proven_through, v.proven_expected, v.proven
FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id
ORDER BY v.schedule_id, v.version
"""

# Ticks and gaps merged in order, and read by a cursor: a version may have millions.
RECORDED_TICKS = """
SELECT scheduled_for, scheduled_for, 1, outcome, reason FROM ticks
WHERE schedule_id = $1 AND version = $2 AND scheduled_for > coalesce($3::timestamptz, '-infinity')
UNION ALL
SELECT first_tick, last_tick, count, outcome, reason FROM tick_gaps
WHERE schedule_id = $1 AND version = $2 AND last_tick > coalesce($3::timestamptz, '-infinity')
ORDER BY 1
"""

# Not if ticks were pruned meanwhile: the numbers would be of another set of rows.
MARK_PROVEN = """
UPDATE schedule_versions v
SET proven_through = p.through, proven_expected = p.expected, proven = p.counts
FROM unnest($1::bigint[], $2::int[], $3::timestamptz[], $4::timestamptz[], $5::bigint[],
            $6::jsonb[])
       AS p (schedule_id, version, pruned_through, through, expected, counts)
WHERE v.schedule_id = p.schedule_id AND v.version = p.version
  AND v.pruned_through IS NOT DISTINCT FROM p.pruned_through
"""

# Ticks with two scheduled runs, scheduled runs without their tick, and ticks inside a gap: those
# after $2.
INCONSISTENT = """
SELECT (SELECT count(*) FROM (
          SELECT 1 FROM runs WHERE schedule_id = $1 AND trigger = 'scheduled'
            AND scheduled_for > coalesce($2::timestamptz, '-infinity')
          GROUP BY scheduled_for HAVING count(*) > 1) AS twice)
     + (SELECT count(*) FROM runs r
        WHERE r.schedule_id = $1 AND r.trigger = 'scheduled'
          AND r.scheduled_for > coalesce($2::timestamptz, '-infinity')
          AND r.scheduled_for > coalesce((SELECT max(pruned_through) FROM schedule_versions
                                          WHERE schedule_id = $1), '-infinity') AND NOT EXISTS (
          SELECT 1 FROM ticks t WHERE t.schedule_id = $1 AND t.scheduled_for = r.scheduled_for
            AND t.scheduled_for > coalesce($2::timestamptz, '-infinity')
            AND t.run_id = r.execution_id))
     + (SELECT count(*) FROM ticks t JOIN tick_gaps g ON g.schedule_id = t.schedule_id
          AND t.scheduled_for BETWEEN g.first_tick AND g.last_tick AND t.version = g.version
        WHERE t.schedule_id = $1 AND t.scheduled_for > coalesce($2::timestamptz, '-infinity'))
"""

# All schedules in one statement: a proof of everything asks once, not for each of them.
STUCK = """
SELECT schedule_id, count(*) FROM runs
WHERE schedule_id IS NOT NULL AND (
  (status = 'running' AND lease_expires_at < $1::timestamptz - interval '1 minute')
  OR (status = 'queued'
      AND coalesce(not_before, queued_at) < $1::timestamptz - interval '5 minutes'))
GROUP BY schedule_id
"""

# A tick may be a row or part of a gap; without $2 it is the newest of either kind.
TICK = """
SELECT scheduled_for, t.version, outcome, reason, run_id, blocking_run_id, decided_at, 1::bigint,
       scheduled_for
FROM ticks t JOIN schedules s ON s.id = t.schedule_id
WHERE s.key = $1 AND ($2::timestamptz IS NULL OR scheduled_for = $2)
UNION ALL
SELECT first_tick, g.version, outcome, reason, NULL, NULL, decided_at, count, last_tick
FROM tick_gaps g JOIN schedules s ON s.id = g.schedule_id
WHERE s.key = $1 AND ($2::timestamptz IS NULL OR $2 BETWEEN first_tick AND last_tick)
ORDER BY 1 DESC LIMIT 1
"""

# One version by its number or, without $2, the one in force at $3; when and why it was replaced.
VERSION = """
SELECT v.version, v.spec, v.policies, v.zone_data, v.effective_from,
       later.effective_from, later.reason
FROM schedule_versions v LEFT JOIN schedule_versions later
  ON later.schedule_id = v.schedule_id AND later.version = v.version + 1
WHERE v.schedule_id = $1 AND (v.version = $2 OR $2 IS NULL AND v.effective_from < $3)
ORDER BY v.version DESC LIMIT 1
"""

# The newest pause that had begun by $2.
PAUSE = """
SELECT at, by, after ->> 'note' FROM schedule_edits
WHERE schedule_id = $1 AND action IN ('pause', 'paused') AND at <= $2
ORDER BY at DESC, id DESC LIMIT 1
"""
# The shortest time around $1 in which a worker that lived on sent no heartbeat.
SILENT = """
SELECT max(earlier.until), min(later.since)
FROM worker_beats earlier JOIN worker_beats later ON later.worker = earlier.worker
WHERE earlier.until <= $1 AND later.since > $1 AND NOT later.jumped
GROUP BY earlier.worker ORDER BY min(later.since) - max(earlier.until) LIMIT 1
"""
# The newest edit that disabled a collection by $2.
DISABLED = """
SELECT at, by FROM schedule_edits
WHERE schedule_id = $1 AND (after ->> 'enabled') = 'false' AND (before ->> 'enabled') = 'true'
  AND at <= $2
ORDER BY at DESC, id DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class TickDetail:
    """The decision about one tick; `count` is above 1 for a gap, which ends with `last`."""

    scheduled_for: datetime
    version: int
    outcome: TickOutcome
    reason: TickReason | None
    run_id: UUID | None
    blocking_run_id: UUID | None
    decided_at: datetime
    count: int
    last: datetime


@dataclass(frozen=True, slots=True)
class PastVersion:
    """A version in force since `since`, until it was replaced at `until` for `reason`."""

    version: int
    spec: dict[str, Any]
    policies: dict[str, Any]
    zone_data: str | None
    since: datetime
    until: datetime | None
    reason: str | None


async def versions(connection: Connection) -> dict[int, list[VersionRow]]:
    """Return every stored version of each schedule, in order, by the schedule's id."""
    found: dict[int, list[VersionRow]] = {}
    for row in await connection.fetch(VERSIONS):
        found.setdefault(row[0], []).append(VersionRow(*row))
    derived = ((one.spec, one.zone_data) for of_one in found.values() for one in of_one)
    await zones.ensure(connection, derived)
    return found


async def pruned_through(connection: Connection, schedule_id: int) -> datetime | None:
    """Return the instant up to which ticks are kept as numbers only; None if all rows are kept."""
    return await connection.fetchval(
        "SELECT max(pruned_through) FROM schedule_versions WHERE schedule_id = $1", schedule_id
    )


async def recorded_ticks(
    connection: Connection, version: VersionRow, after: datetime | None
) -> AsyncGenerator[RecordedTicks]:
    """Yield the ticks and gaps of one version, in order. Requires a transaction.

    Only those that end after `after`, unless it is None.
    """
    async for row in connection.cursor(
        RECORDED_TICKS, version.schedule_id, version.version, after, prefetch=2_000
    ):
        reason = None if row[4] is None else TickReason(row[4])
        yield RecordedTicks(row[0], row[1], row[2], TickOutcome(row[3]), reason)


async def count_inconsistent(
    connection: Connection, schedule_id: int, after: datetime | None
) -> int:
    """Count ticks with more than one outcome or run, and scheduled runs without a tick.

    Only those after `after`, unless it is None.
    """
    return await connection.fetchval(INCONSISTENT, schedule_id, after)


async def mark_proven(pool: Pool, proven: Sequence[ProvenTicks]) -> None:
    """Store up to where versions are proven, and the numbers; not on a server that is read-only."""
    if not proven:
        return
    with suppress(ReadOnlySQLTransactionError):
        rows = map(astuple, proven)
        await pool.execute(MARK_PROVEN, *map(list, zip(*rows, strict=True)))


async def count_stuck(connection: Connection, now: datetime) -> dict[int, int]:
    """Count open runs with an expired lease, or queued for more than five minutes, by schedule."""
    return {row[0]: row[1] for row in await connection.fetch(STUCK, now)}


async def tick(connection: Connection, key: str, at: datetime | None) -> TickDetail | None:
    """Return the tick at `at`, or with None the newest one decided; None if there is none."""
    row = await connection.fetchrow(TICK, key, at)
    if row is None:
        return None
    reason = None if row[3] is None else TickReason(row[3])
    return TickDetail(row[0], row[1], TickOutcome(row[2]), reason, *row[4:])


async def version(
    connection: Connection, schedule_id: int, number: int | None, at: datetime
) -> PastVersion | None:
    """Return the version of that number or, with None, the one in force at `at`.

    None if there is none, or only counts are left of it.
    """
    row = await connection.fetchrow(VERSION, schedule_id, number, at)
    if row is None:
        return None
    await zones.ensure(connection, [(row[1], row[3])])
    return PastVersion(*row)


async def pause_before(
    connection: Connection, schedule_id: int, at: datetime
) -> tuple[datetime, str, str | None] | None:
    """Return since when, by whom and why the schedule was paused last before `at`, if it was."""
    row = await connection.fetchrow(PAUSE, schedule_id, at)
    return None if row is None else (row[0], row[1], row[2])


async def silence(connection: Connection, at: datetime) -> tuple[datetime, datetime] | None:
    """Return from when to when a worker that was alive before and after sent no heartbeat.

    None if no worker did so at `at`.
    """
    row = await connection.fetchrow(SILENT, at)
    return None if row is None else (row[0], row[1])


async def disabled_before(
    connection: Connection, schedule_id: int, at: datetime
) -> tuple[datetime, str] | None:
    """Return when and by whom the schedule was disabled last before `at`, if that is recorded."""
    row = await connection.fetchrow(DISABLED, schedule_id, at)
    return None if row is None else (row[0], row[1])
