"""Now and then and at start-up: make good what was lost. Safe to race, safe to repeat."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

from app import backlog, log
from app.health import publish
from app.resources import House, ctx_house
from app.scheduling.schedule import EPOCH, Schedule
from app.store import runs
from app.store.runs import Page, Waiting
from workers import ring
from workers.dispatch import decide, turn_of

# A run this young may still be on its way from its transaction to Redis.
SETTLED = timedelta(seconds=3)

START = Page(EPOCH, UUID(int=0), limit=2_000)
PAGES = 10  # of organisations' runs to a sweep
MOST_TOLD = 20  # runs queued again at once which are named in the log; of more, how many
DECIDING = 1.0  # seconds for organisations' schedules: a start-up must not wait for them all

# Between the whole tens, at which most ticks are due.
HEALTH = Schedule.every(10, anchor=EPOCH + timedelta(seconds=5.5))

_log = log.logger(__name__)


def sweeps(lease: float) -> Schedule:
    """How often to look: a lease of so many seconds has run out within the next two of them.

    Often enough that a dead worker's run is under way again within two leases, even if the dead
    worker took a sweep with it; and every ten seconds at least.
    """
    return Schedule.every(max(1, min(10, lease // 3)))


async def sweep(ctx: dict[str, Any]) -> None:
    """Decide what no alarm rang for, take up dead workers' runs, queue again what Redis lost."""
    house = ctx_house(ctx)
    await take_up(house)
    await tell_again(house, ring.known_jobs(ctx))
    turn = turn_of(ctx)
    turn.page = await tell_line(house, ring.known_jobs(ctx), turn.page or START)
    await decide(ctx, DECIDING)


async def tell_health(ctx: dict[str, Any]) -> None:
    """Write again in Redis how every job stands: it may have been emptied, or a tick skipped."""
    house = ctx_house(ctx)
    await publish.all_jobs(house.pool, house.redis)


async def take_up(house: House) -> None:
    """Give runs whose lease expired to a living worker, or call them lost."""
    again, lost = await runs.take_up_expired(house.pool, house.clock())
    for run in again:
        _log.warning("run.taken_up", execution_id=str(run.run_id), attempt=run.attempt)
    for run_id in lost:
        _log.error("run.lost", execution_id=str(run_id))
    await ring.tell(house, again)


async def tell_again(house: House, jobs: Sequence[str] | None = None) -> None:
    """Queue runs again which Redis does not know of any more, under a new attempt."""
    waiting = await runs.waiting(house.pool, house.clock() - SETTLED, jobs)
    if not waiting:
        return
    await _tell_unknown(house, waiting)


async def tell_line(
    house: House, jobs: Sequence[str] | None = None, page: Page = START, *, pages: int = PAGES
) -> Page:
    """The same for organisations' runs: from `page` on, so many; returns where it stopped.

    As many may wait as there are organisations: each sweep goes on where the last one stopped.
    """
    before = house.clock() - SETTLED
    for _ in range(pages):
        waiting, following = await runs.waiting_in_line(house.pool, before, jobs, page)
        await _tell_unknown(house, waiting)
        if following is None:
            return START
        page = following
    return page


async def _tell_unknown(house: House, waiting: Sequence[Waiting]) -> None:
    if not waiting:
        return
    ids = [f"run:{run.run_id}:{run.attempt}" for run in waiting]
    known = await backlog.known(house.redis, ids)
    unknown = [run for run, knows in zip(waiting, known, strict=True) if not knows]
    again = await runs.requeue(house.pool, unknown, house.clock()) if unknown else []
    for run in again[:MOST_TOLD]:
        _log.warning("run.requeued", execution_id=str(run.run_id), attempt=run.attempt)
    if len(again) > MOST_TOLD:
        _log.warning("runs.requeued", count=len(again))
    await ring.tell(house, again)
