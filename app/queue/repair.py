"""Repairs Redis: whatever others write under our keys, work goes on within a minute.

Every key of ours has a type and a longest lifetime; one that differs is deleted, as is an entry of
a sorted set that lies too far in the future, or a number that is none. What is lost so is written
again: runs by the sweep, facts by the next publication.

Caches are bounded in all, and give way when Redis is nearly full, so that runs can still be queued.
"""

import math
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from arq.connections import ArqRedis
from arq.constants import in_progress_key_prefix, job_key_prefix, retry_key_prefix
from redis.exceptions import RedisError

from app.core.log import logger
from app.core.tasks import Slices

REPAIR_SECONDS = 30.0  # between two repairs by one worker
BUDGET_SECONDS = 5.0  # of one repair; the next one continues
SCAN_COUNT = 50  # keys per round trip, so that the event loop is not held for long
QUEUE_SCAN = 2_000  # entries at the head of arq's queue to look at
MAX_QUEUE_AHEAD_MS = 400 * 86_400_000
MAX_INDEXED_JOBS = 10_000
FULL_SHARE = 0.85  # of maxmemory, from which on caches give way
MINUTE, HOUR, DAY = 60, 3_600, 86_400  # seconds

_log = logger(__name__)


@dataclass(frozen=True, slots=True)
class KeyFamily:
    """Keys whose whole name matches `pattern`.

    `kind`: their type in Redis. `ttl`: their longest lifetime in seconds. `ahead`: how far in the
    future, in seconds, a score may lie; `unit`: of scores, per second. `counter`: the value is a
    number. `cache`: the bytes that all keys of the family may have together; they can be lost.
    """

    pattern: re.Pattern[str]
    kind: str
    ttl: float
    ahead: float | None = None
    unit: float = 1.0
    counter: bool = False
    cache: int | None = None


def _family(
    pattern: str, kind: str, ttl: float, ahead: float | None = None, unit: float = 1.0
) -> KeyFamily:
    return KeyFamily(re.compile(f"rollcall:{pattern}"), kind, ttl, ahead, unit)


def _cache(pattern: str, kind: str, ttl: float, size: int) -> KeyFamily:
    return KeyFamily(re.compile(f"rollcall:{pattern}"), kind, ttl, cache=size)


def _counter(pattern: str, ttl: float) -> KeyFamily:
    return KeyFamily(re.compile(f"rollcall:{pattern}"), "string", ttl, counter=True)


_MS, _MICRO = 1e3, 1e6
# The first that matches counts. The limiter's hashes come last: their names end in anything.
FAMILIES = (
    _family("queue:collections:workers", "zset", DAY, 10 * MINUTE, _MS),
    _family("queue:collections:admitted", "zset", DAY),
    _family("queue:collections:later", "zset", 400 * DAY, 400 * DAY, _MS),
    _family("queue:collections(:slow)?", "zset", DAY, 2 * DAY, _MS),
    _family("limit:(resting|retried)", "zset", 2 * HOUR, 2 * HOUR, _MICRO),
    _family("limit:hosts:.*", "zset", HOUR, MINUTE, _MICRO),
    _family("limit:alive:.*", "string", DAY),
    _family("limit:.*:slots", "zset", HOUR, 10 * MINUTE, _MICRO),
    _family("limit:.*:(waiting|workers)", "zset", HOUR, MINUTE, _MICRO),
    _family(r"limit:.*:waiting:([^:]+:\d+:)?[0-9a-f]+", "list", MINUTE),
    _family("limit:.*", "hash", 8 * DAY),
    _family("cached:.*:of:.*:bytes", "zset", DAY),
    _family("cached:.*:of:.*", "zset", DAY, MINUTE, _MICRO),
    _family("cached:.*:tenants", "zset", DAY),
    _cache("robots:.*", "string", DAY, 16_000_000),
    _family("health:jobs", "set", 30 * DAY),
    _family("health:workers", "zset", 30 * DAY, DAY),
    _family("health:.*", "string", 30 * DAY),
    _family("metrics:totals", "string", 7 * DAY),
    _family("turn:.*", "string", 10 * MINUTE),
    _family("alert:.*", "string", 6 * HOUR),
    _cache("log:.*", "list", DAY, 32_000_000),
    _family("login:.*", "string", 10 * MINUTE),
    _counter("(sign_in|api_refused):.*", 5 * MINUTE),
    _counter("api:(tried|loaded|changed):.*", MINUTE),
    _counter("api:changed_today:.*", DAY),
    _family("arq:.*", "string", MINUTE),
)
_SLACK = 1.1  # of lifetimes, for rounding
_UNKNOWN_TTL = 7 * DAY

