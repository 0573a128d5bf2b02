"""Queries for what an organisation uses of its limits, and what it used in each month."""

from dataclasses import dataclass
from typing import Any
from uuid import UUID

from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class CurrentUsage:
    """What an organisation has now. `bytes`: of its items, as JSON."""

    rows: int
    bytes: int
    collections: int
    recipes: int


# Always one row: zeros, not none, for an organisation that has stored nothing yet.
CURRENT = """
SELECT coalesce((SELECT rows FROM org_usage WHERE org_id = $1), 0) AS rows,
       coalesce((SELECT bytes FROM org_usage WHERE org_id = $1), 0) AS bytes,
       (SELECT count(*) FROM schedules WHERE org_id = $1 AND retired_at IS NULL) AS collections,
       (SELECT count(*) FROM org_sources WHERE org_id = $1) AS recipes
"""
# Of the runs that retention keeps.
MONTHS = """
SELECT to_char(date_trunc('month', r.created_at AT TIME ZONE 'UTC'), 'YYYY-MM') AS month,
       count(*) AS runs, sum(s.pages)::bigint AS pages, sum(s.bytes)::bigint AS bytes,
       sum(s.items)::bigint AS items
FROM runs r
CROSS JOIN LATERAL (
  SELECT coalesce(sum(pages), 0) AS pages, coalesce(sum(bytes), 0) AS bytes,
         coalesce(sum(inserted + changed), 0) AS items
  FROM run_sources WHERE execution_id = r.execution_id) s
WHERE r.org_id = $1 GROUP BY 1 ORDER BY 1 DESC LIMIT 12
"""
STORED = "SELECT org_id, rows, bytes FROM org_usage"


async def current(connection: Pool | Connection, org_id: UUID) -> CurrentUsage:
    """Return what the organisation has now."""
    row = await connection.fetchrow(CURRENT, org_id)
    return CurrentUsage(*(row or (0, 0, 0, 0)))


async def months(connection: Pool | Connection, org_id: UUID) -> list[dict[str, Any]]:
    """Return runs, pages, bytes and written items of each of the last 12 months, newest first."""
    return [dict(row) for row in await connection.fetch(MONTHS, org_id)]


async def stored(connection: Pool | Connection) -> dict[UUID, tuple[int, int]]:
    """Return the number of items and their bytes, by organisation."""
    return {row[0]: (row[1], row[2]) for row in await connection.fetch(STORED)}
