"""Query for the dashboard page of a collection."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.store.db import Connection
from app.store.schedules import zones

# Retired collections last, so that the limit cuts these off first.
OF_ORG = """
SELECT s.id, s.key, s.spec, s.enabled, s.paused_at, s.paused_by, s.paused_note, s.next_tick_at,
       s.notify, s.retired_at, p.name, p.sources, s.zone_data, s.policies,
       s.paused_until
FROM schedules s LEFT JOIN collection_presets p ON p.id = s.preset_id
WHERE s.org_id = $1 ORDER BY s.retired_at IS NOT NULL, s.key LIMIT $2
"""


@dataclass(frozen=True, slots=True)
class CollectionSummary:
    """An organisation's schedule with its preset."""

    id: int
    key: str
    spec: dict[str, Any]
    enabled: bool
    paused_at: datetime | None
    paused_by: str | None
    paused_note: str | None
    next_tick_at: datetime | None
    notify: bool
    retired_at: datetime | None
    preset: str | None
    sources: list[dict[str, Any]] | None
    zone_data: str | None
    policies: dict[str, Any]
    paused_until: datetime | None


# LATERAL with LIMIT 1: the last run of each by its index, not by sorting all runs.
ALL = """
SELECT o.name AS org, s.key, s.spec, s.enabled, s.paused_at, s.next_tick_at, o.disabled_at,
       last.status, last.at
FROM schedules s JOIN organizations o ON o.id = s.org_id
LEFT JOIN LATERAL (
  SELECT r.status, r.created_at AS at FROM runs r WHERE r.schedule_id = s.id
  ORDER BY r.created_at DESC LIMIT 1) last ON true
WHERE s.retired_at IS NULL ORDER BY o.name, s.key LIMIT $1
"""


# LATERAL: a limit per schedule, and one statement for all of them.
LAST_RUNS = """
SELECT r.execution_id FROM unnest($1::bigint[]) AS s (id)
CROSS JOIN LATERAL (SELECT execution_id FROM runs WHERE schedule_id = s.id
                    ORDER BY created_at DESC LIMIT $2) AS r
"""
# As LAST_RUNS: a limit per schedule, and one statement for all of them.
LAST_EDITS = """
SELECT s.id AS schedule_id, e.at, e.by, e.action, e.before, e.after
FROM unnest($1::bigint[]) AS s (id)
CROSS JOIN LATERAL (SELECT * FROM schedule_edits WHERE schedule_id = s.id
                    ORDER BY at DESC, id DESC LIMIT $2) AS e
ORDER BY e.at DESC, e.id DESC
"""


async def last_runs(connection: Connection, schedules: Sequence[int], limit: int) -> list[UUID]:
    """Return the ids of the last runs of each of these schedules."""
    return [row[0] for row in await connection.fetch(LAST_RUNS, schedules, limit)]


async def last_edits(
    connection: Connection, schedules: Sequence[int], limit: int
) -> list[dict[str, Any]]:
    """Return the last edits of each of these schedules, newest first, as plain rows."""
    return [dict(row) for row in await connection.fetch(LAST_EDITS, schedules, limit)]


async def of_all(connection: Connection, limit: int) -> list[dict[str, Any]]:
    """Return the collections of all organisations with their last run, by organisation."""
    return [dict(row) for row in await connection.fetch(ALL, limit)]


async def of_org(connection: Connection, org_id: UUID, limit: int) -> list[CollectionSummary]:
    """Return the organisation's collections, retired ones last, by name."""
    lines = [CollectionSummary(*row) for row in await connection.fetch(OF_ORG, org_id, limit)]
    await zones.ensure(connection, [(line.spec, line.zone_data) for line in lines])
    return lines
