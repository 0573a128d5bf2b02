"""Every hour: forget what need not be kept any longer."""

from typing import Any

from app import log
from app.resources import ctx_house
from app.store import pages

TIMEOUT = 300.0  # seconds that a pruning may take; the next one goes on where it was cut short

_log = log.logger(__name__)


async def prune(ctx: dict[str, Any]) -> None:
    """Forget raw pages after RAW_DAYS. Safe to race, safe to repeat."""
    house = ctx_house(ctx)
    gone = await pages.prune(house.pool, house.clock(), house.config.raw_days)
    if gone:
        _log.info("pages.pruned", rows=gone)
