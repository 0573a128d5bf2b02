"""Triggers of schedules: arq cron entries that ask the ledger and enqueue the runs it decided."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from app.context import House, ctx_house
from app.core import log
from app.health import publish
from app.ledger import edit
from app.ledger.edit import Declared, Queued
from app.queue import enqueue
from app.queue.cron import RING_TIMEOUT, ScheduleCron, alarm
from app.scheduling.schedule import Schedule
from app.store.db import AWAY
from app.store.runs.run_rows import Waiting

Step = Callable[[dict[str, Any]], Awaitable[None]]

# Ticks are judged by the database's clock; arq triggers by the machine's, which may be ahead.
EARLY = timedelta(seconds=2)
# Dispatch runs at whole seconds, as most ticks do: it must not race triggers for the row lock.
HEAD_START = timedelta(seconds=1)
# Slots that runs never use, so that a worker full of runs still triggers, dispatches and sweeps.
ALARM_SLOTS = 8

_log = log.logger(__name__)


async def ring(context: House, key: str, tick_at: datetime) -> None:
    """Decide the due ticks of one schedule and enqueue their runs.

    `tick_at`: the instant of the trigger. If the clock is up to two seconds before it, it waits.
    """
    lead = tick_at - context.clock()
    if timedelta(0) < lead <= EARLY:
        await asyncio.sleep(lead.total_seconds())
    now = max(context.clock(), tick_at) if lead <= EARLY else context.clock()
    queued = await edit.ring(context.pool, key, now)
    await tell(context, queued)
    if not queued:  # skipped or missed: no run will publish it
        await publish.rest(context.pool, context.redis, key)


def alarm_for(declared: Declared) -> ScheduleCron:
    """The arq cron job that triggers a schedule. A repeated or lost trigger is harmless."""

    async def on_trigger(ctx: dict[str, Any]) -> None:
        tick_at = datetime.fromtimestamp(ctx["score"] / 1000, UTC)
        await ring(ctx_house(ctx), declared.key, tick_at)

    schedule = declared.policies.spread(declared.schedule)
    return alarm_of(f"ring:{declared.key}", on_trigger, schedule)


def alarm_of(
    name: str, step: Step, schedule: Schedule, timeout: float = RING_TIMEOUT
) -> ScheduleCron:
    """A cron entry that logs, and does not raise, if Postgres or Redis is away.

    `timeout`: seconds.
    """

    async def run_step(ctx: dict[str, Any]) -> None:
        try:
            await step(ctx)
        except (RedisError, *AWAY) as error:
            _log.warning("alarm.in_vain", alarm=name, error=repr(error))

    return alarm(name, run_step, schedule, timeout=timeout)


def known_jobs(ctx: dict[str, Any]) -> Sequence[str] | None:
    """The jobs that this worker can execute; None means any. Versions may differ in a deploy."""
    known: Sequence[str] | None = ctx.get("known_jobs")
    return known


async def tell(
    context: House, queued: Iterable[Queued | Waiting], until: datetime | None = None
) -> None:
    """Enqueue runs in Redis, in bulk; none starts before `until` (aware), if given.

    A run that Redis does not receive is requeued by a sweep.
    """
    await enqueue.tell(context.pool, context.redis, queued, until)
