"""Cumulative metric totals, which database triggers feed and `fold` adds up, also for trends."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from app.store.db import Connection, Pool
from app.store.reports import trends

DURATIONS = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)  # seconds
LATENESSES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0, 60.0, 300.0, 3600.0)  # seconds
MAX_SOURCES = 100  # further sources are counted together, as `other`
BATCH = 20_000
FOLD_LOCK = 0x726F_6C6C_0001  # key of an advisory lock

# `job` is the schedule's name; the collections of all organisations are counted as one.
# The names of organisations' own sources (`recipe:NAME`) are private: they are counted as one.
# Totals are updated in key order, so that two writers cannot deadlock.
FOLD = """
WITH taken AS (
  DELETE FROM metric_pending WHERE id IN (SELECT id FROM metric_pending ORDER BY id LIMIT $1)
  RETURNING execution_id, job, outcome, reason, count
), ended AS (
  SELECT r.execution_id,
         CASE WHEN r.org_id IS NOT NULL THEN 'collection'
              ELSE coalesce(s.key, CASE WHEN r.job = 'source'
                                        THEN 'source:' || (r.params ->> 'source') END, r.job)
              END AS job,
         r.status, r.duration_seconds AS took,
         CASE WHEN r.trigger = 'scheduled'
              THEN greatest(extract(epoch FROM r.started_at - r.scheduled_for), 0)::float8 END AS late
  FROM taken t JOIN runs r ON r.execution_id = t.execution_id
  LEFT JOIN schedules s ON s.id = r.schedule_id
), sources AS (
  SELECT CASE WHEN starts_with(q.source, 'recipe:') THEN 'recipe' ELSE q.source END AS source,
         q.inserted, q.changed, q.unchanged, q.rejected, q.requests, q.throttled_ms, q.counts
  FROM ended e JOIN run_sources q ON q.execution_id = e.execution_id
), known AS (
  SELECT DISTINCT first AS source FROM metric_totals WHERE name = 'throttled'
), added_sources AS (
  SELECT source FROM sources
  EXCEPT SELECT source FROM known
  ORDER BY 1 LIMIT greatest($4 - (SELECT count(*) FROM known), 0)
), named AS (
  SELECT source FROM known UNION ALL SELECT source FROM added_sources
), named_sources AS (
  SELECT coalesce(k.source, 'other') AS source,
         q.inserted, q.changed, q.unchanged, q.rejected, q.requests, q.throttled_ms,
         coalesce(q.counts -> 'classes', '{}') AS classes
  FROM sources q LEFT JOIN named k ON k.source = q.source
), lines (name, first, second, third, value) AS (
  SELECT 'ticks', job, outcome, coalesce(reason, ''), count::float8 FROM taken WHERE job IS NOT NULL
  UNION ALL SELECT 'runs', job, status, '', 1 FROM ended
  UNION ALL SELECT 'duration', job, width_bucket(took, $2::float8[])::text, '', 1
            FROM ended WHERE took IS NOT NULL
  UNION ALL SELECT 'duration_sum', job, '', '', took FROM ended WHERE took IS NOT NULL
  UNION ALL SELECT 'lateness', job, width_bucket(late, $3::float8[])::text, '', 1
            FROM ended WHERE late IS NOT NULL
  UNION ALL SELECT 'lateness_sum', job, '', '', late FROM ended WHERE late IS NOT NULL
  UNION ALL SELECT 'records', source, change, '', n
            FROM named_sources, LATERAL (VALUES ('inserted', inserted), ('changed', changed),
              ('unchanged', unchanged), ('rejected', rejected)) AS v (change, n)
  UNION ALL SELECT 'throttled', source, '', '', throttled_ms / 1000.0 FROM named_sources
  UNION ALL SELECT 'requests', source, c.key, '', c.value::float8
            FROM named_sources, LATERAL jsonb_each_text(classes) AS c
  UNION ALL SELECT 'requests', source, 'other', '',
              requests - (SELECT coalesce(sum(value::float8), 0) FROM jsonb_each_text(classes))
            FROM named_sources
), added AS (
  INSERT INTO metric_totals (name, first, second, third, value)
  SELECT name, first, second, third, sum(value) FROM lines
  GROUP BY name, first, second, third ORDER BY name, first, second, third
  ON CONFLICT (name, first, second, third)
    DO UPDATE SET value = metric_totals.value + excluded.value
)
SELECT (SELECT count(*) FROM taken), array(SELECT execution_id FROM ended)
"""  # noqa: E501

# A plan that was made while nothing waited would read all of it again for each row.
BEGIN_FOLD = """
SELECT pg_try_advisory_xact_lock($1), set_config('plan_cache_mode', 'force_custom_plan', true)
"""

# By the primary key, so that two scrapes have their lines in the same order.
TOTALS = "SELECT name, first, second, third, value FROM metric_totals ORDER BY 1, 2, 3, 4"

# All numbers of the backlog in one statement, by the partial index of queued runs.
WAITING = """
SELECT count(*) FILTER (WHERE org_id IS NULL), count(*) FILTER (WHERE org_id IS NOT NULL),
       coalesce(extract(epoch FROM now() - min(due) FILTER (WHERE org_id IS NULL)), 0)::float8,
       coalesce(extract(epoch FROM now() - min(due)
                                  FILTER (WHERE org_id IS NOT NULL)), 0)::float8,
       coalesce(extract(epoch FROM now() - (
         SELECT min(due_at) FROM schedules
         WHERE org_id IS NOT NULL AND due_at <= now() AND key <> ALL ($1::text[]))), 0)::float8
