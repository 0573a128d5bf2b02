"""How fast a host may be asked: one budget per host, shared by all workers through Redis.

The arithmetic is GCRA: a host has a theoretical arrival time (`due`), each request moves it by one
interval, and a request may start `tolerance` before it: (burst - 1) intervals. A host that is
slowed has a longer interval and the same tolerance, so it also bursts less.
"""

import asyncio
import secrets
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, cast

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from app.fetch.retry import PATIENCE
from app.log import logger
from app.messages import Limits

SLOWEST = 64.0
CLEAN_ANSWERS = 20
_EASING = 0.95
_HOLD = 1.0  # seconds in which several refusals count as one: they were under way together
_REDIS_PATIENCE = 1.0
_HOSTS = 1_000
_MICRO = 1_000_000

_log = logger("fetch")


class Limiter(Protocol):
    """Says when a host may be asked."""

    async def reserve(self, host: str, limits: Limits, *, patience: float = PATIENCE) -> float:
        """Reserve the next slot of `host`; returns the seconds to wait for it.

        A wait longer than `patience` reserves nothing: do not sleep it.
        """
        ...

    async def penalise(self, host: str, seconds: float) -> None:
        """The host asked us to slow down: double the interval, and ask nothing for `seconds`."""
        ...

    async def clean(self, host: str) -> None:
        """The host gave a good answer: twenty of them take 5 % off a slowed interval."""
        ...


@dataclass(slots=True)
class _Lane:
    due: float = 0.0
    closed: float = 0.0
    slow: float = 1.0
    slowed_at: float = -_HOLD
    clean: int = 0

    def idle(self, now: float) -> bool:
        return self.due <= now and self.closed <= now and self.slow <= 1.0


class LocalLimiter:
    """The limiter of one process. `share`: how many such processes share the budget.

    `clock` is in seconds and only moves forward.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, share: Callable[[], int] = lambda: 1
    ) -> None:
        self._clock = clock
        self._share = share
        self._lanes: defaultdict[str, _Lane] = defaultdict(_Lane)

    async def reserve(self, host: str, limits: Limits, *, patience: float = PATIENCE) -> float:
        """See Limiter."""
        now = self._clock()
        self._forget(now)
        lane = self._lanes[host]
        tolerance = (limits.burst - 1) / limits.rate
        due = max(lane.due, now)
        if lane.closed > max(due - tolerance, now):
            due = lane.closed + tolerance  # no burst right after a cool-down
        wait = max(due - tolerance - now, 0.0)
        if wait <= patience:
            lane.due = due + lane.slow * max(self._share(), 1) / limits.rate
        return wait

    async def penalise(self, host: str, seconds: float) -> None:
        """See Limiter."""
        now = self._clock()
        lane = self._lanes[host]
        if now - lane.slowed_at >= _HOLD:
            lane.slow = min(lane.slow * 2, SLOWEST)
            lane.slowed_at = now
        lane.closed = max(lane.closed, now + seconds)
        lane.clean = 0

    async def clean(self, host: str) -> None:
        """See Limiter."""
        lane = self._lanes[host]
        lane.clean += 1
        if lane.clean >= CLEAN_ANSWERS:
            lane.clean = 0
            lane.slow = max(lane.slow * _EASING, 1.0)

    def closed_for(self, host: str) -> float:
        """Seconds for which `host` is not to be asked at all."""
        lane = self._lanes.get(host)
        return max(lane.closed - self._clock(), 0.0) if lane else 0.0

    def _forget(self, now: float) -> None:
        if len(self._lanes) > _HOSTS:
            for host in [host for host, lane in self._lanes.items() if lane.idle(now)]:
                del self._lanes[host]


# Times are microseconds of Redis' own clock, so that workers need not agree on one.
_RESERVE = """
local interval, tolerance, patience = tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lane = redis.call('HMGET', KEYS[1], 'due', 'closed', 'slow')
local due = math.max(tonumber(lane[1] or 0), now)
local closed = tonumber(lane[2] or 0)
local slow = tonumber(lane[3] or 1)
redis.call('ZADD', KEYS[2], now, ARGV[4])
redis.call('ZREMRANGEBYSCORE', KEYS[2], 0, now - 60000000)
redis.call('PEXPIRE', KEYS[2], 120000)
if closed > math.max(due - tolerance, now) then
  due = closed + tolerance
end
local wait = math.max(due - tolerance - now, 0)
if wait <= patience then
  due = due + interval * slow
  redis.call('HSET', KEYS[1], 'due', string.format('%.0f', due))
  local keep = (due - now) / 1000 + 60000
  if slow > 1 then
    keep = math.max(keep, 3600000)
  end
  redis.call('PEXPIRE', KEYS[1], math.ceil(keep))
