"""Now and then: what is expensive to know of health, counted by one worker for all."""

import time
from datetime import timedelta
from typing import Any, cast

from app.alerts.pings import Pings
from app.alerts.watcher import Watcher
from app.health import accounting, keys, publish
from app.health.facts import HouseFacts
from app.metrics import read
from app.resources import House, ctx_house
from app.scheduling.schedule import EPOCH, Schedule
from app.store import alerts

# Between the whole tens, at which most ticks are due, and after the facts have been written.
WATCH = Schedule.every(10, anchor=EPOCH + timedelta(seconds=7.5))
TIMEOUT = 120.0
COUNT_EVERY = 60, 600  # seconds, at least and at most
COUNT_SHARE = 500  # it rests so many times as long as it took: of a second, it costs 2 ms
MINUTE = 60  # seconds between two pings
PROVE_EVERY = 300  # seconds


async def watch(ctx: dict[str, Any]) -> None:
    """Look for what flipped, tell of it, and keep the counters and counts up to date."""
    house = ctx_house(ctx)
    watcher, pings = ctx.get("watcher"), ctx.get("pings")
    if isinstance(watcher, Watcher):
        await watcher.step()
    await _add_up(house)
    if await _turn(house, "minute", MINUTE) and isinstance(pings, Pings):
        pings.scheduler()
    if await _turn(house, "count", COUNT_EVERY[0]):
        await _count(house)
    if await _turn(house, "prove", PROVE_EVERY):
        await _prove(house)


async def _count(house: House) -> None:
    """Count the collections, and the more seldom the longer it takes: there may be 100,000."""
    began = time.monotonic()
    await publish.collections(house.pool, house.redis, house.clock())
    least, most = COUNT_EVERY
    rest = round(min((time.monotonic() - began) * COUNT_SHARE, most)) - 5
    if rest > least:
        await house.redis.expire("rollcall:turn:count", rest)


async def _add_up(house: House) -> None:
    counters, _ = await read.totals(house.pool)
    await read.keep(house.redis, counters)


async def _prove(house: House) -> None:
    now = house.clock()
    missing = await accounting.unaccounted(house.pool, now)
    await keys.write_accounting(house.redis, HouseFacts(unaccounted=missing, checked_at=now))
    await alerts.prune(house.pool)


async def _turn(house: House, what: str, every: int) -> bool:
    """Whether it is time, and nobody else has taken the turn."""
    taken = await house.redis.set(f"rollcall:turn:{what}", house.worker, nx=True, ex=every - 5)
    return bool(cast("object", taken))
