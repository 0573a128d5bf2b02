"""Statements for the progress of a run: one row per source, written under the lease epoch."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from app.core.enums import HealthReason, RunStatus
from app.core.errors import LeaseLost
from app.core.records import Rejected
from app.sources.coverage import Coverage, from_json, to_json
from app.store.db import Connection, Pool
from app.store.runs.attempt_rows import ClaimedRun


@dataclass(frozen=True, slots=True)
class Counts:
    """Counts of what was read and written. `prices` is 0 for sources that have none.

    `pages_unchanged`: those of the `pages` that were not parsed; their records count.
    `points`: newly stored sentiment points.
    """

    pages: int = 0
    pages_unchanged: int = 0
    records: int = 0
    prices: int = 0
    points: int = 0
    inserted: int = 0
    changed: int = 0
    unchanged: int = 0
    rejected: int = 0

    def plus(self, other: "Counts") -> "Counts":
        """Return the sum of both."""
        return Counts(**{name: getattr(self, name) + getattr(other, name) for name in COUNT_NAMES})

    def minus(self, other: "Counts") -> "Counts":
        """Return the difference of both."""
        return Counts(**{name: getattr(self, name) - getattr(other, name) for name in COUNT_NAMES})


COUNT_NAMES = tuple(count.name for count in fields(Counts))


@dataclass(frozen=True, slots=True)
class SourceProgress:
    """The row of one source of one run.

    `classes`: numbers of requests by response class.
    `unfinished_counts`: counts that earlier attempts wrote in partitions they did not finish.
    `coverage`: of the finished partitions; at the end, of everything that was read.
    `breach`: the health reason if the source did not meet its expectations.
    """

    source: str
    status: RunStatus = RunStatus.RUNNING
    partitions: int = 0
    counts: Counts = field(default_factory=Counts)
    requests: int = 0
    retries: int = 0
    bytes: int = 0
    throttled_ms: int = 0
    classes: dict[str, int] = field(default_factory=dict[str, int])
    duration_seconds: float = 0.0
    error_kind: str | None = None
    error_message: str | None = None
    errors: dict[str, Any] = field(default_factory=dict[str, Any])
    done: tuple[str, ...] = ()
    done_counts: Counts = field(default_factory=Counts)
    unfinished_counts: Counts = field(default_factory=Counts)
    coverage: Coverage = field(default_factory=Coverage)
    breach: HealthReason | None = None


# Of the errors of an earlier attempt, those of finished partitions stay: nothing finds them again.
BEGIN = """
INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed, pages,
                         records, inserted, changed, unchanged, rejected, requests, retries, bytes,
                         throttled_ms, duration_seconds)
SELECT r.execution_id, $3, 'running', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM runs r WHERE r.execution_id = $1 AND r.lease_epoch = $2 AND r.status = 'running'
ON CONFLICT (execution_id, source) DO UPDATE
  SET status = 'running', error_kind = NULL, error_message = NULL, errors = (
    SELECT coalesce(jsonb_object_agg(key, value), '{}') FROM jsonb_each(run_sources.errors)
    WHERE key = ANY (run_sources.done))
RETURNING requests, retries, bytes, throttled_ms, duration_seconds, done, done_counts,
          inserted, changed, counts, coverage, errors
"""

SET_SOURCE = """UPDATE run_sources s
  SET status = $4, partitions = $5, partitions_failed = $6, pages = $7,
      records = $8, inserted = $9, changed = $10, unchanged = $11, rejected = $12, requests = $13,
      retries = $14, bytes = $15, throttled_ms = $16, duration_seconds = $17, error_kind = $18,
      error_message = $19, errors = $20, done = $21, done_counts = $22, counts = $23,
      coverage = $24
  FROM mine WHERE s.execution_id = mine.execution_id AND source = $3"""
# The source's row, if this attempt still holds the run, whose row is locked first.
WRITE = f"""
WITH mine AS (
  SELECT execution_id FROM runs
  WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running' FOR NO KEY UPDATE
), written AS (
  {SET_SOURCE}
)
SELECT count(*) FROM mine
"""  # noqa: S608 - a constant

# As WRITE, and in the same statement add counts to those of the run.
WRITE_AND_ADD = f"""
WITH mine AS (
  UPDATE runs SET stats = stats || coalesce((
    SELECT jsonb_object_agg(key, coalesce((stats ->> key)::bigint, 0) + value::bigint)
    FROM jsonb_each_text($25)), '{{}}')
  WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
  RETURNING execution_id
), written AS (
  {SET_SOURCE}
)
SELECT count(*) FROM mine
"""  # noqa: S608 - a constant

# Adds to the totals in SQL, not from a value read before, and only for the lease's holder.
FENCE = """
UPDATE runs SET stats = stats || coalesce((
  SELECT jsonb_object_agg(key, coalesce((stats ->> key)::bigint, 0) + value::bigint)
  FROM jsonb_each_text($3)), '{}')
WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
"""

# What earlier attempts finished, which a retry does not collect again.
ENDED = """
SELECT * FROM run_sources
WHERE execution_id = $1 AND status IN ('success', 'partial_failure', 'failure')
"""

# Replaces all totals, and only for the lease's holder.
RESTART = """
UPDATE runs SET stats = $3 WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
"""

# Sets the given totals and leaves the others as they are.
MERGE = """
UPDATE runs SET stats = stats || $3
WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running'
"""

# The condition is the one that fences every write of an attempt.
HOLDS = """
SELECT EXISTS (SELECT FROM runs
               WHERE execution_id = $1 AND lease_epoch = $2 AND status = 'running')
"""

# An upsert: a partition that a later attempt reads again replaces what was kept of it.
SAVE_PLACES = """
INSERT INTO run_keys (execution_id, source, partition, places) VALUES ($1, $2, $3, $4)
ON CONFLICT (execution_id, source, partition) DO UPDATE SET places = excluded.places
"""

# By the prefix of the primary key (execution_id, source, partition).
PLACES = "SELECT partition, places FROM run_keys WHERE execution_id = $1 AND source = $2"

# Once a source is finished no attempt needs them; they are as large as its listing.
DELETE_PLACES = "DELETE FROM run_keys WHERE execution_id = $1 AND source = $2"

# A page parsed again after a crash rejects the same records: they replace the previous ones.
REJECT = """
WITH before AS (
  DELETE FROM rejected_records
  WHERE execution_id = $1 AND source = $2 AND partition = $3 AND page = $4
)
INSERT INTO rejected_records (execution_id, source, partition, page, record_id, reason, data)
SELECT $1, $2, $3, $4, r.record_id, r.reason, r.data
FROM unnest($5::text[], $6::text[], $7::bytea[]) AS r (record_id, reason, data)
"""


async def begin(pool: Pool, claimed: ClaimedRun, source: str) -> SourceProgress:
    """Insert the source's row, or resume that of an earlier attempt. Raises LeaseLost."""
    row = await pool.fetchrow(BEGIN, claimed.run_id, claimed.epoch, source)
    if row is None:
        raise LeaseLost(claimed.run_id)
    done = Counts(**row["done_counts"])
    redo = Counts(
        inserted=row["inserted"] - done.inserted,
        changed=row["changed"] - done.changed,
        points=row["counts"].get("points", 0) - done.points,
    )
    return SourceProgress(
        source=source,
        counts=done,
        requests=row["requests"],
        retries=row["retries"],
        bytes=row["bytes"],
        throttled_ms=row["throttled_ms"],
        classes=row["counts"].get("classes", {}),
        duration_seconds=row["duration_seconds"],
        errors=row["errors"],
        done=tuple(row["done"]),
        done_counts=done,
        unfinished_counts=redo,
        coverage=from_json(row["coverage"]),
    )


async def save_places(
    connection: Connection, claimed: ClaimedRun, where: tuple[str, str], places: bytes
) -> None:
    """Keep where the keys of a finished partition were found. `where`: source, partition."""
    await connection.execute(SAVE_PLACES, claimed.run_id, *where, places)


async def places(pool: Pool, claimed: ClaimedRun, source: str) -> dict[str, bytes]:
    """Return what earlier attempts have kept with `save_places`, by partition."""
    return {row[0]: row[1] for row in await pool.fetch(PLACES, claimed.run_id, source)}


