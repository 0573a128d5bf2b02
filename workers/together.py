"""Steps side by side: the first that fails ends the others, and fails as itself."""

import asyncio
from collections.abc import Coroutine, Iterable
from typing import Any, TypeVar

Result = TypeVar("Result")


async def together(steps: Iterable[Coroutine[Any, Any, Result]]) -> list[Result]:
    """Wait for all steps; returns what they returned, in order.

    Raises what the first failing step raised, not a group: its callers tell errors apart by type.
    """
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(step) for step in steps]
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from None
    return [task.result() for task in tasks]
