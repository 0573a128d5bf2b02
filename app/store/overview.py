"""What the dashboard shows of many schedules at once: a few statements, however many there are."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class ScheduleLine:
    """A schedule as a row of the page begins with it."""

    id: int
    key: str
    job: str
    spec: dict[str, Any]
    policies: dict[str, Any]
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    evaluated_through: datetime
    next_tick_at: datetime | None
    due_at: datetime | None
    version: int


class TickLine(msgspec.Struct, frozen=True, gc=False):
    """A tick and what became of its run, if it made one that is still kept."""

    schedule_id: int
    scheduled_for: datetime
    outcome: str
    reason: str | None
    status: str | None
    started_at: datetime | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GapLine:
    """A stretch of ticks that ended alike."""

    schedule_id: int
    first_tick: datetime
    last_tick: datetime
    count: int
    outcome: str
    reason: str


COLUMNS = (
    "s.id, s.key, s.job, s.spec, s.policies, s.enabled, s.paused_at, s.paused_by, s.paused_note,"
    " s.evaluated_through, s.next_tick_at, s.due_at, s.version"
)
BUILT_IN = f"""
SELECT {COLUMNS} FROM schedules s WHERE s.org_id IS NULL AND s.retired_at IS NULL ORDER BY s.key
"""  # noqa: S608 - our own columns
# What row-level security says already is said again: two locks on the door.
ONE = f"""
SELECT {COLUMNS} FROM schedules s WHERE s.key = $1 AND (s.org_id IS NULL OR s.org_id = $2)
"""  # noqa: S608 - our own columns

TICKS = """
SELECT s.id, seen.scheduled_for, outcome, reason, status, started_at, duration_seconds
FROM unnest($1::bigint[], $3::timestamptz[]) AS s (id, after)
CROSS JOIN LATERAL (
  SELECT t.scheduled_for, t.outcome, t.reason, r.status, r.started_at, r.duration_seconds
  FROM (
    SELECT scheduled_for, outcome, reason FROM ticks
    WHERE schedule_id = s.id AND scheduled_for > s.after
    ORDER BY scheduled_for DESC LIMIT $2) t
  LEFT JOIN (
    SELECT scheduled_for, status, started_at, duration_seconds FROM runs
    WHERE schedule_id = s.id AND trigger = 'scheduled' AND scheduled_for > s.after
    ORDER BY scheduled_for DESC LIMIT $2) r ON r.scheduled_for = t.scheduled_for
) seen
"""

GAPS = """
SELECT s.id, g.first_tick, g.last_tick, g.count, g.outcome, g.reason
FROM unnest($1::bigint[]) AS s (id)
CROSS JOIN LATERAL (
  SELECT first_tick, last_tick, count, outcome, reason FROM tick_gaps
  WHERE schedule_id = s.id ORDER BY first_tick DESC LIMIT $2) g
"""

BEATS = """
SELECT since, until FROM worker_beats WHERE until >= $1 ORDER BY since LIMIT 5000
"""

# Everything that a page may show moves one of these. No table that grows is read.
PULSE = """
SELECT coalesce((SELECT max(id) FROM run_events), 0),
       (SELECT coalesce(sum(extract(epoch FROM evaluated_through)), 0) + count(paused_at)
               + count(*) FILTER (WHERE enabled) + sum(version)
        FROM schedules WHERE org_id IS NULL)::text
"""

RECENT = """
SELECT r.* FROM unnest($1::text[]) AS j (job)
CROSS JOIN LATERAL (
  SELECT execution_id, job, trigger, status, scheduled_for, queued_at, started_at, completed_at,
         duration_seconds, error_type, error_message, created_at
  FROM runs WHERE runs.job = j.job AND org_id IS NULL
  ORDER BY created_at DESC LIMIT $2) r
ORDER BY r.created_at DESC LIMIT $2
"""


async def built_in(connection: Pool | Connection) -> list[ScheduleLine]:
    """The schedules that code declares, by key."""
    return [ScheduleLine(*row) for row in await connection.fetch(BUILT_IN)]


async def one(connection: Pool | Connection, key: str, org_id: UUID) -> ScheduleLine | None:
    """One schedule, of the house or of this organisation."""
    row = await connection.fetchrow(ONE, key, org_id)
    return None if row is None else ScheduleLine(*row)


async def ticks(
    connection: Pool | Connection, after: Mapping[int, datetime], most: int
) -> list[TickLine]:
    """The last `most` ticks of each schedule that are later than the instant named for it."""
    rows = await connection.fetch(TICKS, list(after), most, list(after.values()))
    return [TickLine(*row) for row in rows]


async def gaps(connection: Pool | Connection, ids: Sequence[int], most: int) -> list[GapLine]:
    """The last `most` compressed stretches of each schedule, newest first within one."""
    return [GapLine(*row) for row in await connection.fetch(GAPS, ids, most)]


async def beats(connection: Pool | Connection, since: datetime) -> list[tuple[datetime, datetime]]:
    """When workers were beating, from `since` on, in order of their beginning."""
    return [(row[0], row[1]) for row in await connection.fetch(BEATS, since)]


async def pulse(connection: Pool | Connection) -> tuple[int, str]:
    """Two values that change with anything a page shows."""
    row = await connection.fetchrow(PULSE)
    return (0, "") if row is None else (row[0], row[1])


async def recent(
    connection: Pool | Connection, jobs: Sequence[str], most: int
) -> list[dict[str, Any]]:
    """The newest runs of the house itself, of these jobs, as plain rows."""
    return [dict(row) for row in await connection.fetch(RECENT, jobs, most)]
