"""How often somebody may try to sign in: counted in Redis, for each address and over all."""

from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import log

WINDOW = 300  # seconds
FROM_ONE = 10
FROM_ALL = 300

_log = log.logger(__name__)


class Attempts:
    """Failed attempts of the last minutes. An attempt counts when it begins, and is taken back
    when it succeeds, so that many at once cannot slip through."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def begin(self, address: str) -> int:
        """Count an attempt. Returns the seconds to wait if there were too many, else 0.

        Without Redis nothing is counted: a token cannot be guessed in any number of attempts.
        """
        one, all_ = _names(address)
        try:
            # Who is turned away by their own count must not use up everybody's.
            return await self._counted(one, FROM_ONE) or await self._counted(all_, FROM_ALL)
        except (RedisError, OSError, TimeoutError):
            _log.warning("sign_in.not_counted")
            return 0

    async def _counted(self, name: str, most: int) -> int:
        async with self._redis.pipeline(transaction=True) as pipe:
            pipe.set(name, 0, ex=WINDOW, nx=True)
            pipe.incr(name)
            pipe.ttl(name)
            answers: list[Any] = await pipe.execute()
        _, count, left = answers
        return max(int(left), 1) if count > most else 0

    async def succeeded(self, address: str) -> None:
        """Take the attempt back: it was no guess."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for name in _names(address):
                    pipe.decr(name)
                    pipe.expire(name, WINDOW)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            _log.warning("sign_in.not_counted")


def _names(address: str) -> tuple[str, str]:
    return f"rollcall:signin:from:{address[:80]}", "rollcall:signin:all"
