"""Concurrent execution: fail together, and cancel until it has ended."""

import asyncio
import time
from collections.abc import Collection, Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")
REPEAT_SECONDS = 0.2
SLICE_SECONDS = 0.002  # seconds of work before the event loop gets its turn


async def gather_fail_fast(steps: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Run all steps concurrently; returns their results, in order.

    Raises the first failing step's exception, not a group: callers distinguish errors by type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]


async def cancel_all(tasks: Collection["asyncio.Task[Any]"]) -> None:
    """Cancel the tasks and wait until each has ended; their exceptions are discarded.

    One cancellation is not enough: redis-py swallows it if its own timeout expires at that moment,
    and `asyncio.wait_for` of Python 3.11 if its result arrives then.
    """
    while pending := [task for task in tasks if not task.done()]:
        for task in pending:
            task.cancel()
        await asyncio.wait(pending, timeout=REPEAT_SECONDS)
    for task in tasks:
        if not task.cancelled():
            task.exception()  # marks it as retrieved


async def first_ended(tasks: Collection["asyncio.Task[Any]"], seconds: float) -> None:
    """Wait until one of the tasks has ended, or for so many seconds.

    Returns at once if there are none, which `asyncio.wait` refuses: they may have ended already.
    """
    if tasks:
        await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)


class Slices:
    """Cuts long work: `checkpoint` yields to the event loop after `SLICE_SECONDS` of it.

    `rest`: it then rests for so many times as long as it has worked. Without, each step of others
    waits for a slice of it, and a run's start has a dozen steps.
    """

    def __init__(self, *, rest: float = 0.0) -> None:
        self._rest = rest
        self._since = time.perf_counter()

    async def checkpoint(self) -> None:
        """Let others go on if this has worked for long enough."""
        worked = time.perf_counter() - self._since
        if worked > SLICE_SECONDS:
            await asyncio.sleep(worked * self._rest)
            self._since = time.perf_counter()
