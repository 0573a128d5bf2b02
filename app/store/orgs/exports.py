"""Keyset-paginated queries for exports of an organisation's rows, oldest first."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.store.content.changes import parse_id
from app.store.db import Connection
from app.store.reports.exports import ExportRange

Place = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """A column: `type` is text, instant, number or json."""

    name: str
    type: str = "text"


@dataclass(frozen=True, slots=True)
class OrgExport:
    """One exportable dataset. `query` takes organisation, range, place (two values) and limit.

    `begin`: the place before all rows. `parse`: a row's cursor as a place; raises ValueError.
    `dropped`: a query for the position of the last row that retention has dropped.
    """

    columns: tuple[ExportColumn, ...]
    query: str
    begin: Place
    parse: Callable[[str], Place]
    dropped: str | None = None


def _number(text: str) -> Place:
    return parse_id(text), 0


def _two_numbers(text: str) -> Place:
    position, _, number = text.partition(".")
    return parse_id(position), parse_id(number)


def _instant_and_id(text: str) -> Place:
    at, _, run_id = text.partition("_")
    parsed = datetime.fromisoformat(at)
    if parsed.tzinfo is None:
        raise ValueError(text)
    return parsed, UUID(run_id)


# Keyset by id, which never changes: no item moves between pages while a client reads on.
ITEMS = """
SELECT id::text AS cursor, source, coalesce(series, key) AS key, data, first_seen, last_seen,
       changed_at, missing_since, run_id
FROM items
WHERE org_id = $1 AND id > $4::bigint AND $5::int = 0
  AND ($2::timestamptz IS NULL OR changed_at >= $2)
  AND ($3::timestamptz IS NULL OR changed_at < $3)
ORDER BY id LIMIT $6
"""
# Only what no open transaction can still precede, as in the feed.
CHANGES = """
SELECT position || '.' || id AS cursor, at, kind, source, key, run_id, fields
FROM changes
WHERE org_id = $1 AND (position, id) > ($4, $5)
  AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
  AND position < (SELECT base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint
                  FROM change_clock)
ORDER BY position, id LIMIT $6
"""
DROPPED_CHANGES = "SELECT dropped_through FROM change_clock"
# A collection's name follows `collection:<organisation>:` in the key of its schedule.
RUNS = """
SELECT to_char(r.created_at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"+00:00"') || '_'
         || r.execution_id AS cursor,
       r.execution_id AS id, coalesce(nullif(substr(s.key, 49), ''), 'default') AS collection,
       r.trigger, r.requested_by, r.status, r.attempt,
       r.scheduled_for, r.created_at, r.started_at, r.completed_at, r.duration_seconds,
       r.error_type, r.error_message, r.stats
FROM runs r LEFT JOIN schedules s ON s.id = r.schedule_id
WHERE r.org_id = $1 AND (r.created_at, r.execution_id) > ($4, $5)
  AND ($2::timestamptz IS NULL OR r.created_at >= $2)
  AND ($3::timestamptz IS NULL OR r.created_at < $3)
ORDER BY r.created_at, r.execution_id LIMIT $6
"""


def _columns(names: str, **types: str) -> tuple[ExportColumn, ...]:
    return tuple(ExportColumn(name, types.get(name, "text")) for name in names.split())


ORG_EXPORTS = {
    "items": OrgExport(
        _columns(
            "cursor source key data first_seen last_seen changed_at missing_since run_id",
            data="json",
            **dict.fromkeys(("first_seen", "last_seen", "changed_at", "missing_since"), "instant"),
        ),
        ITEMS,
        (-1, 0),
        _number,
    ),
    "changes": OrgExport(
        _columns("cursor at kind source key run_id fields", at="instant", fields="json"),
        CHANGES,
        (0, 0),
        _two_numbers,
        DROPPED_CHANGES,
    ),
    "runs": OrgExport(
        _columns(
            "cursor id collection trigger requested_by status attempt scheduled_for created_at"
            " started_at completed_at duration_seconds error_type error_message stats",
            attempt="number",
            duration_seconds="number",
            stats="json",
            **dict.fromkeys(
                ("scheduled_for", "created_at", "started_at", "completed_at"), "instant"
            ),
        ),
        RUNS,
        (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)),
        _instant_and_id,
    ),
}


async def rows(
    connection: Connection,
    org_id: UUID,
    kind: OrgExport,
    span: ExportRange,
    place: Place,
    limit: int,
) -> list[dict[str, Any]]:
    """Return up to `limit` rows after that place."""
    found = await connection.fetch(kind.query, org_id, span.since, span.until, *place, limit)
    return [dict(row) for row in found]


async def dropped_through(connection: Connection, kind: OrgExport) -> int:
    """Return the position of the last row that retention has dropped; 0 for none."""
    return 0 if kind.dropped is None else await connection.fetchval(kind.dropped)
