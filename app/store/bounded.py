"""Keyset pages of large tables that examine a bounded number of rows, whatever is searched for."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Self

from sqlalchemy import ColumnElement, tuple_
from sqlmodel import select

from app.store import select as selects
from app.store.db import Connection

MAX_EXAMINED = 5_000  # rows that one page examines for a condition that no index answers

Row = dict[str, Any]
Condition = Callable[[Any], ColumnElement[bool]]


@dataclass(frozen=True, slots=True)
class RowPage:
    """One page of rows. `after`: where the next page starts; None if this is the last one.

    `examined`: how many rows were examined if that, not the number of matches, ended the page.
    """

    rows: list[Row]
    after: tuple[Any, ...] | None
    examined: int | None = None

    @classmethod
    def of(cls, rows: list[Row], limit: int, *keys: str) -> Self:
        """Return the first `limit` of the rows. `keys`: the columns that they are sorted by."""
        if len(rows) <= limit:
            return cls(rows, None)
        return cls(rows[:limit], tuple(rows[limit - 1][key] for key in keys))


@dataclass(frozen=True, slots=True)
class RowQuery:
    """Rows of `statement` in the order of its columns `keys`, in which an index returns them.

    `prefix`: columns before `keys` in the index, equal in all rows. They have to be named if they
    are null, since Postgres knows only of `=` that it makes a column constant.
    Each of `conditions` makes an expression from the columns of the statement.
    """

    statement: Any
    keys: Sequence[str]
    conditions: Sequence[Condition] = ()
    descending: bool = True
    prefix: Sequence[str] = ()

    def order(self, columns: Any) -> list[Any]:
        """Return the order of the rows, by these columns."""
        keys = [columns[key].desc() if self.descending else columns[key] for key in self.keys]
        return [*(columns[name] for name in self.prefix), *keys]


async def row_page(
    connection: Connection,
    query: RowQuery,
    after: tuple[Any, ...] | None,
    limit: int,
    examined: int = MAX_EXAMINED,
) -> RowPage:
    """Return the rows after `after`. The conditions are evaluated for `examined` rows at most."""
    keys, statement = query.keys, query.statement
    columns = statement.selected_columns
    if after is not None:
        place, start = tuple_(*(columns[key] for key in keys)), tuple_(*after)
        statement = statement.where(place < start if query.descending else place > start)
    statement = statement.order_by(*query.order(columns))
    if not query.conditions:
        rows = await selects.fetch(connection, statement.limit(limit + 1))
        return RowPage.of(rows, limit, *keys)
    window = statement.limit(examined).subquery()
    order = query.order(window.c)
    matching: Any = select(window).where(*(each(window.c) for each in query.conditions))
    rows = await selects.fetch(connection, matching.order_by(*order).limit(limit + 1))
    if len(rows) > limit:
        return RowPage.of(rows, limit, *keys)
    last: Any = select(window).order_by(*order).offset(examined - 1).limit(1)
    ends = await selects.fetch(connection, last)
    if not ends:
        return RowPage(rows, None)
    return RowPage(rows, tuple(ends[0][key] for key in keys), examined)
