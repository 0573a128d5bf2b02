"""A real Redis on a socket of its own, for the shared limiter."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import cast

import pytest
from redis.asyncio import Redis

from tests import limiter_tasks
from tests.redis_process import redis_process


@pytest.fixture(scope="session")
def redis_socket() -> Iterator[str]:
    """The path of the socket."""
    with redis_process() as server:
        yield str(server.socket)


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
