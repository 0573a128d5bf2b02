"""Sign-in throttle: attempts per address and in total, counted in Redis in fixed windows."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import log
from app.web import fixed_window

WINDOW_SECONDS = 300  # seconds
MAX_PER_ADDRESS = 10
MAX_TOTAL = 300

_log = log.logger(__name__)


class LoginThrottle:
    """Failed sign-in attempts of the current window.

    An attempt counts from its beginning and is subtracted when it succeeds, so that concurrent
    attempts cannot exceed the limit.
    """

    def __init__(self, redis: Redis) -> None:
        self._redis = redis

    async def begin(self, address: str) -> int:
        """Count an attempt. Returns the seconds to wait if the limit is exceeded, else 0.

        Without Redis nothing is counted: tokens are too long to be guessed.
        """
        by_address, total = _names(address)
        try:
            # An attempt refused for its own address must not count towards the total.
            return await self._counted(by_address, MAX_PER_ADDRESS) or await self._counted(
                total, MAX_TOTAL
            )
        except (RedisError, OSError, TimeoutError):
            _log.warning("sign_in.not_counted")
            return 0

    async def _counted(self, name: str, limit: int) -> int:
        count, expires_in = await fixed_window.count(self._redis, name, WINDOW_SECONDS)
        return expires_in if count > limit else 0

    async def forgive(self, address: str) -> None:
        """Subtract an attempt that succeeded."""
        try:
            async with self._redis.pipeline(transaction=True) as pipe:
                for name in _names(address):
                    pipe.decr(name)
                    pipe.expire(name, WINDOW_SECONDS)
                await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            _log.warning("sign_in.not_counted")


def _names(address: str) -> tuple[str, str]:
    return f"rollcall:signin:from:{address[:80]}", "rollcall:signin:all"
