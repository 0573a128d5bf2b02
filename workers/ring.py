"""The alarm clock's bells: ask the ledger, queue what it decided, end. Milliseconds."""

import asyncio
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from app import ledger, log
from app.ledger import Declared, Queued
from app.queue import enqueue_many
from app.resources import House, ctx_house
from app.scheduling.cronjob import ScheduleCron, alarm
from app.store import schedules
from app.store.runs import Waiting

# Our clock is the database's: the alarm, which has the machine's, may ring a little early.
EARLY = timedelta(seconds=2)

_log = log.logger(__name__)


async def ring(house: House, key: str, meant: datetime) -> None:
    """Decide what is due of one schedule and queue its runs; wait a moment if rung too early."""
    early = meant - house.clock()
    if timedelta(0) < early <= EARLY:
        await asyncio.sleep(early.total_seconds())
    now = max(house.clock(), meant) if early <= EARLY else house.clock()
    await tell(house, await ledger.ring(house.pool, key, now))


def alarm_for(declared: Declared) -> ScheduleCron:
    """The arq cron job that rings a schedule. A ring that comes twice or never changes nothing."""

    async def bell(ctx: dict[str, Any]) -> None:
        meant = datetime.fromtimestamp(ctx["score"] / 1000, UTC)
        await ring(ctx_house(ctx), declared.key, meant)

    return alarm(f"ring:{declared.key}", bell, declared.policies.spread(declared.schedule))


async def dispatch(ctx: dict[str, Any]) -> None:
    """Every second: decide schedules whose alarm did not ring, or which have none."""
    house = ctx_house(ctx)
    for key in await schedules.due(house.pool, house.clock()):
        await tell(house, await ledger.ring(house.pool, key, house.clock()))


async def tell(house: House, queued: Iterable[Queued | Waiting]) -> None:
    """Tell Redis of queued runs, in bulk. What it does not hear, a sweep tells it again."""
    wanted = [(run.job, [str(run.run_id)], f"run:{run.run_id}:{run.attempt}") for run in queued]
    if wanted:
        await enqueue_many(house.redis, wanted)
