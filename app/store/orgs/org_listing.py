"""Keyset-paginated queries of the API: an organisation's runs, items and schedule edits.

Newest first. A page starts after the last row of the previous one, so new rows do not shift it.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection

Row = dict[str, Any]

RUN = """
execution_id AS id, trigger, scheduled_for, status, queued_at, started_at, completed_at,
duration_seconds, error_type, error_message, stats, requested_by, attempt, created_at
"""
RUNS = f"""
SELECT {RUN} FROM runs
WHERE org_id = $1
  AND ($3::text IS NULL OR status = $3)
  AND ($4::timestamptz IS NULL OR created_at >= $4)
  AND created_at <= coalesce($5::timestamptz, 'infinity')
  AND (created_at < coalesce($5, 'infinity') OR execution_id > $6::uuid)
ORDER BY created_at DESC, execution_id LIMIT $2
"""  # noqa: S608 - constant fragments
ONE_RUN = f"SELECT {RUN} FROM runs WHERE org_id = $1 AND execution_id = $2"  # noqa: S608 - constant fragments
SOURCES = """
SELECT s.source, s.status, s.pages, s.records, s.inserted, s.changed, s.unchanged, s.rejected,
       s.requests, s.retries, s.bytes, s.throttled_ms, s.duration_seconds, s.error_kind,
       s.error_message
FROM run_sources s JOIN runs r ON r.execution_id = s.execution_id
WHERE r.org_id = $1 AND s.execution_id = $2 ORDER BY s.source
"""
ITEMS = """
SELECT id, source, key, data, first_seen, last_seen, changed_at, missing_since FROM items
WHERE org_id = $1
  AND ($3::text IS NULL OR source = $3)
  AND ($4::timestamptz IS NULL OR changed_at >= $4)
  AND ($5::boolean IS NULL OR (missing_since IS NOT NULL) = $5)
  AND (changed_at, id) < (coalesce($6::timestamptz, 'infinity'), coalesce($7::bigint, 0))
ORDER BY changed_at DESC, id DESC LIMIT $2
"""
EDITS = """
SELECT e.id, e.at, e.by, e.action, e.before, e.after
FROM schedule_edits e JOIN schedules s ON s.id = e.schedule_id
WHERE s.org_id = $1 AND ($3::bigint IS NULL OR e.id < $3) ORDER BY e.id DESC LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class OrgRunFilter:
    """Filter of runs: by status, and created at or after `since`."""

    status: str | None = None
    since: datetime | None = None


@dataclass(frozen=True, slots=True)
class OrgItemFilter:
    """Filter of items: by source, by time of change, and whether they are missing."""

    source: str | None = None
    changed_since: datetime | None = None
    missing: bool | None = None


async def runs(
    connection: Connection,
    org_id: UUID,
    limit: int,
    after: tuple[datetime, UUID] | None,
    filters: OrgRunFilter,
) -> list[Row]:
    """Return runs, newest first. `after`: (created_at, id) of the last run of the previous page."""
    at, run_id = after or (None, None)
    values = (filters.status, filters.since)
    return _plain(await connection.fetch(RUNS, org_id, limit, *values, at, run_id))


async def run(connection: Connection, org_id: UUID, run_id: UUID) -> Row | None:
    """Return one run of the organisation; None if there is none."""
    row = await connection.fetchrow(ONE_RUN, org_id, run_id)
    return None if row is None else dict(row)


async def sources(connection: Connection, org_id: UUID, run_id: UUID) -> list[Row]:
    """Return the sources of a run, by name."""
    return _plain(await connection.fetch(SOURCES, org_id, run_id))


async def items(
    connection: Connection,
    org_id: UUID,
    limit: int,
    after: tuple[datetime, int] | None,
    filters: OrgItemFilter,
) -> list[Row]:
    """Return items, last changed first. `after`: (changed_at, id) of the previous page's last."""
    at, item_id = after or (None, None)
    values = (filters.source, filters.changed_since, filters.missing)
    return _plain(await connection.fetch(ITEMS, org_id, limit, *values, at, item_id))


async def edits(connection: Connection, org_id: UUID, limit: int, after: int | None) -> list[Row]:
    """Return edits of the schedule, newest first. `after`: id of the previous page's last edit."""
    return _plain(await connection.fetch(EDITS, org_id, limit, after))


def _plain(rows: list[Any]) -> list[Row]:
    return [dict(row) for row in rows]
