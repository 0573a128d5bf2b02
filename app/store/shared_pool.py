"""A pool of connections to Postgres that all runs of a worker share."""

import asyncio
from collections.abc import Generator
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from app.core import log
from app.core.job_scope import refuse_to_jobs

if TYPE_CHECKING:
    from asyncpg.pool import PoolAcquireContext


_log = log.logger(__name__)

# The connections that the run whose code is executed has taken; None outside of runs.
_taken: ContextVar[set[Any] | None] = ContextVar("_taken", default=None)


@contextmanager
def taking_connections() -> Generator[None]:
    """Close what the block, and the tasks that it starts, take from a pool and do not release.

    The pool opens others in their place; else later runs would wait for them for ever.
    """
    taken: set[Any] = set()
    token = _taken.set(taken)
    try:
        yield
    finally:
        _taken.reset(token)
        closed = 0
        for connection in taken:
            with suppress(asyncpg.InterfaceError):  # it was lost, and is the pool's again
                connection.terminate()
                closed += 1
        if closed:
            _log.warning("postgres.not_released", connections=closed)


class SharedPool(asyncpg.Pool):
    """asyncpg's pool, which no job closes or uses in another event loop."""

    def acquire(self, *, timeout: float | None = None) -> "PoolAcquireContext[asyncpg.Record]":
        """A connection. Raises RuntimeError in another event loop: the pool's would be damaged."""
        if asyncio.get_running_loop() is not cast("Any", self)._loop:  # noqa: SLF001 - its own
            raise RuntimeError(
                "connections to Postgres belong to the event loop of the worker: use them there, or"
                " by asyncio.run_coroutine_threadsafe"
            )
        return super().acquire(timeout=timeout)

    async def _acquire(self, timeout: float | None) -> Any:  # noqa: ASYNC109 - asyncpg's
        acquire = cast("Any", super())._acquire  # noqa: SLF001 - all ways to a connection use it
        connection = await acquire(timeout)
        if (taken := _taken.get()) is not None:
            taken.add(connection)
        return connection

    async def release(self, connection: Any, *, timeout: float | None = None) -> None:  # noqa: ASYNC109 - asyncpg's
        """Give the connection back."""
        if (taken := _taken.get()) is not None:
            taken.discard(connection)
        await super().release(connection, timeout=timeout)

    async def close(self) -> None:
        """Close the connections, when those in use are released."""
        refuse_to_jobs("Pool.close")
        await super().close()

    def terminate(self) -> None:
        """Close the connections at once."""
        refuse_to_jobs("Pool.terminate")
        super().terminate()
