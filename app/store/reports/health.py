"""Health queries: facts of each built-in job, and counts of collections by state."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Any, cast

from app.store.db import Connection, Pool
from app.store.schedules import zones

LOOK_BACK = timedelta(days=3)
NEWEST_TICKS = 100  # as the statements say


@dataclass(frozen=True, slots=True)
class JobRow:
    """A schedule and the facts of its latest runs and ticks.

    `ends`: status, error type, broken expectation and completion time of the newest finished runs.
    `ticks`: outcome, reason, instant and count of the newest ticks and gaps. Both newest first.
    `late_by`: the least lateness of the last three scheduled runs, in seconds.
    `last_new`: when a run last inserted or changed a record.
    `sources`: the sources of the last twenty finished runs: name, status, error kind and message,
    and the run's status and end, newest run first. `sources_new`: when each source of a job with
    several last inserted or changed a record. `ill_since`: since when alerts have it at fault.
    `stamp`: that of `health_changes`, when this was read.
    """

    key: str
    job: str
    spec: dict[str, Any]
    policies: dict[str, Any]
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    next_tick_at: datetime | None
    registered_at: datetime
    zone_data: str | None
    ends: Sequence[tuple[str, str | None, str | None, datetime]]
    last_error: str | None
    last_success: datetime | None
    running_since: datetime | None
    ticks: Sequence[tuple[str, str | None, datetime, int]]
    late_by: float | None
    last_new: datetime | None
    sources: Sequence[tuple[str, str, str | None, str | None, str, datetime]]
    sources_new: Sequence[tuple[str, datetime]]
    ill_since: datetime | None
    stamp: str


# Every part is bounded by a LIMIT, so that the cost does not grow with a schedule's history. No
# partition of ticks before $1 is read: `seen` tells whether the ticks after it are enough.
FACTS = """
SELECT s.key, s.job, s.spec, s.policies, s.enabled, s.paused_at, s.paused_by, s.paused_note,
       s.next_tick_at, s.created_at, s.zone_data,
       l.statuses, l.errors, l.breaches, l.ended, l.message, g.completed_at, o.started_at,
       t.outcomes, t.reasons, t.instants, t.counts, w.late, n.completed_at,
       q.names, q.statuses, q.kinds, q.messages, q.runs, q.ended, f.names, f.ended, h.ill_since,
       concat(s.xmin, ' ', h.ill_since) AS stamp,
       CASE WHEN s.version = 1 AND s.effective_from > $1 THEN 100 ELSE t.seen END AS seen
FROM schedules s
LEFT JOIN health_states h ON h.key = s.key AND h.ill
LEFT JOIN LATERAL (
  SELECT array_agg(status) AS statuses, array_agg(error_type) AS errors,
         array_agg(stats ->> 'breach') AS breaches, array_agg(completed_at) AS ended,
         (array_agg(error_message))[1] AS message
  FROM (SELECT status, error_type, stats, completed_at, error_message FROM runs r
        WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
        ORDER BY r.created_at DESC LIMIT 100) AS newest) l ON true
LEFT JOIN LATERAL (
  SELECT completed_at FROM runs r WHERE r.schedule_id = s.id AND r.status = 'success'
  ORDER BY r.created_at DESC LIMIT 1) g ON true
LEFT JOIN LATERAL (
  SELECT started_at FROM runs r WHERE r.schedule_id = s.id AND r.status = 'running'
  ORDER BY r.created_at LIMIT 1) o ON true
LEFT JOIN LATERAL (
  SELECT array_agg(outcome ORDER BY at DESC) AS outcomes,
         array_agg(reason ORDER BY at DESC) AS reasons,
         array_agg(at ORDER BY at DESC) AS instants,
         array_agg(count ORDER BY at DESC) AS counts, count(*) FILTER (WHERE single) AS seen
  FROM ((SELECT scheduled_for AS at, outcome, reason, 1::bigint AS count, true AS single FROM ticks
         WHERE schedule_id = s.id AND scheduled_for > $1 ORDER BY scheduled_for DESC LIMIT 100)
        UNION ALL
        (SELECT last_tick, outcome, reason, count, false FROM tick_gaps
         WHERE schedule_id = s.id ORDER BY first_tick DESC LIMIT 10)) AS newest) t ON true
