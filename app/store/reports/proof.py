"""Queries for the proof: schedule versions, the outcomes of their ticks, and their runs."""

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import TickOutcome, TickReason
from app.store.db import Connection
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class VersionRow:
    """One version of a schedule and the ticks it covers: (since, until].

    `pruned_expected`: the number of earlier ticks, which retention deleted. `pruned`: their number
    by outcome and reason. `zone_data`: the stamp of the zone data that its ticks are derived with.
    """

    schedule_id: int
    version: int
    spec: dict[str, Any]
    zone_data: str | None
    since: datetime
    until: datetime
    pruned_expected: int
    pruned: dict[str, int]


@dataclass(frozen=True, slots=True)
class RecordedTicks:
    """A recorded tick, or a gap of `count` ticks from `first` to `last`."""

    first: datetime
    last: datetime
    count: int
    outcome: TickOutcome
    reason: TickReason | None


VERSIONS = """
SELECT v.schedule_id, v.version, v.spec, v.zone_data,
       coalesce(v.pruned_through, v.effective_from),
       coalesce(v.answers_until, s.evaluated_through), v.pruned_expected, v.pruned
FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id
WHERE s.key = $1 ORDER BY v.version
"""

RECORDED_TICKS = """
SELECT scheduled_for, scheduled_for, 1, outcome, reason FROM ticks
WHERE schedule_id = $1 AND version = $2
UNION ALL
SELECT first_tick, last_tick, count, outcome, reason FROM tick_gaps
WHERE schedule_id = $1 AND version = $2
ORDER BY 1
"""

# Ticks with two scheduled runs, scheduled runs without their tick, and ticks inside a gap.
INCONSISTENT = """
SELECT (SELECT count(*) FROM (
          SELECT 1 FROM runs WHERE schedule_id = $1 AND trigger = 'scheduled'
          GROUP BY scheduled_for HAVING count(*) > 1) AS twice)
     + (SELECT count(*) FROM runs r
        WHERE r.schedule_id = $1 AND r.trigger = 'scheduled'
          AND r.scheduled_for > coalesce((SELECT max(pruned_through) FROM schedule_versions
                                          WHERE schedule_id = $1), '-infinity') AND NOT EXISTS (
          SELECT 1 FROM ticks t WHERE t.schedule_id = $1 AND t.scheduled_for = r.scheduled_for
            AND t.run_id = r.execution_id))
     + (SELECT count(*) FROM ticks t JOIN tick_gaps g ON g.schedule_id = t.schedule_id
          AND t.scheduled_for BETWEEN g.first_tick AND g.last_tick AND t.version = g.version
        WHERE t.schedule_id = $1)
"""

STUCK = """
SELECT count(*) FROM runs
WHERE schedule_id = $1 AND (
  (status = 'running' AND lease_expires_at < $2::timestamptz - interval '1 minute')
  OR (status = 'queued'
      AND coalesce(not_before, queued_at) < $2::timestamptz - interval '5 minutes'))
"""

TICK = """
SELECT scheduled_for, t.version, outcome, reason, run_id, blocking_run_id, decided_at, 1::bigint
FROM ticks t JOIN schedules s ON s.id = t.schedule_id
WHERE s.key = $1 AND ($2::timestamptz IS NULL OR scheduled_for = $2)
UNION ALL
SELECT first_tick, g.version, outcome, reason, NULL, NULL, decided_at, count
FROM tick_gaps g JOIN schedules s ON s.id = g.schedule_id
WHERE s.key = $1 AND ($2::timestamptz IS NULL OR $2 BETWEEN first_tick AND last_tick)
ORDER BY 1 DESC LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class TickDetail:
    """The decision about one tick; `count` is above 1 for a gap."""

    scheduled_for: datetime
    version: int
    outcome: TickOutcome
    reason: TickReason | None
    run_id: UUID | None
    blocking_run_id: UUID | None
    decided_at: datetime
    count: int


async def versions(connection: Connection, key: str) -> list[VersionRow]:
    """Return every stored version of a schedule, in order."""
    rows = [VersionRow(*row) for row in await connection.fetch(VERSIONS, key)]
    await zones.ensure(connection, ((row.spec, row.zone_data) for row in rows))
    return rows


async def pruned_through(connection: Connection, schedule_id: int) -> datetime | None:
    """Return the instant up to which ticks are kept as numbers only; None if all rows are kept."""
    at: datetime | None = await connection.fetchval(
        "SELECT max(pruned_through) FROM schedule_versions WHERE schedule_id = $1", schedule_id
    )
    return at


async def recorded_ticks(
    connection: Connection, version: VersionRow
) -> AsyncGenerator[RecordedTicks]:
    """Yield the ticks and gaps of one version, in order. Requires a transaction."""
    async for row in connection.cursor(
        RECORDED_TICKS, version.schedule_id, version.version, prefetch=2_000
    ):
        reason = None if row[4] is None else TickReason(row[4])
        yield RecordedTicks(row[0], row[1], row[2], TickOutcome(row[3]), reason)


async def count_inconsistent(connection: Connection, schedule_id: int) -> int:
    """Count ticks with more than one outcome or run, and scheduled runs without a tick."""
    count: int = await connection.fetchval(INCONSISTENT, schedule_id)
    return count


async def count_stuck(connection: Connection, schedule_id: int, now: datetime) -> int:
    """Count open runs with an expired lease, or queued for more than five minutes."""
    count: int = await connection.fetchval(STUCK, schedule_id, now)
    return count


async def tick(connection: Connection, key: str, at: datetime | None) -> TickDetail | None:
    """Return the tick at `at`, or with None the newest one decided; None if there is none."""
    row = await connection.fetchrow(TICK, key, at)
    if row is None:
        return None
    reason = None if row[3] is None else TickReason(row[3])
    return TickDetail(row[0], row[1], TickOutcome(row[2]), reason, *row[4:])


async def events(connection: Connection, run_id: UUID) -> list[dict[str, Any]]:
    """Return the events of a run, in order."""
    rows = await connection.fetch(
        "SELECT at, event, attempt, worker, detail FROM run_events"
        " WHERE execution_id = $1 ORDER BY id",
        run_id,
    )
    return [dict(row) for row in rows]
