"""What the pages of one job and one run show: runs by the page, and all that is kept of a run."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool

KEPT = 50  # rejected records shown of a run
SHOWN_BYTES = 600  # of each


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which runs: of a job, or of a schedule; perhaps only some; older than a cursor.

    `source`: of the job that all recipes share, only this one's.
    `before`: (created_at, execution_id) of the last run of the page before.
    """

    job: str | None = None
    schedule_id: int | None = None
    status: str | None = None
    trigger: str | None = None
    before: tuple[datetime, UUID] | None = None
    source: str | None = None


# A recipe's run that has a tick knows its source by the schedule, any other by its parameters.
_SOURCES = """
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
  AND {ours}
ORDER BY created_at DESC, execution_id DESC LIMIT $6
"""
# What row-level security says already is said again: two locks on the door.
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
  AND {_SOURCES.format(n=2)}
ORDER BY created_at DESC LIMIT 1
"""  # noqa: S608 - our own text


async def runs(connection: Pool | Connection, wanted: Wanted, limit: int) -> list[dict[str, Any]]:
    """Runs, newest first, as plain rows."""
    by_job = wanted.schedule_id is None
    owner = "job" if by_job else "schedule_id"
    statement = RUNS.format(owner=owner, ours=_SOURCES.format(n=7))
    before, run_id = wanted.before or (None, None)
    rows = await connection.fetch(
        statement,
        wanted.job if by_job else wanted.schedule_id,
        wanted.status,
        wanted.trigger,
        before,
        run_id,
        limit,
        wanted.source,
    )
    return [dict(row) for row in rows]


async def run(connection: Pool | Connection, run_id: UUID, org_id: UUID) -> dict[str, Any] | None:
    """One run of the house or of this organisation, with its schedule's key, as a plain row."""
    row = await connection.fetchrow(RUN, run_id, org_id)
    return None if row is None else dict(row)


async def events(connection: Pool | Connection, run_id: UUID) -> Sequence[dict[str, Any]]:
    """What happened to the run, in order."""
    return [dict(row) for row in await connection.fetch(EVENTS, run_id)]


async def sources(connection: Pool | Connection, run_id: UUID) -> Sequence[dict[str, Any]]:
    """Its sources, by name."""
    return [dict(row) for row in await connection.fetch(SOURCES, run_id)]


async def rejected(
    connection: Pool | Connection, run_id: UUID
) -> tuple[Sequence[dict[str, Any]], int]:
    """The first records it could not read, each cut short, and how many there are."""
    rows = await connection.fetch(REJECTED, run_id, KEPT, SHOWN_BYTES)
    count: int = await connection.fetchval(COUNT_REJECTED, run_id)
    return [dict(row) for row in rows], count


async def open_run(
    connection: Pool | Connection, job: str, source: str | None = None
) -> UUID | None:
    """A run of the job that is queued or running; of the recipes' job, one of this recipe."""
    found: UUID | None = await connection.fetchval(OPEN, job, source)
    return found