LEFT JOIN LATERAL (
  SELECT CASE WHEN count(*) = 3 THEN min(late) END AS late
  FROM (SELECT extract(epoch FROM started_at - scheduled_for)::float8 AS late FROM runs r
        WHERE r.schedule_id = s.id AND r.trigger = 'scheduled' AND r.started_at IS NOT NULL
        ORDER BY r.created_at DESC LIMIT 3) AS newest) w ON true
LEFT JOIN LATERAL (
  SELECT r.completed_at
  FROM (SELECT execution_id, completed_at, created_at FROM runs r
        WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
        ORDER BY r.created_at DESC LIMIT 500) AS r
  WHERE EXISTS (SELECT 1 FROM run_sources q WHERE q.execution_id = r.execution_id
                AND q.inserted + q.changed > 0)
  ORDER BY r.created_at DESC LIMIT 1) n ON true
LEFT JOIN LATERAL (
  SELECT array_agg(q.source ORDER BY r.created_at DESC) AS names,
         array_agg(q.status ORDER BY r.created_at DESC) AS statuses,
         array_agg(q.error_kind ORDER BY r.created_at DESC) AS kinds,
         array_agg(left(q.error_message, 300) ORDER BY r.created_at DESC) AS messages,
         array_agg(r.status ORDER BY r.created_at DESC) AS runs,
         array_agg(r.completed_at ORDER BY r.created_at DESC) AS ended,
         count(DISTINCT q.source) AS sources
  FROM (SELECT execution_id, status, completed_at, created_at FROM runs r
        WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
        ORDER BY r.created_at DESC LIMIT 20) AS r
  JOIN run_sources q ON q.execution_id = r.execution_id) q ON true
LEFT JOIN LATERAL (
  SELECT array_agg(k.source) AS names, array_agg(e.completed_at) AS ended
  FROM (SELECT DISTINCT unnest(q.names) AS source WHERE q.sources > 1) k
  JOIN LATERAL (
    SELECT r.completed_at
    FROM (SELECT execution_id, completed_at, created_at FROM runs r
          WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
          ORDER BY r.created_at DESC LIMIT 500) AS r
    WHERE EXISTS (SELECT 1 FROM run_sources p WHERE p.execution_id = r.execution_id
                  AND p.source = k.source AND p.inserted + p.changed > 0)
    ORDER BY r.created_at DESC LIMIT 1) e ON true) f ON true
WHERE s.org_id IS NULL AND s.retired_at IS NULL
"""
ALL = f"{FACTS} ORDER BY s.key"
SOME = f"{FACTS} AND s.key = ANY ($2::text[])"
# The newest ticks and gaps of schedules that are not due often.
ALL_TICKS = """
SELECT k.key, t.outcomes, t.reasons, t.instants, t.counts
FROM unnest($1::text[]) AS k (key) JOIN schedules s USING (key)
CROSS JOIN LATERAL (
  SELECT array_agg(outcome ORDER BY at DESC) AS outcomes,
         array_agg(reason ORDER BY at DESC) AS reasons,
         array_agg(at ORDER BY at DESC) AS instants,
         array_agg(count ORDER BY at DESC) AS counts
  FROM ((SELECT scheduled_for AS at, outcome, reason, 1::bigint AS count FROM ticks
         WHERE schedule_id = s.id ORDER BY scheduled_for DESC LIMIT 100)
        UNION ALL
        (SELECT last_tick, outcome, reason, count FROM tick_gaps
         WHERE schedule_id = s.id ORDER BY first_tick DESC LIMIT 10)) AS newest) t
