"""How long the event loop is held up at most, by the processor's time of its thread."""

import asyncio
import gc
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass


@dataclass(slots=True)
class LongestStep:
    """Seconds of processor time between two turns of the loop, at most, and in all."""

    seconds: float = 0.0
    total: float = 0.0


@asynccontextmanager
async def longest_step() -> AsyncGenerator[LongestStep]:
    """Measure until the block ends. The objects of other tests are not collected meanwhile."""
    found, began = LongestStep(), time.thread_time()

    async def watch() -> None:
        while True:
            before = time.thread_time()
            await asyncio.sleep(0)
            found.seconds = max(found.seconds, time.thread_time() - before)

    collects = gc.isenabled()
    gc.disable()
    watching = asyncio.create_task(watch())
    try:
        await asyncio.sleep(0)
        yield found
        await asyncio.sleep(0)
        found.total = time.thread_time() - began
    finally:
        watching.cancel()
        if collects:
            gc.enable()
