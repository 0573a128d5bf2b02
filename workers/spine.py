"""What happens to a run, in order: claim, fetch and parse and store page by page, record."""

from collections.abc import Awaitable, Callable, Generator
from contextlib import contextmanager, suppress
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from arq import Retry
from redis.exceptions import RedisError

from app import log, runs
from app.alerts.pings import Pings
from app.health import publish
from app.queue import enqueue
from app.resources import House, ctx_house
from app.store import progress
from app.store import runs as store
from app.store.db import AWAY
from app.store.progress import SourceRow
from app.store.runs import Claimed, Wanted
from app.words import FailureKind
from workers.drive import Drive, totals
from workers.job import Job
from workers.together import together

Body = Callable[[Claimed, runs.Outcome], Awaitable[None]]

CROWDED = 0.25  # seconds after which a full worker looks again

_log = log.logger(__name__)


async def perform(
    ctx: dict[str, Any], job: Job, run_id: str | None, params: dict[str, Any]
) -> None:
    """Do one run, if it is still to be done. Never raises for what a site or a parser did."""
    house = ctx_house(ctx)
    with _put_off():
        wanted = UUID(run_id) if run_id else await _asked_for(house, job, ctx, params)
    await carry_out(ctx, wanted, lambda claimed, outcome: _scrape(house, job, claimed, outcome))


async def carry_out(ctx: dict[str, Any], run_id: UUID, body: Body) -> None:
    """Claim the run, let the body do it under its lease, record the outcome, tell health."""
    leases: runs.Leases = ctx["leases"]
    if leases.under_way >= ctx_house(ctx).config.max_jobs:
        raise Retry(defer=CROWDED)  # the slots beyond are the alarms'
    leases.under_way += 1
    try:
        await _carry_out(ctx, run_id, body)
    finally:
        leases.under_way -= 1


async def _carry_out(ctx: dict[str, Any], run_id: UUID, body: Body) -> None:
    house = ctx_house(ctx)
    with _put_off():
        claimed = await runs.claim(ctx["leases"], run_id, house.worker)
    if claimed is None:
        _log.info("run.not_claimed", execution_id=str(run_id))
        return
    with structlog.contextvars.bound_contextvars(
        execution_id=str(claimed.run_id),
        job=claimed.job,
        attempt=claimed.attempt,
        worker=house.worker,
    ):
        _log.info("run.started", trigger=claimed.trigger, params=claimed.params or None)
        async with runs.attempt(ctx["leases"], claimed) as outcome:
            await body(claimed, outcome)
        pings = ctx.get("pings")
        if isinstance(pings, Pings) and outcome.handed_back is None and not outcome.fenced:
            pings.run_ended(claimed.job, outcome.status)
        await _afterwards(house, claimed, outcome)


@contextmanager
def _put_off() -> Generator[None]:
    """While Postgres is away the job stays in the queue, under the same id."""
    try:
        yield
    except AWAY as error:
        _log.warning("run.put_off", error=str(error))
        raise Retry(defer=1) from error


async def _asked_for(house: House, job: Job, ctx: dict[str, Any], params: dict[str, Any]) -> UUID:
    # The same arq job delivered twice is the same run; the same id queued again another day is not.
    queued_at = ctx.get("enqueue_time")
    run_id = uuid5(NAMESPACE_OID, f"{ctx['job_id']} {queued_at}" if queued_at else ctx["job_id"])
    config = house.config
    wanted = Wanted(
        run_id, job.name, params, "queue", config.max_attempts, config.job_timeout_seconds
    )
    await store.request(house.pool, wanted, house.clock())
    return run_id


async def _scrape(house: House, job: Job, claimed: Claimed, outcome: runs.Outcome) -> None:
    sources = await job.prepared(house, job.understood(claimed.params))
    # A run that was deferred has ended with some of its sources: those are not asked again.
    ended = await progress.ended(house.pool, claimed) if claimed.deferrals else {}
    drives = [
        Drive(house, job, claimed, source, await progress.begin(house.pool, claimed, source.name))
        for source in sources
        if source.name not in ended
    ]
    begun = [*ended.values(), *(drive.row for drive in drives)]
    await progress.restart(house.pool, claimed, totals(job, begun))
    ended |= {row.source: row for row in await together(drive.run() for drive in drives)}
    _sum_up(outcome, job, list(ended.values()))
    late = {d.row.source: (d.late[0], str(d.late[1])[:500]) for d in drives if d.late is not None}
    outcome.deferral = runs.deferral(claimed, house.clock(), late)


def _sum_up(outcome: runs.Outcome, job: Job, rows: list[SourceRow]) -> None:
    outcome.status = runs.verdict([row.status for row in rows])
    outcome.stats = totals(job, rows)
    faulty = [row for row in rows if row.error_kind]
    if faulty:
        kinds = [row.error_kind for row in faulty]
        ours = FailureKind.LOCAL_NETWORK.value
        outcome.error_type = ours if ours in kinds else kinds[0]
        outcome.error_message = "; ".join(f"{row.source}: {row.error_message}" for row in faulty)


async def _afterwards(house: House, claimed: Claimed, outcome: runs.Outcome) -> None:
    again = outcome.handed_back
    with suppress(RedisError, *AWAY):  # a sweep makes good for either
        if again is not None:
            job_id = f"run:{again.run_id}:{again.attempt}"
            until = outcome.deferral.until if outcome.deferral else None
            await enqueue(
                house.redis, again.job, str(again.run_id), job_id=job_id, defer_until=until
            )
        elif claimed.schedule_key is not None:
            await publish.job(house.pool, house.redis, claimed.schedule_key)
