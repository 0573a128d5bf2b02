"""Execution of SQLModel's `select()` on asyncpg connections."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy.dialects.postgresql import asyncpg as asyncpg_dialect
from sqlalchemy.sql.elements import ClauseElement

from app.store.db import Connection, Pool

_DIALECT: Any = asyncpg_dialect.dialect()


def compiled(statement: ClauseElement) -> tuple[str, Sequence[Any]]:
    """Return the statement's text, with numbered parameters, and their values."""
    result: Any = statement.compile(dialect=_DIALECT, compile_kwargs={"render_postcompile": True})
    return str(result), [result.params[name] for name in result.positiontup]


async def fetch(connection: Pool | Connection, statement: ClauseElement) -> list[dict[str, Any]]:
    """Return the rows of the statement, as plain rows."""
    text, values = compiled(statement)
    return [dict(row) for row in await connection.fetch(text, *values)]
