"""Whether the web can do its work: Redis and Postgres, asked side by side, within a second."""

import asyncio
from collections.abc import Awaitable
from contextlib import suppress
from typing import TypeAlias

import asyncpg
import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import WrongSchema
from app.store import schema
from app.store.db import HOUSE, speak_json
from app.web.fresh import within

CHECK_SECONDS = 0.8

Pool: TypeAlias = "asyncpg.Pool[asyncpg.Record]"
POSTGRES_ERRORS = (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError, ValueError)


class Readiness(msgspec.Struct, frozen=True):
    """The body of `/readyz`: `ok` or a reason for each."""

    status: str
    redis: str
    postgres: str


async def open_postgres(url: str) -> Pool:
    """A small pool that connects only when it is asked: Postgres may be down."""
    return await asyncpg.create_pool(
        url,
        min_size=0,
        max_size=3,
        timeout=CHECK_SECONDS,
        command_timeout=CHECK_SECONDS,
        init=speak_json,
        server_settings=HOUSE,
    )


async def close_postgres(pool: Pool) -> None:
    """Close the pool politely, or at once if Postgres does not listen."""
    try:
        await within(CHECK_SECONDS, pool.close())
    except POSTGRES_ERRORS:
        pool.terminate()


async def refuse_wrong_schema(pool: Pool) -> None:
    """Raises WrongSchema. A Postgres that is away may be anything: `/readyz` asks it again."""
    with suppress(*POSTGRES_ERRORS):
        await within(CHECK_SECONDS, schema.check(pool))


async def check(redis: Redis, pool: Pool) -> Readiness:
    """Ask both. Never raises, and never says where they live."""
    redis_says, postgres_says = await asyncio.gather(
        _verdict(_ping_redis(redis)), _verdict(_ping_postgres(pool))
    )
    well = redis_says == postgres_says == "ok"
    return Readiness("ready" if well else "not ready", redis_says, postgres_says)


async def _verdict(ping: Awaitable[None]) -> str:
    try:
        await within(CHECK_SECONDS, ping)
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
