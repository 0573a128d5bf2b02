"""Counts of ended runs by job and source in steps of time, with histograms of durations.

A duration is counted in one of the buckets [2^(n/4), 2^((n+1)/4)) seconds, from a millisecond on:
a percentile read from them differs from the exact one by at most `MAX_ERROR`.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from uuid import UUID

import msgspec

from app.core.enums import TrendKind
from app.store.db import Connection, Pool

BUCKETS_PER_DOUBLING = 4
SHORTEST = 0.001  # seconds; what is shorter is counted as this
MAX_ERROR = 2 ** (1 / (2 * BUCKETS_PER_DOUBLING)) - 1  # a share: 9.1 %
# Seconds of a step, and how long its rows are kept. A period of a page reads one of them.
STEPS = {3_600: timedelta(days=2), 21_600: timedelta(days=9), 86_400: timedelta(days=32)}

# `failed`: runs that did not succeed. `changed`: records that were new or changed. `errors`:
# requests that brought no page.
COUNTS = ("runs", "failed", "records", "prices", "changed", "errors", "bytes")
_buckets = msgspec.json.Decoder(dict[str, int])

# `$1`: runs that have ended, each given once. The names of jobs and sources are those of metrics.
# Rows are written in key order, so that two writers cannot deadlock.
COUNT = """
WITH ended AS (
  SELECT r.execution_id, r.status, r.duration_seconds AS took, coalesce(r.completed_at, now()) AS at,
         greatest(extract(epoch FROM r.started_at - CASE WHEN r.trigger = 'scheduled'
           THEN r.scheduled_for ELSE r.created_at END), 0)::float8 AS waited,
         CASE WHEN r.org_id IS NOT NULL THEN 'collection'
              ELSE coalesce(s.key, CASE WHEN r.job = 'source'
                                        THEN 'source:' || (r.params ->> 'source') END, r.job)
              END AS job
  FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id WHERE r.execution_id = ANY ($1::uuid[])
), collected AS (
  SELECT q.execution_id, q.status, q.duration_seconds AS took, q.records, q.bytes,
         CASE WHEN starts_with(q.source, 'recipe:') THEN 'recipe' ELSE q.source END AS source,
         coalesce((q.counts ->> 'prices')::bigint, 0) AS prices, q.inserted + q.changed AS changed,
         q.requests - (SELECT coalesce(sum(value::bigint), 0)
                       FROM jsonb_each_text(coalesce(q.counts -> 'classes', '{}'))
                       WHERE key IN ('2xx', '3xx')) AS errors
  FROM ended e JOIN run_sources q ON q.execution_id = e.execution_id
), counted AS (
  SELECT 'source' AS kind, CASE WHEN t.first IS NULL THEN 'other' ELSE c.source END AS name, e.at,
         c.status, c.took, e.waited, c.records, c.prices, c.changed, c.errors, c.bytes
  FROM ended e JOIN collected c ON c.execution_id = e.execution_id
  LEFT JOIN metric_totals t ON t.name = 'throttled' AND t.first = c.source
  UNION ALL
  SELECT 'job', e.job, e.at, e.status, e.took, e.waited, coalesce(c.records, 0),
         coalesce(c.prices, 0), coalesce(c.changed, 0), coalesce(c.errors, 0), coalesce(c.bytes, 0)
  FROM ended e LEFT JOIN (
    SELECT execution_id, sum(records) AS records, sum(prices) AS prices, sum(changed) AS changed,
           sum(errors) AS errors, sum(bytes) AS bytes
    FROM collected GROUP BY execution_id) AS c ON c.execution_id = e.execution_id
), stepped AS (
  SELECT *, floor(4 * ln(greatest(took, 0.001)) / ln(2))::int::text AS took_bucket,
         floor(4 * ln(greatest(waited, 0.001)) / ln(2))::int::text AS waited_bucket,
         date_bin(step * interval '1 second', at, 'epoch'::timestamptz) AS bin
  FROM counted CROSS JOIN unnest($2::int[]) AS step
), took AS (
  SELECT step, bin, kind, name, jsonb_object_agg(took_bucket, count) AS counts FROM (
    SELECT step, bin, kind, name, took_bucket, count(*) AS count FROM stepped
    WHERE took IS NOT NULL GROUP BY 1, 2, 3, 4, 5) AS buckets GROUP BY 1, 2, 3, 4
), waited AS (
  SELECT step, bin, kind, name, jsonb_object_agg(waited_bucket, count) AS counts FROM (
    SELECT step, bin, kind, name, waited_bucket, count(*) AS count FROM stepped
    WHERE waited IS NOT NULL GROUP BY 1, 2, 3, 4, 5) AS buckets GROUP BY 1, 2, 3, 4
)
INSERT INTO trends AS t (step, at, kind, name, runs, failed, records, prices, changed, errors, bytes,
                         took, waited)