# Numbers of a limiter's hash: the largest that may be, those in microseconds ahead of now.
_INSTANTS = {"due": HOUR, "closed": 25 * HOUR, "until": 2 * HOUR, "slowed_at": HOUR}
_NUMBERS = {
    "slow": 1e3, "hour": 1e9, "asked": 1e9, "again": 1e9, "failures": 1e9,
    "rest": 2 * HOUR * _MICRO, "interval": 1e12, "concurrency": 1e6,
}  # fmt: skip


def family_of(name: str) -> KeyFamily | None:
    """Return the family of a key; None if it is not one of ours."""
    return next((one for one in FAMILIES if one.pattern.fullmatch(name)), None)


class RedisRepair:
    """Repairs Redis, from time to time. One for each worker."""

    def __init__(self) -> None:
        self._cursor = 0
        self._next = 0.0
        self._cached: dict[bytes, int] = {}  # bytes of the cache keys that this pass has seen

    def hurry(self) -> None:
        """Repair at the next step: Redis has refused a write."""
        self._next = 0.0

    async def step(self, redis: ArqRedis) -> int:
        """Repair if it is time to; returns how many keys and entries were removed or corrected."""
        if time.monotonic() < self._next:
            return 0
        self._next = time.monotonic() + REPAIR_SECONDS
        fixed = await self.repair(redis)
        if fixed:
            _log.warning("redis.repaired", removed=fixed)
        return fixed

    async def repair(self, redis: ArqRedis) -> int:
        """Repair arq's queue, and as many keys of ours as the time allows."""
        seconds, micros = cast("tuple[int, int]", await cast("Any", redis).time())
        now = seconds + micros / 1e6
        fixed = await _repair_queue(redis, redis.default_queue_name, now)
        deadline, slices = time.monotonic() + BUDGET_SECONDS, Slices(rest=1)
        while True:
            self._cursor, names = await cast("Any", redis).scan(
                self._cursor, match="rollcall:*", count=SCAN_COUNT
            )
            fixed += await _repair_keys(redis, cast("list[bytes]", names), now)
            self._cached |= await _cache_sizes(redis, cast("list[bytes]", names))
            if not self._cursor or time.monotonic() > deadline:
                break
            await slices.checkpoint()
        if not self._cursor:
            fixed += await _bound_caches(redis, self._cached)
            self._cached = {}
        return fixed


async def _cache_sizes(redis: ArqRedis, names: Sequence[bytes]) -> dict[bytes, int]:
    """Return the bytes of those keys that belong to a cache."""
    cached = [name for name in names if _cache_of(name) is not None]
    sizes = await _answers(redis, (("MEMORY", "USAGE", name) for name in cached))
    return {n: size for n, size in zip(cached, sizes, strict=True) if isinstance(size, int)}


def _cache_of(name: bytes) -> KeyFamily | None:
    family = family_of(name.decode(errors="replace"))
    return None if family is None or family.cache is None else family


async def _bound_caches(redis: ArqRedis, sizes: dict[bytes, int]) -> int:
    """Delete the largest keys of caches that are over their bound; all, if Redis is nearly full."""
    info = cast("dict[str, Any]", await cast("Any", redis).info("memory"))
    used, most = int(info.get("used_memory") or 0), int(info.get("maxmemory") or 0)
    is_full = most > 0 and used > most * FULL_SHARE
    doomed: list[bytes] = []
    totals: dict[KeyFamily, int] = {}
    for name, size in sorted(sizes.items(), key=lambda one: one[1]):
        family = _cache_of(name)
        if family is None or family.cache is None:
            continue
        totals[family] = totals.get(family, 0) + size
        if is_full or totals[family] > family.cache:
            doomed.append(name)
    if is_full:
        freed = sum(sizes[name] for name in doomed)
        _log.warning("redis.nearly_full", used=used, maxmemory=most, cached_bytes_dropped=freed)
    for start in range(0, len(doomed), SCAN_COUNT):
        await _ask(redis, [("UNLINK", *doomed[start : start + SCAN_COUNT])])
    return len(doomed)


async def _repair_keys(redis: ArqRedis, names: Sequence[bytes], now: float) -> int:
    types = await _ask(redis, (("TYPE", name) for name in names))
    lives = await _ask(redis, (("PTTL", name) for name in names))
    fixes: list[tuple[Any, ...]] = []
    for name, kind, life in zip(names, types, lives, strict=True):
        family, kind_name = family_of(name.decode(errors="replace")), _text(kind)
        if kind_name == "none":  # expired meanwhile
            continue
        if family is None:
            if life == -1:
                fixes.append(("EXPIRE", name, _UNKNOWN_TTL))
        elif kind_name != family.kind:
            fixes.append(("DEL", name))
        elif life == -1 or life > family.ttl * _SLACK * 1e3:
            # A string is written with its lifetime; the others get theirs right afterwards.
            fixes.append(
                ("DEL", name) if kind_name == "string" else ("EXPIRE", name, round(family.ttl))
            )
        else:
            fixes += await _repair_value(redis, name, family, now)
    answers = await _ask(redis, fixes)
    return sum(isinstance(answer, int) and answer > 0 for answer in answers)


