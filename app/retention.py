"""What is forgotten, and when: by kind, in batches, safe to race and to be cut short."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.config import Config
from app.scheduling.schedule import Schedule
from app.store import months, pages
from app.store import retention as store
from app.store.db import Pool

BATCH = 1_000
BREATH = 0.01  # seconds between two batches: whoever waits for a lock or the disk comes first
TICKS = "ticks"
MOVES = "odds_price_changes"
PAGES = "raw_pages"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """What became of one kind. `days` is 0 if it is kept for ever."""

    kind: str
    setting: str
    days: int
    rows: int


async def forget(pool: Pool, config: Config, now: datetime) -> AsyncIterator[Forgotten]:
    """Forget what the settings let go, one kind after the other."""
    days = config.tick_days
    gone = await _ticks(pool, now - timedelta(days=days)) if days else 0
    yield Forgotten(TICKS, "TICK_DAYS", days, gone)
    for kind in store.KINDS:
        days = getattr(config, kind.setting)
        gone = await _rows(pool, kind, now - timedelta(days=days)) if days else 0
        yield Forgotten(kind.name, kind.setting.upper(), days, gone)
    days = config.odds_changes_days
    dropped = await months.prune(pool, now - timedelta(days=days)) if days else []
    yield Forgotten(MOVES, "ODDS_CHANGES_DAYS", days, len(dropped))
    gone = await pages.prune(pool, now, config.raw_days)
    yield Forgotten(PAGES, "RAW_DAYS", config.raw_days, gone)


async def would_forget(pool: Pool, config: Config, now: datetime) -> AsyncIterator[Forgotten]:
    """What `forget` would do, and nothing done."""
    days = config.tick_days
    old = await store.count_ticks(pool, now - timedelta(days=days)) if days else 0
    yield Forgotten(TICKS, "TICK_DAYS", days, old)
    for kind in store.KINDS:
        days = getattr(config, kind.setting)
        old = await store.count(pool, kind, now - timedelta(days=days)) if days else 0
        yield Forgotten(kind.name, kind.setting.upper(), days, old)
    days = config.odds_changes_days
    old = len(await months.old(pool, now - timedelta(days=days))) if days else 0
    yield Forgotten(MOVES, "ODDS_CHANGES_DAYS", days, old)
    old = await pages.count_old(pool, now, config.raw_days)
    yield Forgotten(PAGES, "RAW_DAYS", config.raw_days, old)


async def _rows(pool: Pool, kind: store.Kind, before: datetime) -> int:
    gone = 0
    while True:
        some = await store.forget(pool, kind, before, BATCH)
        gone += some
        if some < BATCH:
            return gone
        await asyncio.sleep(BREATH)


async def _ticks(pool: Pool, before: datetime) -> int:
    gone = 0
    for schedule_id in await store.with_old_ticks(pool, before):
        while some := await forget_ticks(pool, schedule_id, before):
            gone += some
            await asyncio.sleep(BREATH)
    return gone


async def forget_ticks(pool: Pool, schedule_id: int, before: datetime, batch: int = BATCH) -> int:
    """Turn a batch of one schedule's ticks into numbers, under its row lock; returns how many."""
    async with pool.acquire() as connection, connection.transaction():
        through = await store.boundary(connection, schedule_id, before, batch)
        if through is None:
            return 0
        # What the wording named is counted now, beside what was answered: the proof keeps both.
        counted = [
            (stretch, Schedule.from_spec(stretch.spec).count(stretch.since, stretch.until))
            for stretch in await store.stretches(connection, schedule_id, through)
        ]
        return await store.forget_ticks(connection, schedule_id, through, counted)
