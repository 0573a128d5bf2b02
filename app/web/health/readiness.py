"""Readiness of the web process: Redis and Postgres, checked concurrently."""

import asyncio
from collections.abc import Awaitable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import asyncpg
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.config import Config
from app.core.errors import BadConfig, WrongSchema
from app.store import db, schema, server_faults
from app.store.db import Pool
from app.web.ttl_cache import with_deadline

CHECK_SECONDS = 0.8
CONNECT_SECONDS = 2.0

POSTGRES_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError)


class Readiness(msgspec.Struct, frozen=True):
    """The body of `/readyz`: `ok` or an error for each server."""

    status: str
    redis: str
    postgres: str


async def check_schema(pool: Pool) -> None:
    """Raises WrongSchema. Passes if Postgres does not answer; `/readyz` checks it again."""
    with suppress(*POSTGRES_ERRORS):
        await with_deadline(CHECK_SECONDS, schema.check(pool))


def check_servers(config: Config) -> None:
    """Raises WrongSchema, or BadConfig for what only another setting can change.

    Passes if a server does not answer, because the health endpoints report that. Blocks, and may be
    called while an event loop runs in this thread.
    """
    if config.database_url is None:
        return  # the private servers are migrated when they start
    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, _check_postgres(config.database_url.get_secret_value())).result()


async def _check_postgres(dsn: str) -> None:
    try:
        connection = await with_deadline(CONNECT_SECONDS, db.connect(dsn, {}))
    except server_faults.LASTING_POSTGRES as error:
        raise BadConfig(server_faults.postgres_sentence(error)) from None
    except POSTGRES_ERRORS:
        return
    try:
        with suppress(*POSTGRES_ERRORS):
            await with_deadline(CONNECT_SECONDS, schema.check(connection))
    finally:
        connection.terminate()


async def check(redis: Redis, pool: Pool) -> Readiness:
    """Check both servers. Never raises, and never reveals their addresses."""
    redis_result, postgres_result = await asyncio.gather(
        _result(_ping_redis(redis)), _result(schema.check(pool))
    )
    ready = redis_result == postgres_result == "ok"
    return Readiness("ready" if ready else "not ready", redis_result, postgres_result)


async def _result(ping: Awaitable[None]) -> str:
    try:
        await with_deadline(CHECK_SECONDS, ping)
    except TimeoutError:
        return "timeout"
    except WrongSchema as error:
        return str(error)
    except (RedisError, *POSTGRES_ERRORS) as error:
        return f"unreachable ({type(error).__name__})"
    return "ok"


async def _ping_redis(redis: Redis) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.execute_command("PING")  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
        await pipe.execute()
