"""Queries for the dashboard's overview: a fixed number of statements for all schedules."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.store.db import Connection, Pool
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class ScheduleSummary:
    """The schedule's own fields in a row of the overview."""

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
    zone_data: str | None = None
    org_id: UUID | None = None
    paused_until: datetime | None = None
    retired_at: datetime | None = None


class TickSummary(msgspec.Struct, frozen=True, gc=False):
    """A tick and its run, if there is one that retention has not deleted."""

    schedule_id: int
    scheduled_for: datetime
    outcome: str
    reason: str | None
    status: str | None
    started_at: datetime | None
    seconds: float | None


@dataclass(frozen=True, slots=True)
class GapSummary:
    """Consecutive ticks with the same outcome and reason."""

    schedule_id: int
    first_tick: datetime
    last_tick: datetime
    count: int
    outcome: str
    reason: str


# The front page shows every built-in schedule.
BUILT_IN = """
SELECT id, key, job, spec, policies, enabled, paused_at, paused_by, paused_note,
       evaluated_through, next_tick_at, due_at, version, zone_data, org_id, paused_until, retired_at
FROM schedules WHERE org_id IS NULL AND retired_at IS NULL ORDER BY key
"""
# Filters by organisation itself, in addition to row-level security. The operator sees any.
ONE = """
SELECT id, key, job, spec, policies, enabled, paused_at, paused_by, paused_note,
       evaluated_through, next_tick_at, due_at, version, zone_data, org_id, paused_until, retired_at
FROM schedules WHERE key = $1 AND ($2::uuid IS NULL OR org_id = $2)
"""

# $4 is the earliest of the instants: no partition before it is read.
TICKS = """
SELECT s.id, seen.scheduled_for, outcome, reason, status, started_at, duration_seconds
FROM unnest($1::bigint[], $3::timestamptz[]) AS s (id, after)
CROSS JOIN LATERAL (
  SELECT t.scheduled_for, t.outcome, t.reason, r.status, r.started_at, r.duration_seconds
  FROM (
    SELECT scheduled_for, outcome, reason FROM ticks
    WHERE schedule_id = s.id AND scheduled_for > s.after AND scheduled_for > $4
    ORDER BY scheduled_for DESC LIMIT $2) t
  LEFT JOIN (
    SELECT scheduled_for, status, started_at, duration_seconds FROM runs
    WHERE schedule_id = s.id AND trigger = 'scheduled' AND scheduled_for > s.after
    ORDER BY scheduled_for DESC LIMIT $2) r ON r.scheduled_for = t.scheduled_for
) seen
"""

# LATERAL: a limit per schedule, and one statement for all of them.
GAPS = """
SELECT s.id, g.first_tick, g.last_tick, g.count, g.outcome, g.reason
FROM unnest($1::bigint[]) AS s (id)
CROSS JOIN LATERAL (
  SELECT first_tick, last_tick, count, outcome, reason FROM tick_gaps
  WHERE schedule_id = s.id ORDER BY first_tick DESC LIMIT $2) g
"""

# By the index on `until`: intervals that overlap the period shown. The limit bounds the page.
BEATS = """
SELECT since, until FROM worker_beats WHERE until >= $1 ORDER BY since LIMIT 5000
"""

# Every change that the page can show changes one of these values. No growing table is scanned.
PULSE = """
SELECT coalesce((SELECT max(id) FROM run_events), 0),
       (SELECT concat_ws(' ', sum(extract(epoch FROM evaluated_through)),
                         sum(extract(epoch FROM paused_at)), sum(id) FILTER (WHERE enabled),
                         sum(version))
        FROM schedules WHERE org_id IS NULL)
"""

# The same for the collections of one organisation.
ORG_PULSE = """
SELECT concat_ws(' ',
  (SELECT concat(sum(revision), ' ', sum(extract(epoch FROM evaluated_through)))
   FROM schedules WHERE org_id = $1),
  (SELECT string_agg(concat(execution_id, status, attempt), ' ')
   FROM (SELECT execution_id, status, attempt FROM runs WHERE org_id = $1
         ORDER BY created_at DESC, execution_id LIMIT 25) r))
"""

# The front page shows the newest runs. `job` is the schedule's name, also of a manual run.
RECENT = """
SELECT r.execution_id, r.trigger, r.requested_by, r.status, r.scheduled_for, r.queued_at,
       r.started_at, r.completed_at, r.duration_seconds, r.error_type, r.error_message,
       coalesce(s.key, CASE WHEN r.job = 'source' THEN 'source:' || (r.params ->> 'source') END,
                r.job) AS job
FROM unnest($1::text[]) AS t (task)
CROSS JOIN LATERAL (
  SELECT * FROM runs WHERE runs.job = t.task AND org_id IS NULL
  ORDER BY created_at DESC LIMIT $2) r
LEFT JOIN schedules s ON s.id = r.schedule_id
ORDER BY r.created_at DESC LIMIT $2
"""


async def built_in(connection: Pool | Connection) -> list[ScheduleSummary]:
    """Return the built-in schedules, by key."""
    lines = [ScheduleSummary(*row) for row in await connection.fetch(BUILT_IN)]
    await zones.ensure(connection, ((line.spec, line.zone_data) for line in lines))
    return lines


async def one(
    connection: Pool | Connection, key: str, org_id: UUID | None
) -> ScheduleSummary | None:
    """Return one schedule of this organisation, or with None of anyone; None if there is none."""
    row = await connection.fetchrow(ONE, key, org_id)
    if row is None:
        return None
    line = ScheduleSummary(*row)
    await zones.ensure(connection, [(line.spec, line.zone_data)])
    return line


async def ticks(
    connection: Pool | Connection, after: Mapping[int, datetime], limit: int
) -> list[TickSummary]:
    """Return the last `limit` ticks of each schedule, later than the given instant."""
    if not after:
        return []
    instants = list(after.values())
    rows = await connection.fetch(TICKS, list(after), limit, instants, min(instants))
    return [TickSummary(*row) for row in rows]


async def gaps(connection: Pool | Connection, ids: Sequence[int], limit: int) -> list[GapSummary]:
    """Return the last `limit` gaps of each schedule, newest first within a schedule."""
    return [GapSummary(*row) for row in await connection.fetch(GAPS, ids, limit)]


async def heartbeats(
    connection: Pool | Connection, since: datetime
) -> list[tuple[datetime, datetime]]:
    """Return the heartbeat intervals that end at or after `since`, ordered by start."""
    return [(row[0], row[1]) for row in await connection.fetch(BEATS, since)]


async def change_marker(connection: Pool | Connection) -> tuple[int, str]:
    """Return two values that change whenever anything on the page changes."""
    row = await connection.fetchrow(PULSE)
    return (0, "") if row is None else (row[0], row[1])


async def org_change_marker(connection: Pool | Connection, org_id: UUID) -> str:
    """Return a text that changes whenever the organisation's collections or their runs do."""
    return await connection.fetchval(ORG_PULSE, org_id)


async def recent(
    connection: Pool | Connection, tasks: Sequence[str], limit: int
) -> list[dict[str, Any]]:
    """Return the newest of the operator's runs of these tasks, as plain rows."""
    return [dict(row) for row in await connection.fetch(RECENT, tasks, limit)]
