"""Migrations: they produce the schema of the models, go down, and run once at a time."""

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from alembic import command
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.pool import NullPool

from app import migrations
from app.embedded import Servers
from app.migrations.tables import tables
from app.store import schema
from tests import servers as real

PROJECT = Path(__file__).parents[1]
# Databases exist that have these: a migration is neither changed nor put between them, or it would
# never run there. After a landing, both are set anew.
RELEASED = "0048"
RELEASED_DIGEST = "e088044053eb429ae3475327accdc4a92956d50605023b0a2bcdd341a2a8650a"
DEFINITIONS = """
WITH tables AS (
  SELECT oid, relname, relkind, reloptions FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition
    AND relname <> 'alembic_version'
)
SELECT concat_ws(' ', relname, relkind, reloptions) AS definition FROM tables
UNION ALL
SELECT concat_ws(' ', relname, attname, format_type(atttypid, atttypmod), attidentity,
                 CASE WHEN attnotnull THEN 'not null' END, pg_get_expr(adbin, adrelid))
FROM tables JOIN pg_attribute ON attrelid = tables.oid AND attnum > 0 AND NOT attisdropped
LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
UNION ALL
SELECT concat_ws(' ', relname, conname, pg_get_constraintdef(pg_constraint.oid))
FROM tables JOIN pg_constraint ON conrelid = tables.oid AND contype <> 'n'
UNION ALL
SELECT pg_get_indexdef(indexrelid) FROM tables JOIN pg_index ON indrelid = tables.oid
ORDER BY 1
"""


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """An empty database."""
    name = f"migrations_{uuid4().hex}"
    yield asyncio.run(real.create_database(servers, name))
    asyncio.run(real.drop_database(servers, name))


@pytest.fixture
def created(servers: Servers) -> Iterator[str]:
    """A database whose tables SQLAlchemy created from the models."""
    name = f"models_{uuid4().hex}"
    dsn = asyncio.run(real.create_database(servers, name))
    asyncio.run(create_tables(dsn))
    yield dsn
    asyncio.run(real.drop_database(servers, name))


async def create_tables(dsn: str) -> None:
    engine = create_async_engine(
        "postgresql+asyncpg://", async_creator=lambda: asyncpg.connect(dsn), poolclass=NullPool
    )
    async with engine.begin() as connection:
        await connection.run_sync(tables.create_all)
    await engine.dispose()


async def definitions(dsn: str) -> list[str]:
    """Columns, constraints, indexes and storage options of every table, as Postgres prints them."""
    connection = await asyncpg.connect(dsn)
    try:
        return [row["definition"] for row in await connection.fetch(DEFINITIONS)]
    finally:
        await connection.close()


def table_names(dsn: str) -> set[str]:
    async def ask() -> set[str]:
        connection = await asyncpg.connect(dsn)
        try:
            rows = await connection.fetch(
                "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                " AND relkind IN ('r', 'p') AND NOT relispartition"
            )
        finally:
            await connection.close()
        return {row["relname"] for row in rows} - {"alembic_version"}

    return asyncio.run(ask())


def test_the_migrations_produce_the_tables_of_the_models(empty: str, created: str) -> None:
    migrations.upgrade(empty)

    command.check(migrations._config(empty))  # pyright: ignore[reportPrivateUsage] - as alembic has it

    migrated = asyncio.run(definitions(empty))
    assert "runs runs_status CHECK" in "\n".join(migrated)
    assert migrated == asyncio.run(definitions(created))


def test_a_downgrade_removes_every_table_and_an_upgrade_creates_them_again(empty: str) -> None:
    migrations.upgrade(empty)

    migrations.downgrade(empty, "base")

    assert table_names(empty) == set()
    migrations.upgrade(empty)
    assert table_names(empty) == set(tables.tables)


def test_an_upgrade_of_what_is_up_to_date_changes_nothing(empty: str) -> None:
    migrations.upgrade(empty)

    migrations.upgrade(empty)

    assert table_names(empty) == set(tables.tables)


def test_two_upgrades_at_once_wait_for_each_other(empty: str) -> None:
    command_line = [sys.executable, "-m", "app", "migrate"]
    both = [
        subprocess.Popen(  # noqa: S603 - ourselves
            command_line, cwd=PROJECT, env={"DATABASE_URL": empty}, stderr=subprocess.PIPE
        )
        for _ in range(2)
    ]

    said = [process.communicate(timeout=90)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert table_names(empty) == set(tables.tables)


def test_released_migrations_are_as_they_were_and_new_ones_come_after_them() -> None:
    chain = schema.known_revisions()
    released = chain[: chain.index(RELEASED) + 1]
    folder = PROJECT / "app" / "migrations" / "versions"
    texts = [next(folder.glob(f"{revision}_*.py")).read_bytes() for revision in released]

    assert hashlib.sha256(b"".join(texts)).hexdigest() == RELEASED_DIGEST
