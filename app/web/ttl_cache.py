"""A cache of one value with a time to live, and a hard limit on waiting."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class TtlCache(Generic[T]):
    """Caches what `read` returns for `seconds`. Concurrent callers share one read.

    `read` should return its failures as values, which are cached; an exception is not cached.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]], seconds: float = 1.0) -> None:
        self._read = read
        self._seconds = seconds
        self._cached: tuple[float, T] | None = None
        self._reading: asyncio.Task[T] | None = None

    async def value(self) -> T:
        """The cached value, or a new one if it has expired. Raises what `read` raises."""
        cached = self._cached
        if cached is not None and asyncio.get_running_loop().time() < cached[0]:
            return cached[1]
        if self._reading is None:
            self._reading = asyncio.create_task(self._refresh())
        # Shielded: the cancellation of one caller must not cancel the read of the others.
        return await asyncio.shield(self._reading)

    def forget(self) -> None:
        """Drop the cached value, because it was just changed."""
        self._cached = None

    async def _refresh(self) -> T:
        try:
            value = await self._read()
            self._cached = (asyncio.get_running_loop().time() + self._seconds, value)
            return value
        finally:
            self._reading = None


async def with_deadline(seconds: float, work: Awaitable[T]) -> T:
    """Wait for `work` for at most `seconds`, its cancellation included. Raises TimeoutError."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.add_done_callback(_discard_result)
            task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


def _discard_result(task: "asyncio.Future[T]") -> None:
    if not task.cancelled():
        task.exception()  # marks the exception as retrieved
