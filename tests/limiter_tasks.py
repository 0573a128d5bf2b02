"""What a limiter does behind its callers' backs ends before the test does."""

import asyncio


async def ended(deadline: float = 3.0) -> None:
    """Wait until no limiter has a call under way, nor one that is just about to start."""
    quiet = 0
    async with asyncio.timeout(deadline):
        while quiet < 2:
            quiet = 0 if any(map(_of_a_limiter, asyncio.all_tasks())) else quiet + 1
            await asyncio.sleep(0.03)  # a call starts 0.02 s after its slot was given back


def _of_a_limiter(task: "asyncio.Task[object]") -> bool:
    return "RedisLimiter" in getattr(task.get_coro(), "__qualname__", "")
