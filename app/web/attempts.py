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
        names = _names(address)
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for name in names:
                    pipe.set(name, 0, ex=WINDOW, nx=True)
                    pipe.incr(name)
                    pipe.ttl(name)
                answers: list[Any] = await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            _log.warning("sign_in.not_counted")
            return 0
        (_, one, one_ttl), (_, all_, all_ttl) = answers[:3], answers[3:]
        counted = ((one, FROM_ONE, one_ttl), (all_, FROM_ALL, all_ttl))
        waits = [ttl for count, most, ttl in counted if count > most]
        return max([max(int(wait), 1) for wait in waits], default=0)

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