end
return {math.ceil(wait), slow > 1 and 1 or 0, redis.call('ZCARD', KEYS[2])}
"""

_PENALISE = """
local time = redis.call('TIME')
local now = time[1] * 1000000 + time[2]
local lane = redis.call('HMGET', KEYS[1], 'closed', 'slow', 'slowed_at')
local slow = tonumber(lane[2] or 1)
if now - tonumber(lane[3] or 0) >= tonumber(ARGV[2]) then
  slow = math.min(slow * 2, tonumber(ARGV[3]))
  redis.call('HSET', KEYS[1], 'slow', tostring(slow), 'slowed_at', string.format('%.0f', now))
end
local closed = math.max(tonumber(lane[1] or 0), now + tonumber(ARGV[1]))
redis.call('HSET', KEYS[1], 'closed', string.format('%.0f', closed))
redis.call('PEXPIRE', KEYS[1], math.ceil((closed - now) / 1000) + 3600000)
return {math.ceil(closed - now)}
"""

_EASE = """
local slow = tonumber(redis.call('HGET', KEYS[1], 'slow') or 1)
if slow > 1 then
  redis.call('HSET', KEYS[1], 'slow', tostring(math.max(slow * tonumber(ARGV[1]), 1)))
end
return {1}
"""


class RedisLimiter:
    """The limiter all workers share. Without Redis, each keeps to its share of the budget.

    Its keys are `rollcall:limit:<host>` and `rollcall:limit:<host>:workers`; all have a TTL.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        worker: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._worker = worker or secrets.token_hex(8)
        self._clock = clock
        self._workers = 1
        self._local = LocalLimiter(clock, share=lambda: self._workers)
        self._reserve = redis.register_script(_RESERVE)
        self._penalise = redis.register_script(_PENALISE)
        self._ease = redis.register_script(_EASE)
        self._clean: dict[str, int] = {}  # only hosts that are slowed
        self._away_until: float | None = None

    async def reserve(self, host: str, limits: Limits, *, patience: float = PATIENCE) -> float:
        """See Limiter."""
        held = self._local.closed_for(host)
        if held > patience:
            return held
        interval = _MICRO / limits.rate
        tolerance = (limits.burst - 1) * interval
        keys = [_key(host), f"{_key(host)}:workers"]
        args = [f"{interval:.3f}", f"{tolerance:.3f}", f"{patience * _MICRO:.0f}", self._worker]
        answer = await self._ask(self._reserve, keys, args)
        if answer is None:
            return await self._local.reserve(host, limits, patience=patience)
        wait, slowed, self._workers = answer
        self._watch(host, slowed=bool(slowed))
        return max(wait / _MICRO, held)

    async def penalise(self, host: str, seconds: float) -> None:
        """See Limiter."""
        await self._local.penalise(host, seconds)
        self._clean[host] = 0
        args = [f"{seconds * _MICRO:.0f}", f"{_HOLD * _MICRO:.0f}", str(SLOWEST)]
        await self._ask(self._penalise, [_key(host)], args)

    async def clean(self, host: str) -> None:
        """See Limiter. Costs a call to Redis once in twenty, and only while the host is slowed."""
        if host not in self._clean:
            return
        await self._local.clean(host)
        self._clean[host] += 1
        if self._clean[host] >= CLEAN_ANSWERS:
            self._clean[host] = 0
            await self._ask(self._ease, [_key(host)], [str(_EASING)])

    def _watch(self, host: str, *, slowed: bool) -> None:
        if slowed:
            self._clean.setdefault(host, 0)
        else:
            self._clean.pop(host, None)

    async def _ask(
        self, script: AsyncScript, keys: Sequence[str], args: Sequence[str]
    ) -> list[int] | None:
        if self._away_until is not None and self._clock() < self._away_until:
            return None
        try:
            async with asyncio.timeout(_REDIS_PATIENCE):
                answer = cast("list[int]", await script(keys=list(keys), args=list(args)))
        except (RedisError, OSError, TimeoutError) as error:
            if self._away_until is None:
                _log.warning("limiter.redis_away", error=type(error).__name__)
            self._away_until = self._clock() + _REDIS_PATIENCE
            return None
        if self._away_until is not None:
            _log.info("limiter.redis_back")
            self._away_until = None
        return answer


def _key(host: str) -> str:
    return f"rollcall:limit:{host}"
