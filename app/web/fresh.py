"""A value that is read at most once a second, however many ask, and never waited for too long."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Fresh(Generic[T]):
    """Keeps what `read` returned for `seconds`. Those who ask during a read share it.

    `read` must translate its own failures into values: a failure is kept like any other answer.
    """

    def __init__(self, read: Callable[[], Coroutine[Any, Any, T]], seconds: float = 1.0) -> None:
        self._read = read
        self._seconds = seconds
        self._kept: tuple[float, T] | None = None
        self._reading: asyncio.Task[T] | None = None

    async def value(self) -> T:
        """The kept value if it is young enough, else a new one."""
        kept = self._kept
        if kept is not None and asyncio.get_running_loop().time() < kept[0]:
            return kept[1]
        if self._reading is None:
            self._reading = asyncio.create_task(self._renew())
        # Shielded: a visitor who leaves does not take the answer from the others.
        return await asyncio.shield(self._reading)

    async def _renew(self) -> T:
        try:
            value = await self._read()
            self._kept = (asyncio.get_running_loop().time() + self._seconds, value)
            return value
        finally:
            self._reading = None


async def within(seconds: float, work: Awaitable[T]) -> T:
    """Wait for `work` no longer than `seconds`, its tidying up included. Raises TimeoutError."""
    task = asyncio.ensure_future(work)
    try:
        done, _ = await asyncio.wait({task}, timeout=seconds)
    finally:
        if not task.done():
            task.add_done_callback(_look_away)
            task.cancel()
    if not done:
        raise TimeoutError
    return task.result()


def _look_away(task: "asyncio.Future[T]") -> None:
    if not task.cancelled():
        task.exception()  # nobody waits for it any more
