"""Reads of items for people: the sources of an owner, the items of one, and one item."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import String, cast, func
from sqlmodel import col, select

from app.models.orgs import ItemRow
from app.store import select as selects
from app.store.bounded import MAX_EXAMINED, Condition, Row, RowPage, RowQuery, row_page
from app.store.content.items import for_owner
from app.store.db import Connection

# One probe of an index for each source, whatever the number of items. `org_id` is named in the
# order because `IS NULL`, unlike `=`, does not let Postgres leave it out.
SOURCES = """
WITH RECURSIVE names AS (
  (SELECT i.source FROM items i WHERE {owner} ORDER BY i.org_id, i.source LIMIT 1)
  UNION ALL
  SELECT (SELECT i.source FROM items i WHERE {owner} AND i.source > n.source
          ORDER BY i.org_id, i.source LIMIT 1)
  FROM names n WHERE n.source IS NOT NULL
)
SELECT n.source, l.changed_at, l.run_id FROM (
  SELECT source FROM names WHERE source IS NOT NULL LIMIT $2) n
CROSS JOIN LATERAL (
  SELECT i.changed_at, i.run_id FROM items i WHERE {owner} AND i.source = n.source
  ORDER BY i.org_id, i.changed_at DESC, i.id DESC LIMIT 1) l
ORDER BY n.source
"""


@dataclass(frozen=True, slots=True)
class ItemFilter:
    """Filter of the items of a source. `org_id` None is the operator.

    `text`: a substring of a value or of the key, case-insensitive. `missing`: whether they have
    left their source. `column`: sorts the last changed items by it.
    """

    org_id: UUID | None
    source: str
    text: str | None = None
    missing: bool | None = None
    column: str | None = None
    descending: bool = True


async def sources(connection: Connection, org_id: UUID | None, limit: int) -> list[dict[str, Any]]:
    """Return the sources of which items are stored, by name, with the last change of each."""
    rows = await connection.fetch(for_owner(SOURCES, org_id), org_id, limit)
    return [dict(row) for row in rows]


async def changed(
    connection: Connection, filters: ItemFilter, after: tuple[datetime, int] | None, n: int
) -> RowPage:
    """Return `n` matching items, last changed first, after (changed_at, id)."""
    query = RowQuery(
        _of_source(filters), ("changed_at", "id"), _conditions(filters), prefix=("org_id",)
    )
    return await row_page(connection, query, after, n)


async def by_key(
    connection: Connection, filters: ItemFilter, after: tuple[str] | None, n: int
) -> RowPage:
    """Return `n` matching items, by key, after that key."""
    query = RowQuery(
        _of_source(filters), ("key",), _conditions(filters), descending=False, prefix=("org_id",)
    )
    return await row_page(connection, query, after, n)


async def by_column(
    connection: Connection, filters: ItemFilter, offset: int, n: int
) -> tuple[list[Row], bool]:
    """Return `n` of the matching items among the last changed, by a column; whether more follow.

    Only the MAX_EXAMINED items that changed last are sorted. Items without the column are last.
    """
    newest: Any = _of_source(filters).order_by(
        ItemRow.org_id, col(ItemRow.changed_at).desc(), col(ItemRow.id).desc()
    )
    window = newest.limit(MAX_EXAMINED).subquery()
    value = window.c.data[filters.column]
    order = value.desc().nulls_last() if filters.descending else value.asc().nulls_last()
    statement: Any = (
        select(window)
        .where(*(each(window.c) for each in _conditions(filters)))
        .order_by(order, window.c.id.desc())
        .offset(offset)
        .limit(n + 1)
    )
    rows = await selects.fetch(connection, statement)
    return rows[:n], len(rows) > n


async def item(
    connection: Connection, org_id: UUID | None, source: str, item_id: int
) -> dict[str, Any] | None:
    statement = _of_source(ItemFilter(org_id, source)).where(ItemRow.id == item_id)
    rows = await selects.fetch(connection, statement)
    return rows[0] if rows else None


def _of_source(filters: ItemFilter) -> Any:
    # `IS NULL` and `=` on the plain column use the index, see items.py.
    org_id = col(ItemRow.org_id)
    return select(ItemRow).where(
        org_id.is_(None) if filters.org_id is None else org_id == filters.org_id,
        ItemRow.source == filters.source,
    )


def _conditions(filters: ItemFilter) -> list[Condition]:
    conditions: list[Condition] = []
    if filters.text is not None:
        wanted = filters.text.lower()
        conditions.append(
            lambda c: (
                func.strpos(func.lower(func.concat(c.key, " ", cast(c.data, String))), wanted) > 0
            )
        )
    if filters.missing is not None:
        missing = filters.missing
        conditions.append(
            lambda c: c.missing_since.is_not(None) if missing else c.missing_since.is_(None)
        )
    return conditions
