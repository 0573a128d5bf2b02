"""A pool of connections to Postgres that all runs of a worker share."""

import asyncio
from typing import TYPE_CHECKING, Any, cast

import asyncpg

from app.core.job_scope import refuse_to_jobs

if TYPE_CHECKING:
    from asyncpg.pool import PoolAcquireContext


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

    async def close(self) -> None:
        """Close the connections, when those in use are released."""
        refuse_to_jobs("Pool.close")
        await super().close()

    def terminate(self) -> None:
        """Close the connections at once."""
        refuse_to_jobs("Pool.terminate")
        super().terminate()
