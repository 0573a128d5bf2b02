"""What a limiter does behind its callers' backs ends before the test does."""

import asyncio

SOON = 0.1  # a slot is released 0.02 s after it was given back; without Redis, a second


async def ended(deadline: float = 3.0) -> None:
    """Wait until no limiter has a call under way, nor one that is to start soon."""
    loop = asyncio.get_running_loop()
    quiet = 0
    async with asyncio.timeout(deadline):
        while quiet < 2:
            quiet = 0 if _under_way() or _to_start(loop) else quiet + 1
            await asyncio.sleep(0.002)


def _under_way() -> bool:
    return any(_of_a_limiter(task.get_coro()) for task in asyncio.all_tasks())


def _to_start(loop: asyncio.AbstractEventLoop) -> bool:
    timers: list[asyncio.TimerHandle] = getattr(loop, "_scheduled")  # noqa: B009 - it has no other name
    return any(
        _of_a_limiter(getattr(timer, "_callback", None))
        for timer in timers
        if not timer.cancelled() and timer.when() < loop.time() + SOON
    )


def _of_a_limiter(what: object) -> bool:
    return "RedisLimiter" in getattr(what, "__qualname__", "")
