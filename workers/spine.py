"""What happens to a run, in order: claim, fetch and parse and store page by page, record."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from arq import Retry
from redis.exceptions import RedisError

from app import backlog, log, runs
from app.alerts.pings import Pings
from app.health import publish
from app.resources import House, ctx_house
from app.store import progress, schedules
from app.store import runs as store
from app.store.db import AWAY
from app.store.progress import SourceRow
from app.store.runs import Claimed, Wanted
from app.words import COLLECTION
from workers import expect, ring
from workers.drive import Drive, foremost, totals
from workers.job import Job, Part, Plan
from workers.together import together

Body = Callable[[Claimed, runs.Outcome], Awaitable[None]]
Planner = Callable[[House, Claimed, runs.Outcome], Awaitable[Plan]]

CROWDED = 0.25  # seconds after which a full worker looks again

_log = log.logger(__name__)


async def perform(
    ctx: dict[str, Any], job: Job, run_id: str | None, params: dict[str, Any]
) -> None:
    """Do one run, if it is still to be done. Never raises for what a site or a parser did."""

    async def plan(house: House, claimed: Claimed, _: runs.Outcome) -> Plan:
        sources = await job.prepared(house, job.understood(claimed.params))
        return Plan([Part(job, source) for source in sources])

    await perform_planned(ctx, job.name, plan, run_id, params)


async def perform_planned(
    ctx: dict[str, Any], name: str, plan: Planner, run_id: str | None, params: dict[str, Any]
) -> None:
    """The same for a job of that name whose runs are each planned by themselves, once claimed."""

    async def body(claimed: Claimed, outcome: runs.Outcome) -> None:
        house = ctx_house(ctx)
        await scrape(house, await plan(house, claimed, outcome), claimed, outcome)

    await perform_as(ctx, name, body, run_id, params)


async def perform_as(
    ctx: dict[str, Any], name: str, body: Body, run_id: str | None, params: dict[str, Any]
) -> None:
    """The same with a body of the job's own."""
    house = ctx_house(ctx)
    with _put_off():
        wanted = UUID(run_id) if run_id else await _asked_for(house, name, ctx, params)
    await carry_out(ctx, wanted, body, in_line=name == COLLECTION)


async def carry_out(
    ctx: dict[str, Any], run_id: UUID, body: Body, *, in_line: bool = False
) -> None:
    """Claim the run, let the body do it under its lease, record the outcome, tell health.

    `in_line`: it is an organisation's, and came from the line: it leaves slots to the built-in
    jobs, and when it has ended the next in line is let in.
    """
    leases: runs.Leases = ctx["leases"]
    full = leases.under_way >= ctx_house(ctx).config.max_jobs
    if full or (in_line and leases.in_line >= slots(ctx)):
        raise Retry(defer=CROWDED)  # the slots beyond are the alarms'
    leases.under_way += 1
    leases.in_line += in_line
    try:
        await _carry_out(ctx, run_id, body)
    finally:
        leases.under_way -= 1
        leases.in_line -= in_line
    if in_line:
        with suppress(RedisError):  # dispatch lets it in then
            await backlog.admit(ctx_house(ctx).redis, ended=ctx["job_id"])


def slots(ctx: dict[str, Any]) -> int:
    """How many organisations' runs this worker does at once."""
    own: int | None = ctx.get("slots")
    return ctx_house(ctx).config.max_jobs if own is None else own


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
            pings.run_ended(_called(claimed), outcome.status)
        await _afterwards(house, claimed, outcome)


def _called(claimed: Claimed) -> str:
    """What the settings call it: a job by its name, a recipe's run by its schedule."""
    if claimed.org_id is not None:
        return claimed.job
    return claimed.schedule_key or schedules.key_of(claimed.job, claimed.params)


@contextmanager
def _put_off() -> Generator[None]:
    """While Postgres is away the job stays in the queue, under the same id."""
    try:
        yield
    except AWAY as error:
        _log.warning("run.put_off", error=str(error))
        raise Retry(defer=1) from error


async def _asked_for(house: House, job: str, ctx: dict[str, Any], params: dict[str, Any]) -> UUID:
    # The same arq job delivered twice is the same run; the same id queued again another day is not.
    queued_at = ctx.get("enqueue_time")
    run_id = uuid5(NAMESPACE_OID, f"{ctx['job_id']} {queued_at}" if queued_at else ctx["job_id"])
    config = house.config
    wanted = Wanted(run_id, job, params, "queue", config.max_attempts, config.job_timeout_seconds)
    await store.request(house.pool, wanted, house.clock())
    return run_id


async def scrape(house: House, plan: Plan, claimed: Claimed, outcome: runs.Outcome) -> None:
    """Ask the plan's sources, store what they have, and sum up."""
    # A run that was deferred has ended with some of its sources: those are not asked again.
    ended = await progress.ended(house.pool, claimed) if claimed.deferrals else {}
    todo = [
        (part, await progress.begin(house.pool, claimed, part.source.name))
        for part in plan.parts
        if part.source.name not in ended
    ]
    begun = [*ended.values(), *(row for _, row in todo)]
    if plan.budget is not None:
        plan.budget.taken(begun)
    await progress.restart(house.pool, claimed, totals(plan.parts, begun))
    drives = [Drive(house, part, claimed, row, plan.budget) for part, row in todo]
    ended |= {row.source: row for row in await together(drive.run() for drive in drives)}
    _sum_up(outcome, plan.parts, list(ended.values()))
    late = {d.row.source: (d.late[0], str(d.late[1])[:500]) for d in drives if d.late is not None}
    outcome.deferral = runs.deferral(claimed, house.clock(), late)


def _sum_up(outcome: runs.Outcome, parts: Sequence[Part], rows: list[SourceRow]) -> None:
    outcome.status = runs.verdict([row.status for row in rows])
    outcome.stats = {**totals(parts, rows), **expect.told(rows)}
    faulty = [row for row in rows if row.error_kind]
    if faulty:
        outcome.error_type = foremost([row.error_kind for row in faulty if row.error_kind])
        outcome.error_message = "; ".join(f"{row.source}: {row.error_message}" for row in faulty)


async def _afterwards(house: House, claimed: Claimed, outcome: runs.Outcome) -> None:
    again = outcome.handed_back
    with suppress(RedisError, *AWAY):  # a sweep makes good for either
        if again is not None:
            until = outcome.deferral.until if outcome.deferral else None
            await ring.tell(house, [again], until)
        elif claimed.schedule_key is not None and claimed.org_id is None:
            # An organisation's collection has no health of its own: there may be 100,000 of them.
            await publish.job(house.pool, house.redis, claimed.schedule_key)