FROM (SELECT org_id, coalesce(not_before, queued_at) AS due FROM runs
      WHERE status = 'queued' AND coalesce(not_before, queued_at) <= now()) AS waiting
"""

# Collections whose ticks nobody has decided for a minute, by the index of what is due.
OVERDUE = """
SELECT key, spec, policies FROM schedules
WHERE org_id IS NOT NULL AND due_at < now() - interval '1 minute' ORDER BY due_at LIMIT $1
"""


@dataclass(frozen=True, slots=True)
class MetricTotal:
    """One counter with up to three label values."""

    name: str
    first: str
    second: str
    third: str
    value: float


@dataclass(frozen=True, slots=True)
class QueueBacklog:
    """The backlog: numbers of queued runs of jobs and of collections, and their highest age.

    Ages are in seconds. `collections_lag`: seconds by which the dispatch of collections lags.
    `held`: collections whose ticks nobody decides, since their schedules cannot be read.
    """

    jobs: int
    collections: int
    jobs_age: float
    collections_age: float
    collections_lag: float
    held: int = 0


async def fold(pool: Pool) -> int:
    """Add pending outcomes to totals and trends, each exactly once; returns how many were added.

    Does nothing while another process does it.
    """
    async with pool.acquire() as connection, connection.transaction():
        if not await connection.fetchval(BEGIN_FOLD, FOLD_LOCK):
            return 0
        row = await connection.fetchrow(
            FOLD, BATCH, _bounds(DURATIONS), _bounds(LATENESSES), MAX_SOURCES
        )
        if row is None:
            return 0
        await trends.count(connection, row[1])
        return row[0]


def _bounds(limits: Sequence[float]) -> list[float]:
    # Prometheus buckets include their upper bound, those of width_bucket exclude it.
    return [limit + 1e-9 for limit in limits]


async def totals(pool: Pool | Connection) -> list[MetricTotal]:
    """Return every counter."""
    return [MetricTotal(*row) for row in await pool.fetch(TOTALS)]


async def overdue_collections(pool: Pool | Connection, limit: int) -> list[Sequence[Any]]:
    """Return key, spec and policies of overdue collections, the longest overdue first."""
    return [tuple(row) for row in await pool.fetch(OVERDUE, limit)]


async def queue_backlog(pool: Pool | Connection, held: Sequence[str] = ()) -> QueueBacklog:
    """Return the present backlog of queued runs; the dispatch does not lag for what is `held`."""
    row = await pool.fetchrow(WAITING, list(held))
    found = QueueBacklog(0, 0, 0.0, 0.0, 0.0) if row is None else QueueBacklog(*row)
    return replace(found, held=len(held))
