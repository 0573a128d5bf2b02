"""Connections to Redis with less work per command keep every rule of redis-py's own."""

import asyncio
from contextlib import suppress
from typing import Any

from redis.exceptions import ConnectionError as Disconnected

from app.queue.jobs import redis_pool
from tests.redis_process import RedisProcess
from tests.wait import until


def client(server: RedisProcess, **options: Any) -> Any:
    return redis_pool(server.url, **options)


async def test_answers_reach_their_callers_when_all_connections_are_in_use(
    redis_server: RedisProcess,
) -> None:
    redis = client(redis_server, max_connections=2)

    answers = await asyncio.gather(*(redis.echo(str(number)) for number in range(300)))

    assert answers == [str(number).encode() for number in range(300)]
    assert len(redis.connection_pool._available_connections) == 2
    await redis.aclose(close_connection_pool=True)


async def test_a_cancelled_command_leaves_no_answer_to_the_next(
    redis_server: RedisProcess,
) -> None:
    redis = client(redis_server, max_connections=1)
    for number in range(100):
        task = asyncio.create_task(redis.echo(f"cancelled {number}"))
        for _ in range(number % 5):
            await asyncio.sleep(0)
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task

        assert await redis.echo(f"next {number}") == f"next {number}".encode()
    await redis.aclose(close_connection_pool=True)


async def test_a_connection_that_the_server_closed_is_replaced(redis_server: RedisProcess) -> None:
    redis, other = client(redis_server), client(redis_server)
    await redis.set("kept", "1")
    (idle,) = redis.connection_pool._available_connections

    await other.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    await until(idle._reader.at_eof)

    assert await redis.get("kept") == b"1"
    await redis.aclose(close_connection_pool=True)
    await other.aclose(close_connection_pool=True)


async def test_data_of_nobodys_on_an_idle_connection_is_thrown_away(
    redis_server: RedisProcess,
) -> None:
    redis = client(redis_server)
    await redis.ping()
    (idle,) = redis.connection_pool._available_connections
    await idle.send_command("ECHO", "of nobody")
    await until(lambda: bytes(idle._reader._buffer))

    assert await redis.echo("mine") == b"mine"
    await redis.aclose(close_connection_pool=True)


async def test_a_value_larger_than_the_sockets_buffer_is_written_whole(
    redis_server: RedisProcess,
) -> None:
    redis = client(redis_server)
    large = b"x" * 30_000_000

    await redis.set("large", large)

    assert await redis.strlen("large") == len(large)
    await redis.aclose(close_connection_pool=True)


async def test_a_server_that_is_gone_is_said_so(redis_server: RedisProcess) -> None:
    redis = client(redis_server)
    await redis.ping()
    redis_server.kill()
    for _ in range(3):
        try:
            await redis.ping()
        except Disconnected:
            continue
        raise AssertionError("a server that is gone has answered")
    redis_server.start()

    assert await redis.ping()
    await redis.aclose(close_connection_pool=True)


async def test_the_private_names_of_redis_py_that_are_read_exist(
    redis_server: RedisProcess,
) -> None:
    redis = client(redis_server)
    await redis.ping()
    (idle,) = redis.connection_pool._available_connections

    assert idle._reader._buffer == b""
    assert idle._parser._reader.has_data() is False
    assert not redis.connection_pool._condition._waiters
    assert not redis.connection_pool._condition.locked()
    assert idle._writer.transport.get_write_buffer_size() == 0
    await redis.aclose(close_connection_pool=True)
