"""What a tick, a run and a page cost in Postgres and Redis: no more than is recorded."""

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.parse import urlsplit

import pytest
from arq.connections import ArqRedis

from app.embedded import Servers
from app.store.servers import ServerUrls
from scripts.bench import guard, wire
from tests.servers import create_database, drop_database

DATABASE = "guard"


@pytest.mark.timeout(240)
async def test_nothing_costs_more_than_is_recorded(
    servers: Servers, template: str, redis: ArqRedis, redis_url: str
) -> None:
    name = f"{DATABASE}_{urlsplit(redis_url).query.removeprefix('db=')}"
    await drop_database(servers, name)
    direct = ServerUrls(await create_database(servers, name, template=template), redis_url)

    with TemporaryDirectory(prefix="g") as folder:  # a socket's path is short
        found = await guard.measure(direct, Path(folder))

    recorded = json.loads(guard.FIGURES.read_text("utf-8"))
    for figures in (*found.values(), *recorded.values()):
        figures.pop("wal", None)  # other tests write to the same server
    await redis.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    await drop_database(servers, name)
    assert guard.differences(found, recorded) == []


def test_a_figure_that_grew_is_named_and_so_is_a_count_that_fell() -> None:
    recorded = {
        "tick": {"postgres_trips": 8.0, "postgres_bytes": 1_000.0, "wal": 900.0},
        "gone": {"redis_trips": 1.0},
    }
    found = {"tick": {"postgres_trips": 9.0, "postgres_bytes": 1_100.0, "wal": 1_100.0}}

    said = guard.differences(found, recorded)

    assert said == ["gone: not measured", "tick: postgres_trips grew from 8 to 9"]
    found["tick"] |= {"postgres_trips": 7.0, "postgres_bytes": 1_200.0}
    assert guard.differences(found, recorded)[1:] == [
        "tick: postgres_trips fell from 8 to 7: --write",
        "tick: postgres_bytes grew from 1000 to 1200",
    ]


def test_statements_round_trips_and_commands_are_counted() -> None:
    traffic = wire.Traffic()
    postgres, redis = wire.PostgresMessages(traffic), wire.RedisCommands(traffic)
    startup, bind, execute, sync = (
        b"\0\0\0\x08\0\x03\0\0", b"B\0\0\0\x05x", b"E\0\0\0\x04", b"S\0\0\0\x04",
    )  # fmt: skip

    postgres.feed(startup + bind[:3])
    postgres.feed(bind[3:] + execute + sync)
    redis.feed(b"*2\r\n$3\r\nGET\r\n$1\r\n")
    redis.feed(b"a\r\n*1\r\n$4\r\nPING\r\n")
    redis.answered(b"$-1\r\n+PONG\r\n")
    redis.feed(b"*1\r\n$4\r\nPING\r\n")

    assert (traffic.postgres_statements, traffic.postgres_trips) == (1, 1)
    assert (traffic.redis_commands, traffic.redis_trips) == (3, 2)
    assert traffic.redis_bytes == 60
