"""Counters in Redis with a fixed window, for limits on requests."""

from typing import Any

from redis.asyncio import Redis


async def count(redis: Redis, key: str, seconds: int) -> tuple[int, int]:
    """Count one; return the count of the current window and the seconds until it ends, at least 1.

    The first count begins a window of `seconds`. Raises redis-py's errors.
    """
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(key, 0, ex=seconds, nx=True)
        pipe.incr(key)
        pipe.ttl(key)
        results: list[Any] = await pipe.execute()
    return int(results[1]), max(int(results[2]), 1)
