"""A real Redis on a socket of its own, for the shared limiter."""

import asyncio
import subprocess
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from typing import cast

import pytest
from redis import Redis as BlockingRedis
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisAway

from app.embedded.redis import binary
from tests import limiter_tasks


def _wait_for(path: str) -> None:
    deadline = time.monotonic() + 10
    while True:
        try:
            with BlockingRedis(unix_socket_path=path) as probe:
                probe.ping()  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open
        except RedisAway:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    """The path of the socket."""
    with tempfile.TemporaryDirectory(prefix="rc") as folder:
        path = f"{folder}/r.sock"
        command = [
            str(binary()),
            "--port",
            "0",
            "--unixsocket",
            path,
            "--save",
            "",
            "--dir",
            folder,
        ]
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL)  # noqa: S603 - our own words
        try:
            _wait_for(path)
            yield path
        finally:
            server.terminate()
            server.wait(10)


@pytest.fixture
async def redis(redis_socket: str) -> AsyncIterator[Redis]:
    """An empty Redis. Fails the test that leaves a key without a TTL."""
    async with Redis(unix_socket_path=redis_socket) as opened:
        await opened.flushall()  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open
        yield opened
        await limiter_tasks.ended()
        _, keys = cast("tuple[int, list[bytes]]", await opened.scan(count=10_000))  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open
        lives = await asyncio.gather(*(opened.pttl(key) for key in keys))
        assert -1 not in lives, f"a key without a TTL among {keys}"