SELECT step, bin, kind, name, s.runs, s.failed, s.records, s.prices, s.changed, s.errors, s.bytes,
       coalesce(took.counts, '{}'), coalesce(waited.counts, '{}')
FROM (SELECT step, bin, kind, name, count(*) AS runs,
             count(*) FILTER (WHERE status <> 'success') AS failed, sum(records) AS records,
             sum(prices) AS prices, sum(changed) AS changed, sum(errors) AS errors,
             sum(bytes) AS bytes FROM stepped GROUP BY 1, 2, 3, 4) AS s
LEFT JOIN took USING (step, bin, kind, name) LEFT JOIN waited USING (step, bin, kind, name)
ORDER BY step, bin, kind, name
ON CONFLICT (step, kind, at, name) DO UPDATE SET
  runs = t.runs + excluded.runs, failed = t.failed + excluded.failed,
  records = t.records + excluded.records, prices = t.prices + excluded.prices,
  changed = t.changed + excluded.changed, errors = t.errors + excluded.errors,
  bytes = t.bytes + excluded.bytes, took = add_counts(t.took, excluded.took),
  waited = add_counts(t.waited, excluded.waited)
"""  # noqa: E501

# Buckets as text, for one typed decoder: a page reads thousands of them.
READ = """
SELECT at, name, runs, failed, records, prices, changed, errors, bytes, took::text, waited::text
FROM trends
WHERE step = $1 AND kind = $2 AND at >= $3
"""

# All steps in one statement, each with the time that it is kept for.
PRUNE = """
DELETE FROM trends t USING unnest($1::int[], $2::interval[]) AS kept (step, span)
WHERE t.step = kept.step AND t.at < now() - kept.span
"""


class TrendPoint(msgspec.Struct, frozen=True, gc=False):
    """One job or source in one step of time, from `at` on.

    `totals`: in the order of COUNTS. `took`, `waited`: how many durations were in each bucket.
    """

    at: datetime
    name: str
    totals: Sequence[int]
    took: dict[str, int]
    waited: dict[str, int]


async def count(connection: Connection, run_ids: Sequence[UUID]) -> None:
    """Add runs that have ended to the counts; the caller sees to it that each is given once."""
    if run_ids:
        await connection.execute(COUNT, list(run_ids), list(STEPS))


async def read(
    connection: Connection, step: int, kind: TrendKind, since: datetime
) -> list[TrendPoint]:
    """The rows of these steps (seconds) that begin at `since` or later, in no order."""
    rows = await connection.fetch(READ, step, kind.value, since)
    decode = _buckets.decode
    return [TrendPoint(row[0], row[1], row[2:9], decode(row[9]), decode(row[10])) for row in rows]


async def prune(pool: Pool) -> None:
    """Delete the rows that no page shows any more."""
    await pool.execute(PRUNE, list(STEPS), list(STEPS.values()))


def percentile(counts: Iterable[tuple[str, int]], share: float) -> float | None:
    """The duration (seconds) below which this share of all is; None if there is none.

    It is the middle of its bucket, at most `MAX_ERROR` of it away from the exact one.
    """
    ordered = sorted((int(bucket), number) for bucket, number in counts)
    rank = share * sum(number for _, number in ordered)
    seen = 0
    for bucket, number in ordered:
        seen += number
        if seen >= rank:
            return 2 ** ((bucket + 0.5) / BUCKETS_PER_DOUBLING)
    return None
