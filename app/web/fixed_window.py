"""Counters in Redis with a fixed window, for limits on requests."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import log

_log = log.logger(__name__)


async def seconds_over(redis: Redis, what: str, key: str, limit: int, seconds: int) -> int:
    """Count one; return the seconds until the window ends if the count is over the limit, else 0.

    The first count begins a window of `seconds`. Without Redis nothing is counted, and
    `{what}.not_counted` is logged.
    """
    try:
        async with redis.pipeline(transaction=True) as pipe:
            pipe.set(key, 0, ex=seconds, nx=True)
            pipe.incr(key)
            pipe.ttl(key)
            results: list[Any] = await pipe.execute()
    except (RedisError, OSError, TimeoutError):
        _log.warning(f"{what}.not_counted", key=key)
        return 0
    return max(int(results[2]), 1) if int(results[1]) > limit else 0
