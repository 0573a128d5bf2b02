"""Concurrent execution: the first failure cancels the rest and is raised as itself."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


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
