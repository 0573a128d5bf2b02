"""The sweep: takes over expired runs and requeues lost ones, periodically and at startup."""

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.control import DecidingContext, deciding_context
from app.core import log, zone_data
from app.core.errors import BadSchedule
from app.ledger import edit
from app.queue import enqueue, org_queue
from app.scheduling.schedule import EPOCH, Schedule
from app.store.runs import run_rows
from app.store.runs.run_rows import QueuedRun, QueuedRunsPage
from app.store.schedules import zones
from workers import trigger
from workers.dispatch import DispatchState, decide, dispatch_state

# A run queued more recently than this may not have reached Redis yet.
MIN_QUEUED_AGE = timedelta(seconds=3)

FIRST_PAGE = QueuedRunsPage(EPOCH, UUID(int=0), limit=2_000)
MAX_PAGES = 10  # of organisations' runs per sweep
MAX_LOGGED_RUNS = 20  # requeued runs to log one by one; beyond that, their number
REDERIVE_SECONDS = 5.0
REDERIVE_BATCH = 100  # schedules
DECIDE_SECONDS = 1.0  # seconds for organisations' schedules: startup must not wait for them all

# Between the multiples of ten seconds, at which most ticks are due.
HEALTH_SCHEDULE = Schedule.every(10, anchor=EPOCH + timedelta(seconds=5.5))

_log = log.logger(__name__)


def sweep_schedule(lease: float) -> Schedule:
    """The schedule of sweeps for a lease of so many seconds: every third of it, at most 10 s.

    So a dead worker's run executes again within two leases, even if that worker had claimed a
    sweep.
    """
    return Schedule.every(max(1, min(10, lease // 3)))


async def sweep(ctx: dict[str, Any]) -> None:
    """Take over dead workers' runs, requeue what Redis lost, decide ticks without a trigger.

    Safe to run concurrently and repeatedly.
    """
    context = deciding_context(ctx)
    if context.heartbeat.is_steady():
        await requeue_expired(context, ctx.get("lease_seconds", run_rows.LEASE_SECONDS))
    await requeue_lost(context, trigger.known_jobs(ctx))
    state = dispatch_state(ctx)
    state.sweep_page = await requeue_lost_org_runs(
        context, trigger.known_jobs(ctx), state.sweep_page or FIRST_PAGE
    )
    await rederive_outdated(context, state)
    ended = await edit.end_pauses(context.control, context.clock())
    await enqueue.enqueue_runs(context.control, context.redis, ended)
    await decide(ctx, DECIDE_SECONDS)


async def rederive_outdated(context: DecidingContext, state: DispatchState) -> None:
    """Derive upcoming ticks anew where there is newer zone data, for at most `REDERIVE_SECONDS`.

    A worker whose own zone data is the older one logs that it follows what is stored.
    """
    ahead = frozenset(await zones.ahead_of_wheel(context.control))
    if ahead - state.zones_ahead:
        _log.warning("zone_data.older", zones=sorted(ahead), wheel=zone_data.VERSION)
    state.zones_ahead = ahead
    deadline = time.monotonic() + REDERIVE_SECONDS
    while time.monotonic() < deadline:
        outdated = await zones.outdated(context.control, state.skipped(), REDERIVE_BATCH)
        if not outdated:
            return
        for version_key, key in outdated:
            try:
                queued = await edit.rederive(context.control, key, context.clock())
            except BadSchedule as error:
                _log.error("schedule.undecidable", schedule=key, error=str(error))
                state.skip([version_key])
            else:
                await enqueue.enqueue_runs(context.control, context.redis, queued)


async def publish_health(ctx: dict[str, Any]) -> None:
    """Publish the health of jobs that changed, or that Redis lost."""
    await trigger.health_publisher(ctx).publish_changes()


async def requeue_expired(context: DecidingContext, lease: float = run_rows.LEASE_SECONDS) -> None:
    """Requeue runs whose lease, of so many seconds, expired, or record them as lost."""
    requeued, lost = await run_rows.requeue_expired(context.control, context.clock(), lease)
    for run in requeued:
        _log.warning("run.taken_up", execution_id=str(run.run_id), attempt=run.attempt)
    for run_id in lost:
        _log.error("run.lost", execution_id=str(run_id))
    await enqueue.enqueue_runs(context.control, context.redis, requeued)


async def requeue_lost(context: DecidingContext, jobs: Sequence[str] | None = None) -> None:
    """Requeue, under a new attempt, runs that Redis has lost."""
    waiting = await run_rows.queued_runs(context.control, context.clock() - MIN_QUEUED_AGE, jobs)
    await _requeue_unknown(context, waiting)


async def requeue_lost_org_runs(
    context: DecidingContext,
    jobs: Sequence[str] | None = None,
    page: QueuedRunsPage = FIRST_PAGE,
    *,
    pages: int = MAX_PAGES,
) -> QueuedRunsPage:
    """As `requeue_lost` for organisations' runs: up to `pages` from `page`; returns the next page.

    As many may wait as there are organisations: each sweep continues where the last one stopped.
    """
    before = context.clock() - MIN_QUEUED_AGE
    for _ in range(pages):
        waiting, following = await run_rows.queued_org_runs(context.control, before, jobs, page)
        await _requeue_unknown(context, waiting)
        if following is None:
            return FIRST_PAGE
        page = following
    return page


async def _requeue_unknown(context: DecidingContext, waiting: Sequence[QueuedRun]) -> None:
    if not waiting:
        return
    queued = await org_queue.are_queued(context.redis, [run.arq_id for run in waiting])
    missing = [run for run, is_queued in zip(waiting, queued, strict=True) if not is_queued]
    requeued = await run_rows.requeue(context.control, missing, context.clock()) if missing else []
    for run in requeued[:MAX_LOGGED_RUNS]:
        _log.warning("run.requeued", execution_id=str(run.run_id), attempt=run.attempt)
    if len(requeued) > MAX_LOGGED_RUNS:
        _log.warning("runs.requeued", count=len(requeued))
    await enqueue.enqueue_runs(context.control, context.redis, requeued)
