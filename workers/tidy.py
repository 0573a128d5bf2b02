"""Monthly partitions: created ahead and dropped when expired, hourly and at startup."""

from datetime import timedelta
from typing import Any

from app.context import WorkerContext, worker_context
from app.core import log
from app.store.content import partitions

_log = log.logger(__name__)


async def maintain_partitions(ctx: dict[str, Any]) -> None:
    """Create and drop monthly partitions. Safe to run concurrently and repeatedly."""
    await maintain_odds_partitions(worker_context(ctx))


async def maintain_odds_partitions(context: WorkerContext) -> None:
    """Create the coming partitions of price moves; drop those older than ODDS_CHANGES_DAYS."""
    now = context.clock()
    created = await partitions.create_upcoming(context.pool, now)
    if created:
        _log.info("months.opened", names=created)
    days = context.config.odds_changes_days
    dropped = await partitions.drop_ended(context.pool, now - timedelta(days=days)) if days else []
    if dropped:
        _log.info("months.dropped", names=dropped)
