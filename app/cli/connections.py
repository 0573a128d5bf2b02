"""Settings and connections of a command, and the errors of the servers in one sentence."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from arq.connections import ArqRedis
from pydantic import SecretStr
from redis.exceptions import RedisError

from app.core import config as settings
from app.core import log
from app.core.errors import BadConfig, is_of_a_file
from app.queue.jobs import redis_pool
from app.store import db, schema, server_faults, servers

Result = TypeVar("Result")

REDIS_AWAY = (RedisError, OSError, TimeoutError)
_RECORDED = "It is recorded all the same: a worker enqueues what is queued once Redis is there."
POSTGRES_FAULTS = (*db.UNAVAILABLE, asyncpg.PostgresError)


@dataclass(frozen=True, slots=True)
class CommandContext:
    """The settings, and open connections to Postgres and Redis."""

    config: settings.Config
    pool: db.Pool
    redis: ArqRedis


def load_config() -> settings.Config:
    """Load the settings, and configure logging at level `warning`. Raises BadConfig."""
    loaded = settings.load()
    log.configure(loaded.log_format, "warning", loaded.secrets())
    return loaded


def secret(name: str) -> SecretStr | None:
    """Return the operator's secret of that name from the environment or `.env`, or None."""
    return settings.secret(name)


def with_pool(step: Callable[[db.Pool], Awaitable[Result]]) -> Result:
    """Run the step with an open database pool; returns its result.

    Raises BadConfig if Postgres cannot be reached, and WrongSchema if its schema is not the one of
    this code.
    """
    dsn = servers.server_urls(load_config()).database

    async def run() -> Result:
        pool = await db.open_pool(dsn, size=2, wait_seconds=0)
        try:
            await schema.check(pool)
            return await step(pool)
        finally:
            await pool.close()

    return run_async(run)


def with_servers(step: Callable[[CommandContext], Awaitable[Result]]) -> Result:
    """Run the step with open connections to both servers; returns its result.

    Raises BadConfig if a server cannot be reached, and WrongSchema if the database's schema is not
    this code's.
    """
    loaded = load_config()
    urls = servers.server_urls(loaded)

    async def run() -> Result:
        redis = redis_pool(urls.redis, ssl_cert_reqs=loaded.redis_ssl_cert_reqs)
        try:
            pool = await db.open_pool(urls.database, size=4, wait_seconds=0)
            try:
                await schema.check(pool)
                return await step(CommandContext(loaded, pool, redis))
            finally:
                await pool.close()
        finally:
            await redis.aclose(close_connection_pool=True)

    return run_async(run)


@contextmanager
def redis_may_be_away() -> Generator[None]:
    """Do what Redis is to learn of what Postgres has recorded; if it is away, say who does it then.

    A command that failed there would be repeated, although it was executed.
    """
    try:
        yield
    except REDIS_AWAY as error:
        sys.stderr.write(f"{server_faults.sentence(error)}\n{_RECORDED}\n")


def run_async(run: Callable[[], Coroutine[Any, Any, Result]]) -> Result:
    """Run the coroutine function in a new event loop; returns its result.

    Raises BadConfig if a server cannot be reached, refuses or has no tables.
    """
    with server_errors():
        return asyncio.run(run())


@contextmanager
def server_errors() -> Generator[None]:
    """Raise the errors of Postgres and Redis as BadConfig, with one sentence and its fix.

    Those of files, and of a closed stdout, pass through.
    """
    try:
        yield
    except (RedisError, *POSTGRES_FAULTS) as error:
        if isinstance(error, BrokenPipeError) or (
            isinstance(error, OSError) and is_of_a_file(error)
        ):
            raise
        raise BadConfig(server_faults.sentence(error)) from None