"""

# The state of the collection of the schedule `s` at $1, which is judged by fewer facts than a job:
# its due time, and its last three finished runs and their sources. The older two are only read if
# the newest one was not a success.
COLLECTION_STATE = """
CASE WHEN NOT s.enabled OR s.paused_at IS NOT NULL OR EXISTS (
       SELECT FROM organizations o WHERE o.id = s.org_id AND o.disabled_at IS NOT NULL)
       THEN 'paused'
     WHEN s.due_at < $1::timestamptz - greatest(
            interval '1 minute',
            (s.policies ->> 'misfire_grace_seconds')::float8 * interval '1 second')
       THEN 'overdue'
     ELSE coalesce((
       SELECT CASE WHEN r.status IN ('failure', 'timed_out', 'lost')
                AND r.error_type IS DISTINCT FROM 'local_network' AND (
                SELECT bool_and(failed)
                FROM (SELECT r.status IN ('failure', 'timed_out', 'lost')
                        AND r.error_type IS DISTINCT FROM 'local_network' AS failed
                      FROM runs r
                      WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
                      ORDER BY r.created_at DESC LIMIT 3) AS newest) THEN 'failing'
              WHEN r.status = 'partial_failure' AND EXISTS (
                SELECT FROM (SELECT r.execution_id FROM runs r
                             WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
                             ORDER BY r.created_at DESC LIMIT 3) AS newest
                JOIN run_sources q ON q.execution_id = newest.execution_id
                WHERE q.status = 'failure' AND q.error_kind IS DISTINCT FROM 'local_network'
                GROUP BY q.source HAVING count(*) = 3) THEN 'failing'
              ELSE 'healthy' END
       FROM runs r
       WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
       ORDER BY r.created_at DESC LIMIT 1), 'not_started') END
"""
# All collections, by state.
COUNTED = f"""
SELECT state, count(*)
FROM (SELECT {COLLECTION_STATE} AS state
      FROM schedules s WHERE s.org_id IS NOT NULL AND s.next_tick_at IS NOT NULL) AS judged
GROUP BY state
"""  # noqa: S608 - a constant


async def facts(pool: Pool, now: datetime, keys: Sequence[str] | None = None) -> list[JobRow]:
    """Return the facts of every built-in schedule, or of those with these keys."""
    since = now - LOOK_BACK
    rows = await (pool.fetch(ALL, since) if keys is None else pool.fetch(SOME, since, keys))
    found = [_job_row(tuple(row)) for row in rows]
    rare = [row["key"] for row in rows if row["seen"] < NEWEST_TICKS]
    if rare:
        ticks = {row[0]: _zipped(row[1:]) for row in await pool.fetch(ALL_TICKS, rare)}
        found = [replace(row, ticks=ticks.get(row.key, row.ticks)) for row in found]
    await zones.ensure(pool, ((row.spec, row.zone_data) for row in found))
    return found


async def count_collections(pool: Pool | Connection, now: datetime) -> dict[str, int]:
    """Count collections by state: healthy, overdue, failing, not_started, paused."""
    rows = await pool.fetch(COUNTED, now, timeout=60)
    return {row[0]: row[1] for row in rows}


def _job_row(row: tuple[Any, ...]) -> JobRow:
    schedule, ends, latest, ticks, rest = row[:11], row[11:15], row[15:18], row[18:22], row[22:24]
    sources = (_zipped(row[24:30]), _zipped(row[30:32]))
    fields = [*schedule, _zipped(ends), *latest, _zipped(ticks), *rest, *sources, *row[32:34]]
    return JobRow(*cast("list[Any]", fields))


def _zipped(arrays: Sequence[Sequence[Any] | None]) -> Sequence[tuple[Any, ...]]:
    return tuple(zip(*(array or () for array in arrays), strict=True))
