"""Triggers of schedules: arq cron entries that ask the ledger and enqueue the runs it decided."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from redis.exceptions import RedisError

from app.control import deciding_context
from app.core import log
from app.core.errors import BadSchedule
from app.health.publisher import HealthPublisher
from app.ledger.decide import decide_schedule
from app.ledger.remembered import RememberedRows
from app.queue import enqueue
from app.queue.cron import TRIGGER_TIMEOUT_SECONDS, ScheduleCron, cron_entry
from app.scheduling.schedule import Schedule
from app.store import server_faults
from app.store.db import LOCKED, TRANSIENT

Step = Callable[[dict[str, Any]], Awaitable[None]]

# Ticks are judged by the database's clock; the worker's estimate of it may be ahead.
MAX_EARLY_TRIGGER = timedelta(seconds=2)
# Dispatch runs at whole seconds, as most ticks do: it must not race triggers for the row lock.
DISPATCH_DELAY = timedelta(seconds=1)
# Slots that runs never use, so that a worker full of runs still triggers, dispatches and sweeps.
CRON_SLOTS = 8
# Seconds after an entry's own timeout, a warning, until the cron runner ends it as a fault.
END_SECONDS = 1.0

_log = log.logger(__name__)


async def trigger_schedule(ctx: dict[str, Any], key: str, tick_at: datetime) -> None:
    """Decide the due ticks of one schedule and enqueue their runs.

    `tick_at`: the instant of the trigger. If the clock is up to two seconds before it, it waits.
    """
    context = deciding_context(ctx)
    remembered: RememberedRows | None = ctx.get("remembered")
    lead = tick_at - context.clock()
    if timedelta(0) < lead <= MAX_EARLY_TRIGGER:
        await asyncio.sleep(lead.total_seconds())
    now = max(context.clock(), tick_at) if lead <= MAX_EARLY_TRIGGER else context.clock()
    deciding: set[str] = ctx.setdefault("deciding", set[str]())
    if key in deciding:  # it waits for a lock: a dispatch decides this tick, when that is gone
        return
    deciding.add(key)
    try:
        queued = await decide_schedule(context.control, key, now, remembered)
    except BadSchedule as error:  # its ticks are held until it is edited
        _log.error("schedule.undecidable", schedule=key, error=str(error))
        queued = []
    except LOCKED as error:
        _log.warning("schedule.locked", schedule=key, error=str(error))
        return
    finally:
        deciding.discard(key)
    await enqueue.enqueue_runs(context.control, context.redis, queued)
    if not queued:  # skipped or missed: no run will publish it
        await health_publisher(ctx).publish_job(key)


def cron_entry_for(key: str, schedule: Schedule) -> ScheduleCron:
    """The arq cron job that triggers a schedule. A repeated or lost trigger is harmless."""

    async def on_trigger(ctx: dict[str, Any]) -> None:
        instant_ms = int(ctx["job_id"].rpartition(":")[2])  # the score is by Redis' clock
        tick_at = datetime.fromtimestamp(instant_ms / 1000, UTC)
        await trigger_schedule(ctx, key, tick_at)

    entry = resilient_entry(f"ring:{key}", on_trigger, schedule)
    entry.punctual = True
    return entry


def resilient_entry(
    name: str, step: Step, schedule: Schedule, timeout: float = TRIGGER_TIMEOUT_SECONDS
) -> ScheduleCron:
    """A cron entry that logs, and does not raise, if Postgres or Redis is away, slow or refuses it.

    `timeout`: seconds.
    """

    async def run_step(ctx: dict[str, Any]) -> None:
        try:
            async with asyncio.timeout(timeout):
                await step(ctx)
        except (RedisError, *TRANSIENT) as error:
            _log.warning("alarm.in_vain", alarm=name, error=repr(error))
        except server_faults.LASTING_POSTGRES as error:
            _log.error("alarm.in_vain", alarm=name, error=server_faults.postgres_sentence(error))

    return cron_entry(name, run_step, schedule, timeout=timeout + END_SECONDS)


def health_publisher(ctx: dict[str, Any]) -> HealthPublisher:
    """The publisher of this process' health facts, opened at startup."""
    known, context = ctx.get("health"), deciding_context(ctx)
    if isinstance(known, HealthPublisher):
        return known
    return HealthPublisher(context.control, context.redis, "")


def known_jobs(ctx: dict[str, Any]) -> Sequence[str] | None:
    """The jobs that this worker can execute; None means any. Versions may differ in a deploy."""
    known: Sequence[str] | None = ctx.get("known_jobs")
    return known
