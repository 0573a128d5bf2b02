"""Tables of jobs: rows are upserted by primary key, and only those that differ are written."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import msgspec
from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlmodel import SQLModel

from app.store.content.write_counts import WriteCounts
from app.store.db import Connection

# Postgres reads each column's type from the table; a row that is as it was is not written.
UPSERT = """
WITH given AS (
  SELECT DISTINCT ON ({key}) * FROM jsonb_populate_recordset(NULL::{table}, $1) ORDER BY {key}
), written AS (
  INSERT INTO {table} AS old ({columns}) SELECT {columns} FROM given
  ON CONFLICT ({key}) DO UPDATE SET {changes}
  WHERE ({old_values}) IS DISTINCT FROM ({new_values})
  RETURNING xmax = 0 AS new_row
)
SELECT (SELECT count(*) FROM given), count(*) FILTER (WHERE new_row),
       count(*) FILTER (WHERE NOT new_row)
FROM written
"""
INSERT_NEW = """
WITH given AS (
  SELECT DISTINCT ON ({key}) * FROM jsonb_populate_recordset(NULL::{table}, $1) ORDER BY {key}
), written AS (
  INSERT INTO {table} ({columns}) SELECT {columns} FROM given
  ON CONFLICT ({key}) DO NOTHING RETURNING 1
)
SELECT (SELECT count(*) FROM given), count(*), 0 FROM written
"""


@dataclass(frozen=True, slots=True)
class _Names:
    """The quoted names of a table and its columns."""

    table: str
    key: tuple[str, ...]
    others: tuple[str, ...]


class TableWriter:
    """Writes rows of a SQLModel table. Raises ValueError if it has no primary key."""

    def __init__(self, model: type[SQLModel]) -> None:
        if not hasattr(model, "__table__"):
            raise ValueError(f"{model.__name__} is no table: write `table=True` in its class line")
        table = cast("Table", model.__table__)  # pyright: ignore[reportAttributeAccessIssue] - SQLModel's, untyped
        self._model = model
        self._key = [column.name for column in table.primary_key.columns]
        if any(column.autoincrement is True or column.identity for column in table.columns):
            raise ValueError(f"{model.__name__} numbers its rows: use a key that the site gives")
        self._columns = [column.name for column in table.columns]
        self._statement = _statement(table, self._key)

    def key(self, row: Any) -> str:
        """The primary key of a row, as text."""
        return "\n".join(str(getattr(row, name)) for name in self._key)

    async def write(self, connection: Connection, rows: Sequence[Any]) -> WriteCounts:
        """Insert or update the rows; returns the counts. Of equal keys the first counts."""
        if not rows:
            return WriteCounts()
        given = [
            msgspec.to_builtins({name: getattr(row, name) for name in self._columns}, enc_hook=str)
            for row in rows
        ]
        row = await connection.fetchrow(self._statement, given)
        return WriteCounts(*row) if row is not None else WriteCounts()


def _statement(table: Table, key: Sequence[str]) -> str:
    quote = postgresql.dialect().identifier_preparer.quote
    names = _Names(
        quote(table.name),
        tuple(quote(name) for name in key),
        tuple(quote(column.name) for column in table.columns if column.name not in key),
    )
    columns = ", ".join((*names.key, *names.others))
    if not names.others:
        return INSERT_NEW.format(table=names.table, key=", ".join(names.key), columns=columns)
    return UPSERT.format(
        table=names.table,
        key=", ".join(names.key),
        columns=columns,
        changes=", ".join(f"{name} = excluded.{name}" for name in names.others),
        old_values=", ".join(f"old.{name}" for name in names.others),
        new_values=", ".join(f"excluded.{name}" for name in names.others),
    )
