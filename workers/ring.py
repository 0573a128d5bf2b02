"""The alarm clock's bells: ask the ledger, queue what it decided, end. Milliseconds."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from app import ledger, log, telling
from app.health import publish
from app.ledger import Declared, Queued
from app.resources import House, ctx_house
from app.scheduling.cronjob import RING_TIMEOUT, ScheduleCron, alarm
from app.scheduling.schedule import Schedule
from app.store.db import AWAY
from app.store.runs import Waiting

Step = Callable[[dict[str, Any]], Awaitable[None]]

# Our clock is the database's: the alarm, which has the machine's, may ring a little early.
EARLY = timedelta(seconds=2)
# Dispatch comes at whole seconds, as most ticks do: it must not race their alarms for the row lock.
HEAD_START = timedelta(seconds=1)
# Slots that long runs can never take: a worker full of them still decides, sweeps and tells.
ALARM_SLOTS = 8

_log = log.logger(__name__)


async def ring(house: House, key: str, meant: datetime) -> None:
    """Decide what is due of one schedule and queue its runs; wait a moment if rung too early."""
    early = meant - house.clock()
    if timedelta(0) < early <= EARLY:
        await asyncio.sleep(early.total_seconds())
    now = max(house.clock(), meant) if early <= EARLY else house.clock()
    queued = await ledger.ring(house.pool, key, now)
    await tell(house, queued)
    if not queued:  # skipped or missed: no run will tell health of it
        await publish.rest(house.pool, house.redis, key)


def alarm_for(declared: Declared) -> ScheduleCron:
    """The arq cron job that rings a schedule. A ring that comes twice or never changes nothing."""

    async def bell(ctx: dict[str, Any]) -> None:
        meant = datetime.fromtimestamp(ctx["score"] / 1000, UTC)
        await ring(ctx_house(ctx), declared.key, meant)

    schedule = declared.policies.spread(declared.schedule)
    return alarm_of(f"ring:{declared.key}", bell, schedule)


def alarm_of(
    name: str, step: Step, schedule: Schedule, timeout: float = RING_TIMEOUT
) -> ScheduleCron:
    """An alarm which rings in vain while Postgres or Redis is away: the next one makes it good."""

    async def rung(ctx: dict[str, Any]) -> None:
        try:
            await step(ctx)
        except (RedisError, *AWAY) as error:
            _log.warning("alarm.in_vain", alarm=name, error=repr(error))

    return alarm(name, rung, schedule, timeout=timeout)


def known_jobs(ctx: dict[str, Any]) -> Sequence[str] | None:
    """The jobs this worker can do: in a deploy there may be others'. None is any."""
    known: Sequence[str] | None = ctx.get("known_jobs")
    return known


async def tell(
    house: House, queued: Iterable[Queued | Waiting], until: datetime | None = None
) -> None:
    """Tell Redis of queued runs, in bulk. What it does not hear, a sweep tells it again.

    Those of organisations wait in line, so that nothing else waits behind them. None of them is to
    start before `until`, if that is given.
    """
    await telling.tell(house.pool, house.redis, queued, until)
