"""Creation of the tables that jobs declare."""

from collections.abc import Sequence
from typing import Any, cast

from sqlalchemy import Table
from sqlalchemy.dialects import postgresql
from sqlalchemy.schema import CreateIndex, CreateTable
from sqlmodel import SQLModel

from app.store.db import Pool

# CREATE TABLE IF NOT EXISTS is not safe against itself: workers that start together would fail.
LOCK = "SELECT pg_advisory_xact_lock(hashtext('rollcall: tables of jobs'))"


async def create_missing(pool: Pool, tables: Sequence[type[SQLModel]]) -> None:
    """Create those of the tables, with their indexes, that do not exist. Changes no table."""
    if not tables:
        return
    dialect: Any = postgresql.dialect()
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(LOCK)
        for model in dict.fromkeys(tables):
            table = cast("Table", model.__table__)  # pyright: ignore[reportAttributeAccessIssue] - SQLModel's, untyped
            statements = [
                CreateTable(table, if_not_exists=True),
                *(CreateIndex(index, if_not_exists=True) for index in table.indexes),
            ]
            for statement in statements:
                await connection.execute(str(statement.compile(dialect=dialect)))
