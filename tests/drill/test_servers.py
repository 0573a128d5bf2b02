"""The servers of a chaos run: what a frozen one does."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import asyncpg
import pytest

from scripts.drill.servers import Servers

pytestmark = pytest.mark.anyio


@pytest.fixture
def private(tmp_path: Path) -> Iterator[Servers]:
    servers = Servers(tmp_path / "servers")
    servers.postgres.start()
    yield servers
    servers.stop()


async def test_a_frozen_postgres_answers_no_session_and_goes_on_when_it_is_thawed(
    private: Servers,
) -> None:
    connection = await asyncpg.connect(private.database_url)
    try:
        private.postgres.freeze()
        answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
        done, _ = await asyncio.wait({answer}, timeout=0.5)
        private.postgres.thaw()

        assert not done
        assert await asyncio.wait_for(answer, 30) == 1
    finally:
        await connection.close()
