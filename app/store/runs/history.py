"""Queries for the dashboard pages of one job and one run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool

REJECTED_SHOWN = 50  # rejected records of a run
REJECTED_BYTES = 600  # bytes of each


@dataclass(frozen=True, slots=True)
class RunHistoryFilter:
    """Filter of runs: of a job or of a schedule, optionally by status and trigger.

    `source`: only runs of this recipe, of the task that all recipes share.
    `before`: page cursor, (created_at, execution_id) of the last run of the previous page.
    """

    job: str | None = None
    schedule_id: int | None = None
    status: str | None = None
    trigger: str | None = None
    before: tuple[datetime, UUID] | None = None
    source: str | None = None


# A scheduled run of a recipe has its source in the schedule's key, any other in its parameters.
_SOURCE_IS = """
(${n}::text IS NULL OR params ->> 'source' = ${n} OR (NOT params ? 'source'
  AND schedule_id = (SELECT id FROM schedules WHERE key = 'source:' || ${n})))
"""
RUNS = """
SELECT execution_id, job, trigger, requested_by, status, attempt, scheduled_for, queued_at,
       started_at, completed_at, duration_seconds, error_type, error_message, stats, created_at
FROM runs
WHERE {owner} = $1
  AND ($2::text IS NULL OR status = $2) AND ($3::text IS NULL OR trigger = $3)
  AND ($4::timestamptz IS NULL OR (created_at, execution_id) < ($4, $5::uuid))
  AND {source_is}
ORDER BY created_at DESC, execution_id DESC LIMIT $6
"""
# Filters by organisation itself, in addition to row-level security.
RUN = """
SELECT r.*, s.key AS schedule_key FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.execution_id = $1 AND (r.org_id IS NULL OR r.org_id = $2)
"""
EVENTS = """
SELECT at, event, attempt, worker, detail FROM run_events WHERE execution_id = $1 ORDER BY id
"""
SOURCES = "SELECT * FROM run_sources WHERE execution_id = $1 ORDER BY source"
REJECTED = """
SELECT source, partition, page, record_id, reason, substring(data FOR $3) AS data,
       octet_length(data) AS size, created_at
FROM rejected_records WHERE execution_id = $1 ORDER BY id LIMIT $2
"""
COUNT_REJECTED = "SELECT count(*) FROM rejected_records WHERE execution_id = $1"
OPEN = f"""
SELECT execution_id FROM runs WHERE job = $1 AND status IN ('queued', 'running')
  AND {_SOURCE_IS.format(n=2)}
ORDER BY created_at DESC LIMIT 1
"""  # noqa: S608 - constant fragments


async def runs(
    connection: Pool | Connection, filters: RunHistoryFilter, limit: int
) -> list[dict[str, Any]]:
    """Return the matching runs, newest first, as plain rows."""
    by_job = filters.schedule_id is None
    owner = "job" if by_job else "schedule_id"
    statement = RUNS.format(owner=owner, source_is=_SOURCE_IS.format(n=7))
    before, run_id = filters.before or (None, None)
    rows = await connection.fetch(
        statement,
        filters.job if by_job else filters.schedule_id,
        filters.status,
        filters.trigger,
        before,
        run_id,
        limit,
        filters.source,
    )
    return [dict(row) for row in rows]


async def run(connection: Pool | Connection, run_id: UUID, org_id: UUID) -> dict[str, Any] | None:
    """Return one run of the operator or of this organisation, with its schedule's key."""
    row = await connection.fetchrow(RUN, run_id, org_id)
    return None if row is None else dict(row)


async def events(connection: Pool | Connection, run_id: UUID) -> Sequence[dict[str, Any]]:
    """Return the events of the run, in order."""
    return [dict(row) for row in await connection.fetch(EVENTS, run_id)]


async def sources(connection: Pool | Connection, run_id: UUID) -> Sequence[dict[str, Any]]:
    """Return the sources of the run, by name."""
    return [dict(row) for row in await connection.fetch(SOURCES, run_id)]


async def rejected(
    connection: Pool | Connection, run_id: UUID
) -> tuple[Sequence[dict[str, Any]], int]:
    """Return the first rejected records of the run, each truncated, and their total number."""
    rows = await connection.fetch(REJECTED, run_id, REJECTED_SHOWN, REJECTED_BYTES)
    count: int = await connection.fetchval(COUNT_REJECTED, run_id)
    return [dict(row) for row in rows], count


async def open_run(
    connection: Pool | Connection, job: str, source: str | None = None
) -> UUID | None:
    """Return the newest queued or running run of the job, optionally only of one recipe."""
    run_id: UUID | None = await connection.fetchval(OPEN, job, source)
    return run_id
