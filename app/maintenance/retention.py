"""Retention: deletes expired rows of each kind in batches. Safe to run twice and to interrupt."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from app.core.config import Config
from app.maintenance import tick_retention
from app.store import retention as store
from app.store.content import pages, partitions
from app.store.db import Pool

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
    deleted = await tick_retention.prune(pool, now - timedelta(days=days)) if days else 0
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
    expired = await tick_retention.count(pool, now - timedelta(days=days)) if days else 0
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
        count = await store.delete_batch(pool, kind, before, tick_retention.BATCH_ROWS)
        deleted += count
        if count < tick_retention.BATCH_ROWS:
            return deleted
        await asyncio.sleep(tick_retention.BATCH_PAUSE_SECONDS)
