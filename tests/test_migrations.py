"""The schema's history leads to what the models say, up and down, and two at once are fine."""

import asyncio
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest
from alembic import command

from app import migrations
from app.embedded import Servers
from app.models import tables
from tests import servers as real

PROJECT = Path(__file__).parents[1]


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """An empty database."""
    name = f"migrations_{uuid4().hex}"
    yield asyncio.run(real.create_database(servers, name))
    asyncio.run(real.drop_database(servers, name))


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


def test_the_history_leads_to_what_the_models_say(empty: str) -> None:
    migrations.upgrade(empty)

    command.check(migrations._config(empty))  # pyright: ignore[reportPrivateUsage] - as alembic has it

    assert table_names(empty) == set(tables.tables)


def test_the_way_down_leaves_nothing_and_the_way_up_is_open_again(empty: str) -> None:
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

    said = [process.communicate(timeout=30)[1] for process in both]

    assert [process.returncode for process in both] == [0, 0], said
    assert table_names(empty) == set(tables.tables)
