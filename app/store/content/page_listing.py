"""Reads of raw pages and rejected records for people."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import func
from sqlmodel import col, select

from app.models.runs import RejectedRow, RunRow
from app.store.bounded import Condition, RowPage, RowQuery, row_page
from app.store.db import Connection

SHOWN_BYTES = 600  # bytes that are shown of a rejected record
ORG_RUNS = 500  # runs of an organisation whose rejected records are listed

# Filters by organisation itself, in addition to row-level security. The operator sees any.
OF_RUN = """
SELECT p.id, p.source, p.partition, p.page, p.url, p.status, p.fetched_at, b.size
FROM raw_pages p
JOIN runs r ON r.execution_id = p.execution_id
LEFT JOIN raw_bodies b ON b.hash = p.body_hash
WHERE p.execution_id = $1 AND ($2::uuid IS NULL OR r.org_id = $2)
  AND ($3::text IS NULL OR p.source = $3) AND p.id > $4
ORDER BY p.id LIMIT $5
"""
ONE = """
SELECT p.id, p.execution_id, p.source, p.partition, p.expected, p.page, p.url, p.status, p.headers,
       p.fetched_at, p.body_hash, b.size, r.org_id
FROM raw_pages p
JOIN runs r ON r.execution_id = p.execution_id
LEFT JOIN raw_bodies b ON b.hash = p.body_hash
WHERE p.id = $1 AND ($2::uuid IS NULL OR r.org_id = $2)
"""
# The kept page of each rejected record, if it is still kept.
PAGES_OF = """
SELECT r.id, (SELECT max(p.id) FROM raw_pages p
              WHERE p.execution_id = r.execution_id AND p.source = r.source AND p.page = r.page
                AND p.partition IS NOT DISTINCT FROM r.partition) AS page_id
FROM rejected_records r WHERE r.id = ANY ($1::bigint[])
"""


@dataclass(frozen=True, slots=True)
class RejectionFilter:
    """Filter of rejected records across runs. `reason`: a substring; `org_id` None is anyone."""

    org_id: UUID | None = None
    source: str | None = None
    reason: str | None = None


async def of_run(
    connection: Connection,
    run_id: UUID,
    org_id: UUID | None,
    source: str | None,
    after: int,
    n: int,
) -> list[dict[str, Any]]:
    """Return at most `n` kept pages of the run, in the order they were kept, after that id.

    `size` is None if retention has deleted the body.
    """
    rows = await connection.fetch(OF_RUN, run_id, org_id, source, after, n)
    return [dict(row) for row in rows]


async def raw_page(
    connection: Connection, page_id: int, org_id: UUID | None
) -> dict[str, Any] | None:
    """Return one kept page without its body; None if there is none."""
    row = await connection.fetchrow(ONE, page_id, org_id)
    return None if row is None else dict(row)


async def rejected(
    connection: Connection, filters: RejectionFilter, after: tuple[datetime, int] | None, n: int
) -> RowPage:
    """Return `n` rejected records across runs, newest first, after (created_at, id).

    Of an organisation, those of its ORG_RUNS newest runs. `data` is the first SHOWN_BYTES bytes,
    `size` the length of all of it, `page_id` the kept page.
    """
    query = RowQuery(_rejected_rows(filters), ("created_at", "id"), _conditions(filters))
    found = await row_page(connection, query, after, n)
    ids = [row["id"] for row in found.rows]
    kept = {row[0]: row[1] for row in await connection.fetch(PAGES_OF, ids)}
    for row in found.rows:
        row["page_id"] = kept.get(row["id"])
    return found


def _rejected_rows(filters: RejectionFilter) -> Any:
    rows: Any = select(RejectedRow)
    statement = rows.with_only_columns(
        col(RejectedRow.id),
        col(RejectedRow.execution_id),
        col(RejectedRow.source),
        col(RejectedRow.partition),
        col(RejectedRow.page),
        col(RejectedRow.record_id),
        col(RejectedRow.reason),
        func.substring(RejectedRow.data, 1, SHOWN_BYTES).label("data"),
        func.octet_length(RejectedRow.data).label("size"),
        col(RejectedRow.created_at),
    )
    if filters.org_id is None:
        return statement
    own = select(RunRow.execution_id).where(RunRow.org_id == filters.org_id)
    newest = own.order_by(col(RunRow.created_at).desc(), col(RunRow.execution_id)).limit(ORG_RUNS)
    return statement.where(col(RejectedRow.execution_id).in_(newest))


def _conditions(filters: RejectionFilter) -> list[Condition]:
    conditions: list[Condition] = []
    if filters.source is not None:
        source = filters.source
        conditions.append(lambda c: c.source == source)
    if filters.reason is not None:
        reason = filters.reason.lower()
        conditions.append(lambda c: func.strpos(func.lower(c.reason), reason) > 0)
    return conditions
