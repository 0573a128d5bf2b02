"""The sweep: takes over expired runs and requeues lost ones, periodically and at startup."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app.context import House, ctx_house
from app.core import log
from app.health import publish
from app.queue import org_queue
from app.scheduling.schedule import EPOCH, Schedule
from app.store.runs import run_rows
from app.store.runs.run_rows import Page, Waiting
from workers import trigger
from workers.dispatch import decide, turn_of

# A run queued more recently than this may not have reached Redis yet.
SETTLED = timedelta(seconds=3)

START = Page(EPOCH, UUID(int=0), limit=2_000)
PAGES = 10  # of organisations' runs per sweep
MOST_TOLD = 20  # requeued runs to log one by one; beyond that, their number
DECIDING = 1.0  # seconds for organisations' schedules: startup must not wait for them all

# Between the multiples of ten seconds, at which most ticks are due.
HEALTH = Schedule.every(10, anchor=EPOCH + timedelta(seconds=5.5))

_log = log.logger(__name__)


def sweeps(lease: float) -> Schedule:
    """The schedule of sweeps for a lease of so many seconds: every third of it, at most 10 s.

    So a dead worker's run executes again within two leases, even if that worker had claimed a
    sweep.
    """
    return Schedule.every(max(1, min(10, lease // 3)))


async def sweep(ctx: dict[str, Any]) -> None:
    """Take over dead workers' runs, requeue what Redis lost, decide ticks without a trigger.

    Safe to run concurrently and repeatedly.
    """
    context = ctx_house(ctx)
    await take_up(context)
    await tell_again(context, trigger.known_jobs(ctx))
    state = turn_of(ctx)
    state.page = await tell_line(context, trigger.known_jobs(ctx), state.page or START)
    await decide(ctx, DECIDING)


async def tell_health(ctx: dict[str, Any]) -> None:
    """Publish every job's health in Redis again: Redis may have lost it, or a tick was skipped."""
    context = ctx_house(ctx)
    await publish.all_jobs(context.pool, context.redis)


async def take_up(context: House) -> None:
    """Requeue runs whose lease expired, or record them as lost."""
    requeued, lost = await run_rows.take_up_expired(context.pool, context.clock())
    for run in requeued:
        _log.warning("run.taken_up", execution_id=str(run.run_id), attempt=run.attempt)
    for run_id in lost:
        _log.error("run.lost", execution_id=str(run_id))
    await trigger.tell(context, requeued)


async def tell_again(context: House, jobs: Sequence[str] | None = None) -> None:
    """Requeue, under a new attempt, runs that Redis has lost."""
    waiting = await run_rows.waiting(context.pool, context.clock() - SETTLED, jobs)
    if not waiting:
        return
    await _requeue_unknown(context, waiting)


async def tell_line(
    context: House, jobs: Sequence[str] | None = None, page: Page = START, *, pages: int = PAGES
) -> Page:
    """As `tell_again` for organisations' runs: up to `pages` from `page`; returns the next page.

    As many may wait as there are organisations: each sweep continues where the last one stopped.
    """
    before = context.clock() - SETTLED
    for _ in range(pages):
        waiting, following = await run_rows.waiting_in_line(context.pool, before, jobs, page)
        await _requeue_unknown(context, waiting)
        if following is None:
            return START
        page = following
    return page


async def _requeue_unknown(context: House, waiting: Sequence[Waiting]) -> None:
    if not waiting:
        return
    ids = [f"run:{run.run_id}:{run.attempt}" for run in waiting]
    queued = await org_queue.known(context.redis, ids)
    missing = [run for run, is_queued in zip(waiting, queued, strict=True) if not is_queued]
    requeued = await run_rows.requeue(context.pool, missing, context.clock()) if missing else []
    for run in requeued[:MOST_TOLD]:
        _log.warning("run.requeued", execution_id=str(run.run_id), attempt=run.attempt)
    if len(requeued) > MOST_TOLD:
        _log.warning("runs.requeued", count=len(requeued))
    await trigger.tell(context, requeued)
