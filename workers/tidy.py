"""Every hour and at start-up: what is kept by the month is opened ahead, and dropped when old."""

from datetime import timedelta
from typing import Any

from app import log
from app.resources import House, ctx_house
from app.store import months

_log = log.logger(__name__)


async def tidy(ctx: dict[str, Any]) -> None:
    """Open the coming months of the moves, and drop what the settings let go. Safe to race."""
    await months_of_moves(ctx_house(ctx))


async def months_of_moves(house: House) -> None:
    """The same, of the prices' moves."""
    now = house.clock()
    opened = await months.ready(house.pool, now)
    if opened:
        _log.info("months.opened", names=opened)
    days = house.config.odds_changes_days
    dropped = await months.prune(house.pool, now - timedelta(days=days)) if days else []
    if dropped:
        _log.info("months.dropped", names=dropped)
