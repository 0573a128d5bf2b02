"""How the benchmark of odds makes its boards, and that every way of storing stores the same."""

from urllib.parse import urlsplit

import pytest

from app.embedded import Servers
from app.store.db import open_pool
from scripts.bench import odds_board
from scripts.bench.odds_ways import WAYS, Way
from tests.servers import create_database, drop_database


def test_the_share_of_prices_that_is_asked_for_moves() -> None:
    before = odds_board.board(2_000)

    after = odds_board.moved(before, 0.01, 7)

    pairs = [
        (old.price, new.price)
        for one, other in zip(before, after, strict=True)
        for old, new in zip(one.prices, other.prices, strict=True)
    ]
    assert sum(old != new for old, new in pairs) == 20
    assert odds_board.moved(before, 0.0, 7) == before


@pytest.mark.parametrize("name", list(WAYS))
async def test_every_way_stores_the_board(servers: Servers, template: str, name: str) -> None:
    board = odds_board.board(400)
    database = f"way_{name}_{urlsplit(servers.database_url).path.strip('/')}"
    await drop_database(servers, database)
    pool = await open_pool(await create_database(servers, database, template=template), size=1)
    async with pool.acquire() as connection:
        dsn = urlsplit(servers.database_url)._replace(path=f"/{database}").geturl()
        way = Way(dsn, connection)
        if name != "ours":
            await way.events(board)

        for each in (board, odds_board.moved(board, 0.5, 1)):
            step = await WAYS[name](way, each, odds_board.START)
            await step()

        stored = [row[0] for row in await connection.fetch("SELECT price FROM odds_prices")]
    last = odds_board.moved(board, 0.5, 1)
    if way.engine is not None:
        await way.engine.dispose()
    pool.terminate()
    await drop_database(servers, database)
    wanted = [p.price for event in last for p in event.prices if p.price is not None]
    assert sorted(stored) == sorted(wanted)
