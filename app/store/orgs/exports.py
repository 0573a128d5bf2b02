"""Keyset-paginated queries for exports of an organisation's rows, oldest first.

An export ends before what an open transaction could still precede, as in the feed of changes: a
place that was given to a client is never beyond a row that commits later.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from app.store import tenancy
from app.store.content.changes import parse_id
from app.store.db import Connection, Pool
from app.store.reports.exports import ExportRange

Place = tuple[Any, ...]


@dataclass(frozen=True, slots=True)
class ExportColumn:
    """A column: `type` is text, instant, number or json."""

    name: str
    type: str = "text"


@dataclass(frozen=True, slots=True)
class OrgExport:
    """One exportable dataset. `query` takes organisation, range, place (two values), limit, end.

    `end`: a query for what is behind all that was written so far. If an open transaction can still
    write something before it, `table` names what it then has locked.
    `begin`: the place before all rows. `parse`: a row's cursor as a place; raises ValueError.
    `dropped`: a query for the position of the last row that retention has dropped.
    """

    columns: tuple[ExportColumn, ...]
    query: str
    end: str
    begin: Place
    parse: Callable[[str], Place]
    table: str | None = None
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
WHERE org_id = $1 AND id > $4::bigint AND $5::int = 0 AND id <= $7
  AND ($2::timestamptz IS NULL OR changed_at >= $2)
  AND ($3::timestamptz IS NULL OR changed_at < $3)
ORDER BY id LIMIT $6
"""
# INSERT locks the table before it takes the id of the row.
ITEMS_END = "SELECT last_value FROM items_id_seq"
CHANGES = """
SELECT position || '.' || id AS cursor, at, kind, source, key, run_id, fields
FROM changes
WHERE org_id = $1 AND (position, id) > ($4, $5)
  AND ($2::timestamptz IS NULL OR at >= $2) AND ($3::timestamptz IS NULL OR at < $3)
  AND position < $7
ORDER BY position, id LIMIT $6
"""
# The position of the oldest open transaction.
CHANGES_END = """
SELECT base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM change_clock
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
  AND ($3::timestamptz IS NULL OR r.created_at < $3) AND r.created_at < $7
ORDER BY r.created_at, r.execution_id LIMIT $6
"""
# Runs of organisations get the instant of their insertion, when the table is locked already.
RUNS_END = "SELECT clock_timestamp()"
# The transactions, or those of $2, that may have inserted into the table for the organisation: not
# those that hold the lock of another one (`tenancy.NARROW`), whose keys have no sign here.
WRITERS = """
SELECT virtualtransaction FROM pg_locks
WHERE granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
  AND ($2::text[] IS NULL OR virtualtransaction = ANY ($2))
GROUP BY virtualtransaction
HAVING bool_or(locktype = 'relation' AND relation = $1::text::regclass
               AND mode = 'RowExclusiveLock')
   AND NOT bool_or(locktype = 'advisory' AND objsubid = 2 AND classid::bigint = $3
                   AND objid::bigint <> hashtext($4)::bigint & 4294967295)
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
        ITEMS_END,
        (-1, 0),
        _number,
        table="items",
    ),
    "changes": OrgExport(
        _columns("cursor at kind source key run_id fields", at="instant", fields="json"),
        CHANGES,
        CHANGES_END,
        (0, 0),
        _two_numbers,
        dropped=DROPPED_CHANGES,
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
        RUNS_END,
        (datetime(1970, 1, 1, tzinfo=UTC), UUID(int=0)),
        _instant_and_id,
        table="runs",
    ),
}


async def end(pool: Pool, kind: OrgExport) -> Any:
    """Return what is behind all rows that were written so far."""
    return await pool.fetchval(kind.end)


async def writers(
    pool: Pool, kind: OrgExport, org_id: UUID, these: Sequence[str] | None = None
) -> Sequence[str]:
    """Return the open transactions, or those of `these`, that may have rows before the end."""
    if kind.table is None:
        return ()
    owner = (tenancy.OWNER_LOCK, str(org_id))
    return [row[0] for row in await pool.fetch(WRITERS, kind.table, these, *owner)]


async def rows(  # noqa: PLR0913, PLR0917 - what the query takes
    connection: Connection,
    org_id: UUID,
    kind: OrgExport,
    span: ExportRange,
    place: Place,
    limit: int,
    before: Any,
) -> list[dict[str, Any]]:
    """Return up to `limit` rows after that place, up to the end `before`."""
    values = (org_id, span.since, span.until, *place, limit, before)
    return [dict(row) for row in await connection.fetch(kind.query, *values)]


async def dropped_through(connection: Connection, kind: OrgExport) -> int:
    """Return the position of the last row that retention has dropped; 0 for none."""
    return 0 if kind.dropped is None else await connection.fetchval(kind.dropped)