async def _repair_value(
    redis: ArqRedis, name: bytes, family: KeyFamily, now: float
) -> list[tuple[Any, ...]]:
    """Return the commands that repair a key of the right type."""
    if family.ahead is not None:
        return [("ZREMRANGEBYSCORE", name, f"({(now + family.ahead) * family.unit:.0f}", "+inf")]
    any_ = cast("Any", redis)
    if family.kind == "hash":
        fields = cast("dict[bytes, bytes]", await any_.hgetall(name))
        return [] if _valid_limits(fields, now) else [("DEL", name)]
    if family.kind == "set" and await any_.scard(name) > MAX_INDEXED_JOBS:
        return [("DEL", name)]
    if family.counter:
        number = _number(await any_.get(name))
        return [] if number is not None and 0 <= number < 1e9 else [("DEL", name)]  # noqa: PLR2004
    return []


def _valid_limits(fields: dict[bytes, bytes], now: float) -> bool:
    """Whether each number of a limiter's hash is one that the limiter can have written."""
    for field, value in fields.items():
        name = _text(field)
        ahead = _INSTANTS.get(name)
        largest = _NUMBERS.get(name) if ahead is None else (now + ahead) * _MICRO
        if largest is None:
            continue
        number = _number(value)
        if number is None or not 0 <= number <= largest:
            return False
    return True


async def _repair_queue(redis: ArqRedis, queue: str, now: float) -> int:
    (kind,) = await _ask(redis, [("TYPE", queue)])
    if _text(kind) not in {"zset", "none"}:
        await _ask(redis, [("DEL", queue)])
        return 1
    far = f"({now * 1e3 + MAX_QUEUE_AHEAD_MS:.0f}"
    (removed, entries) = await _ask(
        redis, [("ZREMRANGEBYSCORE", queue, far, "+inf"), ("ZRANGE", queue, 0, QUEUE_SCAN - 1)]
    )
    fixed = cast("int", removed)
    ids = cast("list[bytes]", entries)
    for start in range(0, len(ids), SCAN_COUNT):
        fixed += await _repair_jobs(redis, queue, ids[start : start + SCAN_COUNT])
    return fixed


async def _repair_jobs(redis: ArqRedis, queue: str, ids: Sequence[bytes]) -> int:
    bodies = await _ask(redis, (("TYPE", job_key_prefix.encode() + one) for one in ids))
    claims = await _ask(redis, (("PTTL", in_progress_key_prefix.encode() + one) for one in ids))
    tries = await _ask(redis, (("GET", retry_key_prefix.encode() + one) for one in ids))
    fixes: list[tuple[Any, ...]] = []
    for one, body, claim, tried in zip(ids, bodies, claims, tries, strict=True):
        if _text(body) not in {"string", "none"}:  # the worker that claims it ends a missing one
            fixes += [("DEL", job_key_prefix.encode() + one), ("ZREM", queue, one)]
        if claim == -1:  # every claim has a lease
            fixes.append(("DEL", in_progress_key_prefix.encode() + one))
        if tried is not None and not _is_try(tried):
            fixes.append(("DEL", retry_key_prefix.encode() + one))
    return len(await _ask(redis, fixes))


def _is_try(value: object) -> bool:
    number = _number(value)
    return number is not None and 0 <= number < 1e6  # noqa: PLR2004 - as many as Settings.max_tries


async def _ask(redis: ArqRedis, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Execute the commands in one round trip. Raises the first error that is of no single key."""
    answers = await _answers(redis, commands)
    for answer in answers:
        # A key of another type is repaired; after every other error nothing is known of the key.
        if isinstance(answer, RedisError) and not str(answer).startswith("WRONGTYPE"):
            raise answer
    return answers


async def _answers(redis: ArqRedis, commands: Iterable[tuple[Any, ...]]) -> list[Any]:
    """Execute the commands in one round trip; an error is returned in its place."""
    async with redis.pipeline(transaction=False) as pipe:
        for command in commands:
            cast("Any", pipe).execute_command(*command)
        return await cast("Any", pipe).execute(raise_on_error=False)


def _number(value: object) -> float | None:
    try:
        number = float(cast("bytes", value))
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)
