"""A pool whose connection dies: a statement is done, and then its backend is gone, uncommitted."""

from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, cast

from app.store.db import UNAVAILABLE, Pool

STATEMENTS = ("execute", "executemany", "fetch", "fetchrow", "fetchval")


class LossyPool:
    """Its first connection is terminated after so many statements, whatever they did."""

    def __init__(self, pool: Pool, statements: int) -> None:
        self._pool = pool
        self._left = statements

    @property
    def died(self) -> bool:
        """Did it get so far?"""
        return self._left <= 0

    @asynccontextmanager
    async def acquire(self) -> AsyncGenerator[Any]:
        async with self._pool.acquire() as connection:
            yield _Lossy(connection, self._spent)

    async def _spent(self, backend: int) -> None:
        self._left -= 1
        if self._left == 0:
            await self._pool.fetchval("SELECT pg_terminate_backend($1, 5000)", backend)


class _Lossy:
    def __init__(self, connection: Any, spent: Callable[[int], Any]) -> None:
        self._connection = connection
        self._spent = spent

    def __getattr__(self, name: str) -> Any:
        return self._counted(name) if name in STATEMENTS else getattr(self._connection, name)

    def _counted(self, name: str) -> Any:
        async def call(*args: Any, **kwargs: Any) -> Any:
            answer = await getattr(self._connection, name)(*args, **kwargs)
            await self._spent(self._connection.get_server_pid())
            return answer

        return call


async def attempted(step: Callable[[Pool], Any], pool: Pool, statements: int) -> Any:
    """What `step` returned on such a pool; None if it was cut short."""
    lossy = LossyPool(pool, statements)
    with suppress(*UNAVAILABLE):
        answer = await step(cast("Pool", lossy))
        assert not lossy.died, "a transaction was committed without its connection"
        return answer
    assert lossy.died
    return None
