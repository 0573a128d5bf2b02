"""Maintenance: raw pages, partitions and expired rows. Its cron entries are in one table.

Each step may run concurrently and repeatedly; one that was cut off is continued by the next.
"""

from datetime import datetime, timedelta
from typing import Any

from app.context import worker_context
from app.core import log
from app.maintenance import retention
from app.scheduling.schedule import Schedule
from app.store.content import pages, partitions
from app.store.content.partitions import PartitionedTable
from app.store.db import LOCKED, Pool
from workers.trigger import Step

_log = log.logger(__name__)


async def prune_raw_pages(ctx: dict[str, Any]) -> None:
    """Delete raw pages older than RAW_DAYS."""
    context = worker_context(ctx)
    deleted = await pages.prune(context.pool, context.clock(), context.config.raw_days)
    if deleted:
        _log.info("pages.pruned", rows=deleted)


async def maintain_partitions(ctx: dict[str, Any]) -> None:
    """Create the coming partitions of each table; drop those older than its retention."""
    context = worker_context(ctx)
    now = context.clock()
    if 0 < context.config.tick_days <= partitions.MAX_DAYS_KEPT:
        await _create_upcoming(context.pool, now, partitions.TICKS)
    for table in partitions.TABLES:
        await _create_upcoming(context.pool, now, table)
        days: int = getattr(context.config, table.setting)
        before = now - timedelta(days=days)
        dropped = await partitions.drop_ended(context.pool, before, table) if days else []
        if dropped:
            _log.info("months.dropped", names=dropped)


async def _create_upcoming(pool: Pool, now: datetime, table: PartitionedTable) -> None:
    try:
        created = await partitions.create_upcoming(pool, now, table)
    except LOCKED as error:  # the default partition takes the rows until the next time
        _log.warning("partitions.not_created", table=table.name, error=str(error))
        return
    if created:
        _log.info("days.opened" if table.daily else "months.opened", names=created)


async def apply_retention(ctx: dict[str, Any]) -> None:
    """Delete expired rows of each kind."""
    context = worker_context(ctx)
    async for deleted in retention.delete_expired(context.pool, context.config, context.clock()):
        if deleted.rows:
            _log.info("kind.pruned", kind=deleted.kind, rows=deleted.rows)


# Name, step, schedule (UTC), and the seconds that it may take.
MAINTENANCE: tuple[tuple[str, Step, Schedule, float], ...] = (
    ("prune", prune_raw_pages, Schedule.every(3600), 300),
    ("tidy", maintain_partitions, Schedule.every(3600), 30),
    ("retention", apply_retention, Schedule.cron("17 3 * * *"), 3600),
)
