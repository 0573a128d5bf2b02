"""Monthly partitions: created ahead and dropped when expired, hourly and at startup."""

from datetime import timedelta
from typing import Any

from app.context import House, ctx_house
from app.core import log
from app.store.content import partitions

_log = log.logger(__name__)


async def tidy(ctx: dict[str, Any]) -> None:
    """Create and drop monthly partitions. Safe to run concurrently and repeatedly."""
    await months_of_moves(ctx_house(ctx))


async def months_of_moves(context: House) -> None:
    """Create the coming partitions of price moves; drop those older than ODDS_CHANGES_DAYS."""
    now = context.clock()
    created = await partitions.ready(context.pool, now)
    if created:
        _log.info("months.opened", names=created)
    days = context.config.odds_changes_days
    dropped = await partitions.prune(context.pool, now - timedelta(days=days)) if days else []
    if dropped:
        _log.info("months.dropped", names=dropped)
