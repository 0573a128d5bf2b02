"""Settings and connections of a command, and the errors of the servers in one sentence."""

import asyncio
import signal
import sys
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import asyncpg
from arq.connections import ArqRedis
from redis.exceptions import RedisError

from app.core import config as settings
from app.core import log
from app.core.errors import BadConfig, is_of_a_file
from app.queue.jobs import redis_pool
from app.store import db, schema, server_faults, servers

Result = TypeVar("Result")

REDIS_AWAY = (RedisError, OSError, TimeoutError)
_RECORDED = "It is recorded all the same: a worker enqueues what is queued once Redis is there."
TIDY_SECONDS = 5.0  # for a command that SIGTERM has cancelled
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

    The first SIGINT or SIGTERM cancels it, so that it tidies up, and ends the process afterwards;
    a second one does so at once. Raises BadConfig if a server cannot be reached, refuses or has no
    tables.
    """
    if threading.current_thread() is not threading.main_thread():
        with server_errors():
            return asyncio.run(run())
    received: list[int] = []
    try:
        with server_errors():
            return asyncio.run(_cancelled_by_signals(run, received))
    finally:
        if signal.SIGTERM in received:
            signal.raise_signal(signal.SIGTERM)
        if received:
            raise KeyboardInterrupt


async def _cancelled_by_signals(
    run: Callable[[], Coroutine[Any, Any, Result]], received: list[int]
) -> Result:
    loop, task = asyncio.get_running_loop(), asyncio.create_task(run())
    second = {signal.SIGINT: signal.default_int_handler, signal.SIGTERM: signal.SIG_DFL}

    def stop(number: int) -> None:
        if number == signal.SIGTERM:
            loop.call_later(TIDY_SECONDS, signal.raise_signal, signal.SIGTERM)
        task.cancel()

    def receive(number: int, _: object) -> None:
        signal.signal(number, second[signal.Signals(number)])
        received.append(number)
        # Not at once, as asyncio's own handler: the loop may be about to set what it would cancel.
        loop.call_soon_threadsafe(stop, number)

    before = {
        number: signal.signal(number, receive)
        for number in second
        if callable(signal.getsignal(number)) or number == signal.SIGTERM
    }
    try:
        return await task
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
