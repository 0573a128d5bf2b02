"""The monitor: alerts, and health figures that are expensive and computed by one worker for all."""

import time
from datetime import timedelta
from typing import Any, cast

from app.context import WorkerContext, worker_context
from app.health import accounting, keys, publish
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.health.alerts.watcher import AlertWatcher
from app.health.facts import SystemFacts
from app.health.metrics import read
from app.scheduling.schedule import EPOCH, Schedule
from app.store.reports import alerts, metrics, trends
from workers.org_alerts import OrgAlertSender

# Between the multiples of ten seconds, at which most ticks are due, and after health is published.
MONITOR_SCHEDULE = Schedule.every(10, anchor=EPOCH + timedelta(seconds=7.5))
MONITOR_TIMEOUT = 120.0
COUNT_EVERY = 60, 600  # seconds, at least and at most
COUNT_SHARE = 500  # pauses so many times as long as counting took: 2 ms of each second
PING_EVERY = 60  # seconds between pings
TOTALS_EVERY = 60  # seconds between additions to counters and trends; a scrape adds them too
ACCOUNTING_EVERY = 300  # seconds between accounting checks


async def monitor(ctx: dict[str, Any]) -> None:
    """Send alerts for changes of health, and update counters, counts and accounting."""
    context = worker_context(ctx)
    watcher, pings, sender = ctx.get("watcher"), ctx.get("pings"), ctx.get("org_alerts")
    if isinstance(watcher, AlertWatcher):
        await watcher.step()
    if isinstance(sender, OrgAlertSender):
        await sender.step(context)
    if await _claim_interval(context, "minute", PING_EVERY) and isinstance(pings, HeartbeatPings):
        pings.scheduler()
    if await _claim_interval(context, "totals", TOTALS_EVERY):
        await _update_totals(context)
    if await _claim_interval(context, "count", COUNT_EVERY[0]):
        await _count_collections(context)
    if await _claim_interval(context, "prove", ACCOUNTING_EVERY):
        await _check_accounting(context)


async def _update_totals(context: WorkerContext) -> None:
    """Add up what has ended since: several runs of a job change its counters once."""
    while await metrics.fold(context.pool) == metrics.BATCH:
        pass
    await read.store_totals(context.redis, await metrics.totals(context.pool))


async def _count_collections(context: WorkerContext) -> None:
    """Count the collections, less often the longer it takes: there may be 100,000."""
    started = time.monotonic()
    await publish.publish_collections(context.pool, context.redis, context.clock())
    shortest, longest = COUNT_EVERY
    interval = round(min((time.monotonic() - started) * COUNT_SHARE, longest)) - 5
    if interval > shortest:
        await context.redis.expire("rollcall:turn:count", interval)


async def _check_accounting(context: WorkerContext) -> None:
    now = context.clock()
    missing = await accounting.unaccounted(context.pool, now)
    await keys.write_accounting(context.redis, SystemFacts(unaccounted=missing, checked_at=now))
    await alerts.prune(context.pool)
    await trends.prune(context.pool)


async def _claim_interval(context: WorkerContext, name: str, seconds: int) -> bool:
    """Claim this interval's execution; false if a worker has claimed it already."""
    claimed = await context.redis.set(
        f"rollcall:turn:{name}", context.worker, nx=True, ex=seconds - 5
    )
    return bool(cast("object", claimed))
