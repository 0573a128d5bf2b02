"""Every night: forget what the settings let go. What is cut short goes on the next night."""

from typing import Any

from app import log, retention
from app.resources import ctx_house
from app.scheduling.schedule import Schedule

NIGHTLY = Schedule.cron("17 3 * * *")  # UTC
TIMEOUT = 3600.0  # seconds

_log = log.logger(__name__)


async def retain(ctx: dict[str, Any]) -> None:
    """Keep of each kind what the settings say, and no more. Safe to race, safe to repeat."""
    house = ctx_house(ctx)
    async for forgotten in retention.forget(house.pool, house.config, house.clock()):
        if forgotten.rows:
            _log.info("kind.pruned", kind=forgotten.kind, rows=forgotten.rows)