async def delete_places(connection: Connection, claimed: ClaimedRun, source: str) -> None:
    """Delete what was kept with `save_places`, of a source that is finished."""
    await connection.execute(DELETE_PLACES, claimed.run_id, source)


async def finished_sources(pool: Pool, claimed: ClaimedRun) -> dict[str, SourceProgress]:
    """Return the sources that earlier attempts of the run finished, by name."""
    rows = await pool.fetch(ENDED, claimed.run_id)
    return {row["source"]: _ended(dict(row)) for row in rows}


def _ended(row: dict[str, Any]) -> SourceProgress:
    extra: dict[str, Any] = row["counts"]
    return SourceProgress(
        source=row["source"],
        status=RunStatus(row["status"]),
        partitions=row["partitions"],
        counts=Counts(**{name: row.get(name, extra.get(name, 0)) for name in COUNT_NAMES}),
        requests=row["requests"],
        retries=row["retries"],
        bytes=row["bytes"],
        error_kind=row["error_kind"],
        error_message=row["error_message"],
        breach=HealthReason(row["coverage"]["breach"]) if "breach" in row["coverage"] else None,
    )


async def restart(pool: Pool, claimed: ClaimedRun, stats: dict[str, int]) -> None:
    """Reset the run's totals to what earlier attempts finished. Raises LeaseLost."""
    _check_fence(await pool.execute(RESTART, claimed.run_id, claimed.epoch, stats), claimed)


async def merge_stats(pool: Pool, claimed: ClaimedRun, stats: dict[str, float]) -> None:
    """Set some of the run's stats. Raises LeaseLost."""
    _check_fence(await pool.execute(MERGE, claimed.run_id, claimed.epoch, stats), claimed)


async def add_totals(connection: Connection, claimed: ClaimedRun, added: dict[str, int]) -> None:
    """Add to the run's totals, in the transaction that writes what they count. Raises LeaseLost."""
    _check_fence(await connection.execute(FENCE, claimed.run_id, claimed.epoch, added), claimed)


async def holds(pool: Pool, claimed: ClaimedRun) -> bool:
    """Return whether this attempt still holds the run."""
    return await pool.fetchval(HOLDS, claimed.run_id, claimed.epoch)


async def write(
    connection: Connection, claimed: ClaimedRun, row: SourceProgress, added: dict[str, int]
) -> None:
    """Write the source's row and add `added` to the run's totals. Raises LeaseLost.

    Call it in the transaction that writes the counted page, so that both become visible together.
    """
    counts = row.counts
    adds = any(added.values())
    held = await connection.fetchval(
        WRITE_AND_ADD if adds else WRITE,
        claimed.run_id,
        claimed.epoch,
        row.source,
        row.status.value,
        row.partitions,
        len(row.errors),
        counts.pages,
        counts.records,
        counts.inserted + row.unfinished_counts.inserted,
        counts.changed + row.unfinished_counts.changed,
        counts.unchanged,
        counts.rejected,
        row.requests,
        row.retries,
        row.bytes,
        row.throttled_ms,
        row.duration_seconds,
        row.error_kind,
        row.error_message,
        row.errors,
        list(row.done),
        {name: getattr(row.done_counts, name) for name in COUNT_NAMES},
        {
            "prices": counts.prices,
            "points": counts.points + row.unfinished_counts.points,
            "pages_unchanged": counts.pages_unchanged,
            "classes": row.classes,
        },
        to_json(row.coverage) | ({"breach": row.breach.value} if row.breach else {}),
        *((added,) if adds else ()),
    )
    _check_fence(f"UPDATE {held}", claimed)


def _check_fence(tag: str, claimed: ClaimedRun) -> None:
    if tag != "UPDATE 1":
        raise LeaseLost(claimed.run_id)


async def save_rejected(
    connection: Connection,
    claimed: ClaimedRun,
    where: tuple[str, str, int],
    rejected: Sequence[Rejected],
) -> None:
    """Store rejected records of a page. `where`: source, partition, page."""
    await connection.execute(
        REJECT,
        claimed.run_id,
        *where,
        [r.record_id for r in rejected],
        [r.reason.replace("\0", " ") for r in rejected],
        [r.data for r in rejected],
    )
