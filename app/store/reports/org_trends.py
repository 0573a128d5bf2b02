"""Trends of one organisation, from its own runs: their number is limited, unlike that of all."""

from collections import Counter
from collections.abc import Iterable
from datetime import datetime
from math import floor, log2
from uuid import UUID

from app.core.enums import TrendKind
from app.store.db import Connection
from app.store.reports.trends import BUCKETS_PER_DOUBLING, SHORTEST, TrendPoint

MAX_RUNS = 20_000  # the newest, of which the index of the organisation's runs has the order

# Per source or per job, by $3. The limit applies before anything is joined.
READ = """
WITH ended AS (
  SELECT r.execution_id, r.status, r.duration_seconds AS took, coalesce(s.key, r.job) AS job,
         date_bin($2 * interval '1 second', r.completed_at, 'epoch'::timestamptz) AS bin,
         greatest(extract(epoch FROM r.started_at - CASE WHEN r.trigger = 'scheduled'
           THEN r.scheduled_for ELSE r.created_at END), 0)::float8 AS waited
  FROM (SELECT * FROM runs WHERE org_id = $1 AND created_at >= $4::timestamptz - interval '1 day'
        ORDER BY created_at DESC LIMIT $5) r
  LEFT JOIN schedules s ON s.id = r.schedule_id
  WHERE r.completed_at >= $4
), collected AS (
  SELECT e.execution_id, e.bin, e.waited, q.source, q.status, q.duration_seconds AS took,
         q.records, q.bytes, coalesce((q.counts ->> 'prices')::bigint, 0) AS prices,
         q.inserted + q.changed AS changed,
         q.requests - (SELECT coalesce(sum(value::bigint), 0)
                       FROM jsonb_each_text(coalesce(q.counts -> 'classes', '{}'))
                       WHERE key IN ('2xx', '3xx')) AS errors
  FROM ended e JOIN run_sources q ON q.execution_id = e.execution_id
), counted AS (
  SELECT bin, source AS name, status, took, waited, records, prices, changed, errors, bytes
  FROM collected WHERE $3 = 'source'
  UNION ALL
  SELECT e.bin, e.job, e.status, e.took, e.waited, c.records, c.prices, c.changed, c.errors, c.bytes
  FROM ended e LEFT JOIN (
    SELECT execution_id, sum(records) AS records, sum(prices) AS prices, sum(changed) AS changed,
           sum(errors) AS errors, sum(bytes) AS bytes
    FROM collected GROUP BY execution_id) c ON c.execution_id = e.execution_id
  WHERE $3 = 'job'
)
SELECT bin, name, count(*), count(*) FILTER (WHERE status <> 'success'),
       coalesce(sum(records), 0)::bigint, coalesce(sum(prices), 0)::bigint,
       coalesce(sum(changed), 0)::bigint, coalesce(sum(errors), 0)::bigint,
       coalesce(sum(bytes), 0)::bigint, array_agg(took), array_agg(waited)
FROM counted GROUP BY bin, name ORDER BY bin, name
"""


async def read(
    connection: Connection, org_id: UUID, step: int, kind: TrendKind, since: datetime
) -> list[TrendPoint]:
    """The counts of this organisation's kept runs in these steps (seconds), in order of time.

    `name` is the source, or the key of the collection's schedule.
    """
    rows = await connection.fetch(READ, org_id, step, kind.value, since, MAX_RUNS)
    return [TrendPoint(row[0], row[1], row[2:9], counted(row[9]), counted(row[10])) for row in rows]


def counted(seconds: Iterable[float | None]) -> dict[str, int]:
    """How many of these durations are in each bucket of trends."""
    return Counter(
        str(floor(BUCKETS_PER_DOUBLING * log2(max(each, SHORTEST))))
        for each in seconds
        if each is not None
    )
