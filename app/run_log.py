"""The last lines of each run's log, kept in Redis for a day, so that a page can show them.

A line costs the run an entry in a list here; a task of its own carries them off, a batch to a round
trip. What cannot be carried in time is dropped: a log must never slow a run, nor fill Redis.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections import defaultdict, deque
from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping
from contextlib import asynccontextmanager
from typing import Any, cast
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app import redact

LINES = 200  # of a run
RUNS = 2_000  # all together, in Redis
LONGEST = 500  # characters of a line
WAITING = 5_000  # lines that wait to be carried off
SECONDS = 0.5  # between two trips
DAY = 24 * 3600
INDEX = "rollcall:log:runs"

_BOUND = frozenset({"execution_id", "job", "worker", "attempt", "event", "level", "timestamp"})
_UNSAID = frozenset({"logger", "exc_info", "stack_info", "_record", "_from_structlog"})

Line = tuple[str, Mapping[str, Any]]  # execution_id, event
Clean = Callable[[Mapping[str, Any]], dict[str, Any]]


def name(run_id: UUID | str) -> str:
    """The key of a run's lines."""
    return f"rollcall:log:{run_id}"


class Keeper(logging.Handler):
    """Takes a copy of every line that belongs to a run, as it went through the processors."""

    def __init__(self, clean: Clean) -> None:
        super().__init__()
        self.clean = clean
        self.waiting: deque[Line] = deque(maxlen=WAITING)

    def emit(self, record: logging.LogRecord) -> None:
        """Note the line, if it is one of a run. Never raises, never waits."""
        event = cast("object", record.msg)
        if isinstance(event, dict) and "execution_id" in event:
            told = cast("Mapping[str, Any]", event)
            self.waiting.append((str(told["execution_id"]), dict(told)))


def text(event: Mapping[str, Any]) -> str:
    """An event as one line: instant, level, name, and its facts."""
    facts = [
        f"{key}={_fact(value)}"
        for key, value in event.items()
        if key not in _BOUND and key not in _UNSAID
    ]
    error = event.get("exc_info")
    if isinstance(error, BaseException):
        facts.append(f"error_type={type(error).__name__}")
    at, level = str(event.get("timestamp", ""))[:23], str(event.get("level", ""))
    head = f"{at} {level:<7} {event.get('event', '')}"
    line = " ".join([head, *facts]).replace("\n", " ")
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _fact(value: object) -> str:
    shown = str(value)
    return json.dumps(shown, ensure_ascii=False) if " " in shown or not shown else shown


@asynccontextmanager
async def kept(redis: Redis, secrets: Collection[str] = ()) -> AsyncGenerator[Keeper]:
    """Keep the lines of this process's runs while the body goes on, without these secrets."""
    keeper = Keeper(redact.redactor(tuple(secrets)))
    root = logging.getLogger()
    root.addHandler(keeper)
    carrying = asyncio.create_task(_carry(keeper, redis))
    try:
        yield keeper
    finally:
        root.removeHandler(keeper)
        carrying.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await carrying
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            async with asyncio.timeout(1):
                await carry_off(keeper, redis)


async def _carry(keeper: Keeper, redis: Redis) -> None:
    while True:
        await asyncio.sleep(SECONDS)
        with contextlib.suppress(RedisError, OSError, TimeoutError):
            await carry_off(keeper, redis)


async def carry_off(keeper: Keeper, redis: Redis) -> None:
    """Write down what waits. Lines that Redis refuses are lost; it is only a copy."""
    lines = [keeper.waiting.popleft() for _ in range(len(keeper.waiting))]
    if not lines:
        return
    async with redis.pipeline(transaction=False) as pipe:
        by_run = _by_run(lines, keeper.clean)
        for run_id, texts in by_run.items():
            pipe.rpush(name(run_id), *texts)
            pipe.ltrim(name(run_id), -LINES, -1)
            pipe.expire(name(run_id), DAY)
        pipe.zadd(INDEX, dict.fromkeys(by_run, time.time()))
        pipe.expire(INDEX, DAY)
        pipe.zrange(INDEX, 0, -RUNS - 1)  # pyright: ignore[reportUnknownMemberType] - redis-py 5 has no types here
        oldest = cast("list[bytes]", (await pipe.execute())[-1])
    if oldest:
        await redis.delete(*(name(_text(run_id)) for run_id in oldest))
        await redis.zrem(INDEX, *oldest)


def _by_run(lines: Iterable[Line], clean: Clean) -> dict[str, list[str]]:
    found: defaultdict[str, list[str]] = defaultdict(list)
    for run_id, event in lines:
        found[run_id].append(text(clean(event)))
    return found


async def lines(redis: Redis, run_id: UUID) -> list[str]:
    """The kept lines of a run, oldest first."""
    answer = cast("list[bytes]", await redis.lrange(name(run_id), 0, -1))  # pyright: ignore[reportGeneralTypeIssues, reportUnknownMemberType]
    return [_text(line) for line in answer]


def _text(value: bytes | str) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
