"""Now and then and at start-up: make good what was lost. Safe to race, safe to repeat."""

from collections.abc import Sequence
from datetime import timedelta
from typing import Any

from arq.constants import job_key_prefix

from app import log
from app.health import publish
from app.resources import House, ctx_house
from app.scheduling.schedule import EPOCH, Schedule
from app.store import runs
from app.store.runs import Waiting
from workers import ring

# A run this young may still be on its way from its transaction to Redis.
SETTLED = timedelta(seconds=3)

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
    await ring.dispatch(ctx)


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
    unknown = await _unknown(house, waiting)
    again = await runs.requeue(house.pool, unknown, house.clock()) if unknown else []
    for run in again:
        _log.warning("run.requeued", execution_id=str(run.run_id), attempt=run.attempt)
    await ring.tell(house, again)


async def _unknown(house: House, waiting: list[Waiting]) -> list[Waiting]:
    async with house.redis.pipeline(transaction=False) as pipe:
        for run in waiting:
            job_id = f"run:{run.run_id}:{run.attempt}"
            pipe.exists(job_key_prefix + job_id)
            pipe.zscore(house.redis.default_queue_name, job_id)
        answers = await pipe.execute()
    # A job without its queue entry never starts, and an entry without its job is none.
    pairs = zip(answers[::2], answers[1::2], strict=True)
    known = [bool(exists) and score is not None for exists, score in pairs]
    return [run for run, knows in zip(waiting, known, strict=True) if not knows]
