"""Retention: deletes expired rows of each kind in batches. Safe to run twice and to interrupt."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.config import Config
from app.core.errors import BadSchedule
from app.scheduling.schedule import Schedule
from app.store.content import pages, partitions
from app.store.db import Connection, Pool
from app.store.reports import retention as store

BATCH_ROWS = 1_000
BATCH_PAUSE_SECONDS = (
    0.01  # seconds between two batches, so that other transactions get locks and I/O
)
TICKS = "ticks"
PAGES = "raw_pages"


@dataclass(frozen=True, slots=True)
class RetentionResult:
    """The result for one kind: `rows` deleted or to delete (partitions, for tables that have them).

    `days`: the value of `setting`; 0 keeps rows for ever.
    """

    kind: str
    setting: str
    days: int
    rows: int


async def delete_expired(
    pool: Pool, config: Config, now: datetime
) -> AsyncIterator[RetentionResult]:
    """Delete the rows that have expired under the settings; yield a result after each kind."""
    days = config.tick_days
    deleted = await _prune_ticks(pool, now - timedelta(days=days)) if days else 0
    yield RetentionResult(TICKS, "TICK_DAYS", days, deleted)
    for kind in store.RETENTION_RULES:
        days = getattr(config, kind.setting)
        deleted = await _delete_rows(pool, kind, now - timedelta(days=days)) if days else 0
        yield RetentionResult(kind.name, kind.setting.upper(), days, deleted)
    for table in partitions.TABLES:
        days = getattr(config, table.setting)
        before = now - timedelta(days=days)
        dropped = await partitions.drop_ended(pool, before, table) if days else []
        yield RetentionResult(table.name, table.setting.upper(), days, len(dropped))
    deleted = await pages.prune(pool, now, config.raw_days)
    yield RetentionResult(PAGES, "RAW_DAYS", config.raw_days, deleted)


async def count_expired(
    pool: Pool, config: Config, now: datetime
) -> AsyncIterator[RetentionResult]:
    """Count what `delete_expired` would delete. Deletes nothing."""
    days = config.tick_days
    expired = await store.count_ticks(pool, now - timedelta(days=days)) if days else 0
    yield RetentionResult(TICKS, "TICK_DAYS", days, expired)
    for kind in store.RETENTION_RULES:
        days = getattr(config, kind.setting)
        expired = await store.count(pool, kind, now - timedelta(days=days)) if days else 0
        yield RetentionResult(kind.name, kind.setting.upper(), days, expired)
    for table in partitions.TABLES:
        days = getattr(config, table.setting)
        before = now - timedelta(days=days)
        expired = len(await partitions.ended_before(pool, before, table)) if days else 0
        yield RetentionResult(table.name, table.setting.upper(), days, expired)
    expired = await pages.count_old(pool, now, config.raw_days)
    yield RetentionResult(PAGES, "RAW_DAYS", config.raw_days, expired)


async def _delete_rows(pool: Pool, kind: store.RetentionRule, before: datetime) -> int:
    deleted = 0
    while True:
        count = await store.delete_batch(pool, kind, before, BATCH_ROWS)
        deleted += count
        if count < BATCH_ROWS:
            return deleted
        await asyncio.sleep(BATCH_PAUSE_SECONDS)


async def _prune_ticks(pool: Pool, before: datetime) -> int:
    deleted = 0
    for schedule_id in await store.with_old_ticks(pool, before):
        while count := await prune_ticks(pool, schedule_id, before):
            deleted += count
            await asyncio.sleep(BATCH_PAUSE_SECONDS)
    return deleted


async def prune_ticks(
    pool: Pool, schedule_id: int, before: datetime, batch: int = BATCH_ROWS
) -> int:
    """Replace a batch of one schedule's ticks by counts, under its row lock.

    Returns the number of ticks deleted.
    """
    async with pool.acquire() as connection, connection.transaction():
        through = await store.prune_boundary(connection, schedule_id, before, batch)
        if through is None:
            return 0
        # `verify` needs both counts: the expected ticks of each version, and the outcomes stored.
        counted = [
            (span, await _count_expected(connection, schedule_id, span))
            for span in await store.prunable_spans(connection, schedule_id, through)
        ]
        return await store.prune_ticks(connection, schedule_id, through, counted)


async def _count_expected(
    connection: Connection, schedule_id: int, span: store.PrunableSpan
) -> int:
    try:
        schedule = Schedule.from_spec(span.spec, stamp=span.zone_data)
    except BadSchedule:  # what was recorded is all that there is to count
        return await store.count_recorded(connection, schedule_id, span)
    return schedule.count(span.since, span.until)
