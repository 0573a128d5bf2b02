"""Retention: deletes expired rows of each kind in batches. Safe to run twice and to interrupt."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.config import Config
from app.scheduling.schedule import Schedule
from app.store.content import pages, partitions
from app.store.db import Pool
from app.store.reports import retention as store

BATCH = 1_000
BREATH = 0.01  # seconds between two batches, so that other transactions get locks and I/O
TICKS = "ticks"
MOVES = "odds_price_changes"
PAGES = "raw_pages"


@dataclass(frozen=True, slots=True)
class Forgotten:
    """The result for one kind: `rows` deleted or to delete (partitions for price changes).

    `days`: the value of `setting`; 0 keeps rows for ever.
    """

    kind: str
    setting: str
    days: int
    rows: int


async def forget(pool: Pool, config: Config, now: datetime) -> AsyncIterator[Forgotten]:
    """Delete the rows that have expired under the settings; yield a result after each kind."""
    days = config.tick_days
    deleted = await _prune_ticks(pool, now - timedelta(days=days)) if days else 0
    yield Forgotten(TICKS, "TICK_DAYS", days, deleted)
    for kind in store.KINDS:
        days = getattr(config, kind.setting)
        deleted = await _delete_rows(pool, kind, now - timedelta(days=days)) if days else 0
        yield Forgotten(kind.name, kind.setting.upper(), days, deleted)
    days = config.odds_changes_days
    dropped = await partitions.prune(pool, now - timedelta(days=days)) if days else []
    yield Forgotten(MOVES, "ODDS_CHANGES_DAYS", days, len(dropped))
    deleted = await pages.prune(pool, now, config.raw_days)
    yield Forgotten(PAGES, "RAW_DAYS", config.raw_days, deleted)


async def would_forget(pool: Pool, config: Config, now: datetime) -> AsyncIterator[Forgotten]:
    """Count what `forget` would delete. Deletes nothing."""
    days = config.tick_days
    expired = await store.count_ticks(pool, now - timedelta(days=days)) if days else 0
    yield Forgotten(TICKS, "TICK_DAYS", days, expired)
    for kind in store.KINDS:
        days = getattr(config, kind.setting)
        expired = await store.count(pool, kind, now - timedelta(days=days)) if days else 0
        yield Forgotten(kind.name, kind.setting.upper(), days, expired)
    days = config.odds_changes_days
    expired = len(await partitions.old(pool, now - timedelta(days=days))) if days else 0
    yield Forgotten(MOVES, "ODDS_CHANGES_DAYS", days, expired)
    expired = await pages.count_old(pool, now, config.raw_days)
    yield Forgotten(PAGES, "RAW_DAYS", config.raw_days, expired)


async def _delete_rows(pool: Pool, kind: store.Kind, before: datetime) -> int:
    deleted = 0
    while True:
        count = await store.forget(pool, kind, before, BATCH)
        deleted += count
        if count < BATCH:
            return deleted
        await asyncio.sleep(BREATH)


async def _prune_ticks(pool: Pool, before: datetime) -> int:
    deleted = 0
    for schedule_id in await store.with_old_ticks(pool, before):
        while count := await forget_ticks(pool, schedule_id, before):
            deleted += count
            await asyncio.sleep(BREATH)
    return deleted


async def forget_ticks(pool: Pool, schedule_id: int, before: datetime, batch: int = BATCH) -> int:
    """Replace a batch of one schedule's ticks by counts, under its row lock.

    Returns the number of ticks deleted.
    """
    async with pool.acquire() as connection, connection.transaction():
        through = await store.boundary(connection, schedule_id, before, batch)
        if through is None:
            return 0
        # `verify` needs both counts: the expected ticks of each version, and the outcomes stored.
        counted = [
            (span, Schedule.from_spec(span.spec).count(span.since, span.until))
            for span in await store.stretches(connection, schedule_id, through)
        ]
        return await store.forget_ticks(connection, schedule_id, through, counted)
