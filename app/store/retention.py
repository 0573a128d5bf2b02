"""Statements that delete old rows, in batches, so that no lock is held for long."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.store.db import Connection, Pool
from app.store.schedules import zones


@dataclass(frozen=True, slots=True)
class RetentionRule:
    """One kind of rows under retention. `batch` deletes at most $2 rows older than $1.

    `setting`: the setting with the retention in days. `count`: a query that counts old rows.
    """

    name: str
    setting: str
    batch: str
    count: str


# The statements of the rules: DELETE_… deletes at most $2 of the rows that are older than $1, and
# COUNT_… counts them, by the same condition.

# Keeps the last finished and the last successful run of each schedule, which health reads.
DELETE_RUNS = """
DELETE FROM runs WHERE execution_id IN (
  SELECT r.execution_id FROM runs AS r
  WHERE r.created_at < $1 AND r.completed_at < $1 AND r.status NOT IN ('queued', 'running')
  AND (r.schedule_id IS NULL OR (
    r.execution_id <> (SELECT n.execution_id FROM runs n
      WHERE n.schedule_id = r.schedule_id AND n.completed_at IS NOT NULL
      ORDER BY n.created_at DESC LIMIT 1)
    AND r.execution_id IS DISTINCT FROM (SELECT n.execution_id FROM runs n
      WHERE n.schedule_id = r.schedule_id AND n.status = 'success'
      ORDER BY n.created_at DESC LIMIT 1)))
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_RUNS = """
SELECT count(*) FROM runs AS r
WHERE r.created_at < $1 AND r.completed_at < $1 AND r.status NOT IN ('queued', 'running')
AND (r.schedule_id IS NULL OR (
  r.execution_id <> (SELECT n.execution_id FROM runs n
    WHERE n.schedule_id = r.schedule_id AND n.completed_at IS NOT NULL
    ORDER BY n.created_at DESC LIMIT 1)
  AND r.execution_id IS DISTINCT FROM (SELECT n.execution_id FROM runs n
    WHERE n.schedule_id = r.schedule_id AND n.status = 'success'
    ORDER BY n.created_at DESC LIMIT 1)))
"""

# By when they were rejected.
DELETE_REJECTED = """
DELETE FROM rejected_records WHERE id IN (
  SELECT r.id FROM rejected_records AS r
  WHERE r.created_at < $1
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_REJECTED = "SELECT count(*) FROM rejected_records AS r WHERE r.created_at < $1"

# Keeps heartbeats that undecided ticks still depend on.
DELETE_BEATS = """
DELETE FROM worker_beats WHERE id IN (
  SELECT r.id FROM worker_beats AS r
  WHERE r.until < $1 AND r.until < coalesce(
    (SELECT min(evaluated_through) FROM schedules WHERE due_at IS NOT NULL), $1)
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_BEATS = """
SELECT count(*) FROM worker_beats AS r
WHERE r.until < $1 AND r.until < coalesce(
  (SELECT min(evaluated_through) FROM schedules WHERE due_at IS NOT NULL), $1)
"""

# By their kick-off, whenever they were collected.
DELETE_EVENTS = """
DELETE FROM odds_events WHERE id IN (
  SELECT r.id FROM odds_events AS r
  WHERE r.kickoff < $1
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_EVENTS = "SELECT count(*) FROM odds_events AS r WHERE r.kickoff < $1"

# By when they were published.
DELETE_ARTICLES = """
DELETE FROM articles WHERE id IN (
  SELECT r.id FROM articles AS r
  WHERE r.published_at < $1
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_ARTICLES = "SELECT count(*) FROM articles AS r WHERE r.published_at < $1"

# By their last update.
DELETE_STORIES = """
DELETE FROM stories WHERE id IN (
  SELECT r.id FROM stories AS r
  WHERE r.told_at < $1
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_STORIES = "SELECT count(*) FROM stories AS r WHERE r.told_at < $1"

# By when their listing no longer had them: one that is listed stays.
DELETE_ITEMS = """
DELETE FROM items WHERE id IN (
  SELECT r.id FROM items AS r
  WHERE r.missing_since < $1
  LIMIT $2 FOR UPDATE SKIP LOCKED)
"""
COUNT_ITEMS = "SELECT count(*) FROM items AS r WHERE r.missing_since < $1"

RETENTION_RULES = (
    RetentionRule("runs", "run_days", DELETE_RUNS, COUNT_RUNS),
    RetentionRule("rejected_records", "rejected_days", DELETE_REJECTED, COUNT_REJECTED),
    RetentionRule("worker_beats", "beat_days", DELETE_BEATS, COUNT_BEATS),
    RetentionRule("odds_events", "odds_event_days", DELETE_EVENTS, COUNT_EVENTS),
    RetentionRule("articles", "article_days", DELETE_ARTICLES, COUNT_ARTICLES),
    RetentionRule("stories", "story_days", DELETE_STORIES, COUNT_STORIES),
    RetentionRule("items", "item_days", DELETE_ITEMS, COUNT_ITEMS),
)

# EXISTS: one index probe for each schedule, not a scan of old ticks.
OLD_TICKS = """
SELECT id FROM schedules s
WHERE EXISTS (SELECT FROM ticks t WHERE t.schedule_id = s.id AND t.scheduled_for < $1)
   OR EXISTS (SELECT FROM tick_gaps g WHERE g.schedule_id = s.id AND g.last_tick < $1)
ORDER BY id
"""

# Up to each schedule's frontier: later ticks are not pruned, so they are not counted either.
COUNT_TICKS = """
SELECT (SELECT count(*) FROM ticks t JOIN schedules s ON s.id = t.schedule_id
        WHERE scheduled_for < least($1, evaluated_through))
     + (SELECT coalesce(sum(count), 0)::bigint FROM tick_gaps g
        JOIN schedules s ON s.id = g.schedule_id WHERE last_tick < least($1, evaluated_through))
"""

# The end of the next batch: at most $3 ticks or gaps older than $2, and no part of a gap.
# The caller passes a $2 that is not after the frontier, so that the last decided tick stays.
BOUNDARY = """
WITH edge AS (
  SELECT max(at) AS at FROM (
    SELECT at FROM (
      (SELECT scheduled_for AS at FROM ticks
       WHERE schedule_id = $1 AND scheduled_for < $2 ORDER BY scheduled_for LIMIT $3)
      UNION ALL
      (SELECT last_tick FROM tick_gaps
       WHERE schedule_id = $1 AND last_tick < $2 ORDER BY first_tick LIMIT $3)) AS both_kinds
    ORDER BY at LIMIT $3) AS oldest
)
SELECT least(edge.at, (
  SELECT min(first_tick) - interval '1 microsecond' FROM tick_gaps
  WHERE schedule_id = $1 AND first_tick <= edge.at AND last_tick > edge.at))
FROM edge WHERE edge.at IS NOT NULL
"""

# The part of each version that is before $2 and is not numbers yet.
VERSIONS = """
SELECT v.version, v.spec, v.zone_data, coalesce(v.pruned_through, v.effective_from) AS since,
       least($2, coalesce(v.answers_until, $2)) AS until
FROM schedule_versions v
WHERE v.schedule_id = $1 AND v.effective_from < $2
  AND coalesce(v.pruned_through, v.effective_from) < least($2, coalesce(v.answers_until, $2))
ORDER BY v.version
"""

# Of a spec that cannot be read, what was recorded counts as what was expected.
RECORDED = """
SELECT (SELECT count(*) FROM ticks
        WHERE schedule_id = $1 AND version = $2 AND scheduled_for > $3 AND scheduled_for <= $4)
     + (SELECT coalesce(sum(count), 0)::bigint FROM tick_gaps
        WHERE schedule_id = $1 AND version = $2 AND first_tick > $3 AND last_tick <= $4)
"""

# Deletes the rows and adds their numbers to the versions in one statement.
PRUNE_TICKS = """
WITH deleted AS (
  DELETE FROM ticks WHERE schedule_id = $1 AND scheduled_for <= $2
  RETURNING version, outcome, reason, 1::bigint AS count
), deleted_gaps AS (
  DELETE FROM tick_gaps WHERE schedule_id = $1 AND last_tick <= $2
  RETURNING version, outcome, reason, count
), tally AS (
  SELECT version, concat_ws(':', outcome, reason) AS ending, sum(count) AS count
  FROM (SELECT * FROM deleted UNION ALL SELECT * FROM deleted_gaps) AS both_kinds GROUP BY 1, 2
), counted AS (
  SELECT * FROM unnest($3::int[], $4::timestamptz[], $5::bigint[])
    AS c (version, through, expected)
), updated AS (
  UPDATE schedule_versions v SET
    pruned_through = greatest(v.pruned_through, c.through),
    pruned_expected = v.pruned_expected + coalesce(c.expected, 0),
    pruned = v.pruned || coalesce((
      SELECT jsonb_object_agg(ending, coalesce((v.pruned ->> ending)::bigint, 0) + count)
      FROM tally WHERE tally.version = v.version), '{}')
  FROM (SELECT coalesce(c.version, t.version) AS version, c.through, c.expected
        FROM counted c FULL JOIN (SELECT DISTINCT version FROM tally) t USING (version)) AS c
  WHERE v.schedule_id = $1 AND v.version = c.version
)
SELECT coalesce(sum(count), 0)::bigint FROM tally
"""

# The versions before the first that has ticks left, or that is in force, are deleted. Their numbers
# are added to that one, with the instant up to which they reach: runs before it are not missing
# their ticks. So the numbers of versions have no holes.
FOLD_VERSIONS = """
WITH kept AS (
  SELECT min(v.version) AS version FROM schedule_versions v
  WHERE v.schedule_id = $1
    AND (v.answers_until <= coalesce(v.pruned_through, v.effective_from) IS NOT TRUE
         OR v.version = (SELECT max(version) FROM schedule_versions WHERE schedule_id = $1)
         OR EXISTS (SELECT FROM ticks t WHERE t.schedule_id = $1 AND t.version = v.version)
         OR EXISTS (SELECT FROM tick_gaps g WHERE g.schedule_id = $1 AND g.version = v.version))
), done AS (
  DELETE FROM schedule_versions v USING kept
  WHERE v.schedule_id = $1 AND v.version < kept.version
  RETURNING v.pruned_through, v.pruned_expected, v.pruned
), counts AS (
  SELECT key, sum(value::bigint) AS count FROM done, jsonb_each_text(pruned) GROUP BY key
)
UPDATE schedule_versions v SET
  proven_through = NULL,
  pruned_through = greatest(v.pruned_through, v.effective_from,
                            (SELECT max(pruned_through) FROM done)),
  pruned_expected = v.pruned_expected + (SELECT sum(pruned_expected) FROM done),
  pruned = v.pruned || coalesce((
    SELECT jsonb_object_agg(key, coalesce((v.pruned ->> key)::bigint, 0) + count)
    FROM counts), '{}')
FROM kept
WHERE v.schedule_id = $1 AND v.version = kept.version AND EXISTS (SELECT FROM done)
"""


@dataclass(frozen=True, slots=True)
class PrunableSpan:
    """A part of the time that one schedule version covers: (since, until]."""

    version: int
    spec: Mapping[str, Any]
    zone_data: str | None
    since: datetime
    until: datetime


async def delete_batch(pool: Pool, kind: RetentionRule, before: datetime, batch: int) -> int:
    """Delete at most `batch` rows older than `before`; returns how many were deleted."""
    tag = await pool.execute(kind.batch, before, batch)
    return int(tag.removeprefix("DELETE "))


async def count(pool: Pool, kind: RetentionRule, before: datetime) -> int:
    """Count the rows older than `before`."""
    return await pool.fetchval(kind.count, before)


async def count_ticks(pool: Pool, before: datetime) -> int:
    """Count the ticks older than `before`; a gap counts only if all of it is older."""
    return await pool.fetchval(COUNT_TICKS, before)


async def with_old_ticks(pool: Pool, before: datetime) -> list[int]:
    """Return the ids of schedules that have ticks older than `before`."""
    return [row["id"] for row in await pool.fetch(OLD_TICKS, before)]


async def prune_boundary(
    connection: Connection, schedule_id: int, before: datetime, batch: int
) -> datetime | None:
    """Return the instant up to which about `batch` of the oldest ticks may be deleted, or None.

    Takes the schedule's row lock, so that no ticks are decided or compressed meanwhile.
    """
    frontier = await connection.fetchval(
        "SELECT evaluated_through FROM schedules WHERE id = $1 FOR UPDATE", schedule_id
    )
    if frontier is None:
        return None
    return await connection.fetchval(BOUNDARY, schedule_id, min(before, frontier), batch)


async def prunable_spans(
    connection: Connection, schedule_id: int, through: datetime
) -> list[PrunableSpan]:
    """Return the part of each version up to `through` that is not pruned yet."""
    rows = await connection.fetch(VERSIONS, schedule_id, through)
    spans = [PrunableSpan(*row) for row in rows]
    await zones.ensure(connection, ((span.spec, span.zone_data) for span in spans))
    return spans


async def count_recorded(connection: Connection, schedule_id: int, span: PrunableSpan) -> int:
    """Count the recorded ticks of a span, whose schedule cannot be read any more."""
    return await connection.fetchval(RECORDED, schedule_id, span.version, span.since, span.until)


async def prune_ticks(
    connection: Connection,
    schedule_id: int,
    through: datetime,
    counted: Sequence[tuple[PrunableSpan, int]],
) -> int:
    """Replace the ticks up to `through` by numbers; returns how many were deleted.

    `counted`: the number of ticks that the schedule has in each part of a version.
    """
    deleted: int = await connection.fetchval(
        PRUNE_TICKS,
        schedule_id,
        through,
        [stretch.version for stretch, _ in counted],
        [stretch.until for stretch, _ in counted],
        [expected for _, expected in counted],
    )
    await connection.execute(FOLD_VERSIONS, schedule_id)
    return deleted


async def fold_versions(pool: Pool, schedule_id: int) -> None:
    """Add the numbers of versions of which no tick is left to the next version, and delete them."""
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute("SELECT FROM schedules WHERE id = $1 FOR UPDATE", schedule_id)
        await connection.execute(FOLD_VERSIONS, schedule_id)
