"""Readiness of the web process: Redis and Postgres, checked concurrently."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress

import asyncpg
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.errors import WrongSchema
from app.store import schema
from app.store.db import Pool
from app.web.ttl_cache import with_deadline

CHECK_SECONDS = 0.8

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


async def check(redis: Redis, pool: Pool) -> Readiness:
    """Check both servers. Never raises, and never reveals their addresses."""
    redis_result, postgres_result = await asyncio.gather(
        _result(_ping_redis(redis)), _result(_ping_postgres(pool))
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


async def _ping_postgres(pool: Pool) -> None:
    await schema.check(pool)
