"""Count runs by job and source in steps of time, for the page of trends"""

from alembic import op

revision = "0032"
down_revision = "0031"
branch_labels = None
depends_on = None

# What ended in one step of time, by job and by source.
TRENDS = """
CREATE TABLE trends (
    step integer NOT NULL,
    at timestamptz NOT NULL,
    kind varchar NOT NULL,
    name varchar NOT NULL,
    runs bigint NOT NULL,
    failed bigint NOT NULL,
    records bigint NOT NULL,
    prices bigint NOT NULL,
    changed bigint NOT NULL,
    errors bigint NOT NULL,
    bytes bigint NOT NULL,
    took jsonb DEFAULT '{}'::jsonb NOT NULL,
    waited jsonb DEFAULT '{}'::jsonb NOT NULL,
    PRIMARY KEY (step, kind, at, name),
    CONSTRAINT trends_kind CHECK (kind IN ('source', 'job'))
)
"""
# The sum of two histograms, bucket by bucket.
ADD_COUNTS = """
CREATE FUNCTION add_counts(jsonb, jsonb) RETURNS jsonb LANGUAGE sql IMMUTABLE AS $$
  SELECT coalesce(jsonb_object_agg(key, count), '{}') FROM (
    SELECT key, sum(value::bigint) AS count
    FROM (SELECT * FROM jsonb_each_text($1) UNION ALL SELECT * FROM jsonb_each_text($2)) AS parts
    GROUP BY key) AS sums
$$
"""
# Runs that have ended already are counted like those that will. Those whose end is still pending
# are left to the fold.
EARLIER = """
WITH ended AS (
  SELECT r.execution_id, r.status, r.duration_seconds AS took, r.completed_at AS at,
         greatest(extract(epoch FROM r.started_at - CASE WHEN r.trigger = 'scheduled'
           THEN r.scheduled_for ELSE r.created_at END), 0)::float8 AS waited,
         CASE WHEN r.org_id IS NOT NULL THEN 'collection'
              ELSE coalesce(s.key, 'source:' || (r.params ->> 'source'), r.job) END AS job
  FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
  WHERE r.completed_at > now() - interval '31 days' AND r.status NOT IN ('queued', 'running')
    AND NOT EXISTS (SELECT FROM metric_pending p WHERE p.execution_id = r.execution_id)
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
  FROM counted CROSS JOIN unnest(ARRAY[3600, 21600, 86400]) AS step
), took AS (
  SELECT step, bin, kind, name, jsonb_object_agg(took_bucket, count) AS counts FROM (
    SELECT step, bin, kind, name, took_bucket, count(*) AS count FROM stepped
    WHERE took IS NOT NULL GROUP BY 1, 2, 3, 4, 5) AS buckets GROUP BY 1, 2, 3, 4
), waited AS (
  SELECT step, bin, kind, name, jsonb_object_agg(waited_bucket, count) AS counts FROM (
    SELECT step, bin, kind, name, waited_bucket, count(*) AS count FROM stepped
    WHERE waited IS NOT NULL GROUP BY 1, 2, 3, 4, 5) AS buckets GROUP BY 1, 2, 3, 4
)
INSERT INTO trends (step, at, kind, name, runs, failed, records, prices, changed, errors, bytes,
                    took, waited)
SELECT step, bin, kind, name, s.runs, s.failed, s.records, s.prices, s.changed, s.errors, s.bytes,
       coalesce(took.counts, '{}'), coalesce(waited.counts, '{}')
FROM (SELECT step, bin, kind, name, count(*) AS runs,
             count(*) FILTER (WHERE status <> 'success') AS failed, sum(records) AS records,
             sum(prices) AS prices, sum(changed) AS changed, sum(errors) AS errors,
             sum(bytes) AS bytes FROM stepped GROUP BY 1, 2, 3, 4) AS s
LEFT JOIN took USING (step, bin, kind, name) LEFT JOIN waited USING (step, bin, kind, name)
"""


def upgrade() -> None:
    op.execute(TRENDS)
    op.execute(ADD_COUNTS)
    op.execute(EARLIER)


def downgrade() -> None:
    op.execute("DROP FUNCTION add_counts(jsonb, jsonb)")
    op.execute("DROP TABLE trends")
