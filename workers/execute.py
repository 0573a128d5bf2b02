"""The executor, step by step: claim a run, collect its sources, record the outcome."""

from collections.abc import Awaitable, Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from arq import Retry
from redis.exceptions import RedisError

from app.context import WorkerContext, worker_context
from app.core import log
from app.core.enums import COLLECTION_TASK
from app.core.tasks import gather_fail_fast
from app.health import publish
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.queue import org_queue
from app.runs import attempts
from app.store.db import UNAVAILABLE
from app.store.runs import progress
from app.store.runs import run_rows as store
from app.store.runs.progress import SourceProgress
from app.store.runs.run_rows import ClaimedRun, RunRequest
from app.store.schedules import schedule_rows
from workers import expectations, trigger
from workers.collect import Collector, root_failure_kind, run_totals
from workers.job import Job, PlannedSource, RunPlan

Body = Callable[[ClaimedRun, attempts.AttemptOutcome], Awaitable[None]]
Planner = Callable[[WorkerContext, ClaimedRun, attempts.AttemptOutcome], Awaitable[RunPlan]]

NO_SLOT_RETRY_SECONDS = 0.25  # seconds until a run is retried that found no free slot

_log = log.logger(__name__)


async def execute_job(
    ctx: dict[str, Any], job: Job, run_id: str | None, params: dict[str, Any]
) -> None:
    """Execute one run of a job, if it is still queued.

    Failures of sources are recorded, not raised. `run_id`: None creates a manual run with `params`.
    Raises arq's Retry if no slot is free or Postgres is away.
    """

    async def plan(
        context: WorkerContext, claimed: ClaimedRun, _: attempts.AttemptOutcome
    ) -> RunPlan:
        sources = await job.prepare_sources(context, job.validate_params(claimed.params))
        return RunPlan([PlannedSource(job, source) for source in sources])

    await execute_planned(ctx, job.name, plan, run_id, params)


async def execute_planned(
    ctx: dict[str, Any], name: str, plan: Planner, run_id: str | None, params: dict[str, Any]
) -> None:
    """Execute one run whose plan is made after it is claimed. Otherwise as `execute_job`."""

    async def body(claimed: ClaimedRun, outcome: attempts.AttemptOutcome) -> None:
        context = worker_context(ctx)
        await collect_sources(context, await plan(context, claimed, outcome), claimed, outcome)

    await execute(ctx, name, body, run_id, params)


async def execute(
    ctx: dict[str, Any], name: str, body: Body, run_id: str | None, params: dict[str, Any]
) -> None:
    """Execute one run with `body` under its lease. Otherwise as `execute_job`."""
    context = worker_context(ctx)
    with _retry_without_postgres():
        execution_id = (
            UUID(run_id) if run_id else await _create_manual_run(context, name, ctx, params)
        )
    await execute_run(ctx, execution_id, body, in_line=name == COLLECTION_TASK)


async def execute_run(
    ctx: dict[str, Any], run_id: UUID, body: Body, *, in_line: bool = False
) -> None:
    """Claim the run, execute `body` under its lease, record the outcome, publish the job's health.

    `in_line`: the run is an organisation's: it uses only slots for such runs, and when it has ended
    the next one is admitted from the organisations' queue. Raises arq's Retry if no slot is free.
    """
    leases: attempts.Leases = ctx["leases"]
    is_full = leases.running >= worker_context(ctx).config.max_jobs
    if is_full or (in_line and leases.running_for_orgs >= org_slots(ctx)):
        raise Retry(defer=NO_SLOT_RETRY_SECONDS)  # the remaining slots are for cron jobs
    leases.running += 1
    leases.running_for_orgs += in_line
    try:
        await _execute_claimed(ctx, run_id, body)
    finally:
        leases.running -= 1
        leases.running_for_orgs -= in_line
    if in_line:
        with suppress(RedisError):  # the next dispatch admits it
            await org_queue.admit_runs(worker_context(ctx).redis, ended=ctx["job_id"])


def org_slots(ctx: dict[str, Any]) -> int:
    """How many organisations' runs this worker executes at once."""
    limit: int | None = ctx.get("slots")
    return worker_context(ctx).config.max_jobs if limit is None else limit


async def _execute_claimed(ctx: dict[str, Any], run_id: UUID, body: Body) -> None:
    context = worker_context(ctx)
    with _retry_without_postgres():
        claimed = await attempts.claim(ctx["leases"], run_id, context.worker)
    if claimed is None:
        _log.info("run.not_claimed", execution_id=str(run_id))
        return
    with structlog.contextvars.bound_contextvars(
        execution_id=str(claimed.run_id),
        job=claimed.job,
        attempt=claimed.attempt,
        worker=context.worker,
    ):
        _log.info("run.started", trigger=claimed.trigger, params=claimed.params or None)
        async with attempts.attempt(ctx["leases"], claimed) as outcome:
            await body(claimed, outcome)
        pings = ctx.get("pings")
        if isinstance(pings, HeartbeatPings) and outcome.requeued is None and not outcome.fenced:
            pings.run_ended(_ping_name(claimed), outcome.status)
        await _publish_outcome(context, claimed, outcome)


def _ping_name(claimed: ClaimedRun) -> str:
    """The name in the ping settings: the job's name, or the schedule's key of a recipe's run."""
    if claimed.org_id is not None:
        return claimed.job
    return claimed.schedule_key or schedule_rows.key_of(claimed.job, claimed.params)


@contextmanager
def _retry_without_postgres() -> Generator[None]:
    """Keep the arq job in the queue, under the same id, while Postgres is away."""
    try:
        yield
    except UNAVAILABLE as error:
        _log.warning("run.put_off", error=str(error))
        raise Retry(defer=1) from error


async def _create_manual_run(
    context: WorkerContext, job: str, ctx: dict[str, Any], params: dict[str, Any]
) -> UUID:
    # An arq job delivered twice is one run; the same job id enqueued again later is another run.
    queued_at = ctx.get("enqueue_time")
    run_id = uuid5(NAMESPACE_OID, f"{ctx['job_id']} {queued_at}" if queued_at else ctx["job_id"])
    config = context.config
    request = RunRequest(
        run_id, job, params, "queue", config.max_attempts, config.job_timeout_seconds
    )
    await store.request(context.pool, request, context.clock())
    return run_id


async def collect_sources(
    context: WorkerContext, plan: RunPlan, claimed: ClaimedRun, outcome: attempts.AttemptOutcome
) -> None:
    """Collect the plan's sources and set the outcome: status, stats, error and deferral."""
    # Sources that ended before a deferral are not collected again.
    ended = await progress.finished_sources(context.pool, claimed) if claimed.deferrals else {}
    pending = [
        (part, await progress.begin(context.pool, claimed, part.source.name))
        for part in plan.sources
        if part.source.name not in ended
    ]
    rows = [*ended.values(), *(row for _, row in pending)]
    if plan.budget is not None:
        plan.budget.count_earlier(rows)
    await progress.restart(context.pool, claimed, run_totals(plan.sources, rows))
    collectors = [Collector(context, part, claimed, row, plan.budget) for part, row in pending]
    ended |= {
        row.source: row
        for row in await gather_fail_fast(collector.run() for collector in collectors)
    }
    _set_outcome(outcome, plan.sources, list(ended.values()))
    late = {
        one.row.source: (one.backoff[0], str(one.backoff[1])[:500])
        for one in collectors
        if one.backoff is not None
    }
    outcome.deferral = attempts.decide_deferral(claimed, context.clock(), late)


def _set_outcome(
    outcome: attempts.AttemptOutcome, parts: Sequence[PlannedSource], rows: list[SourceProgress]
) -> None:
    outcome.status = attempts.combined_status([row.status for row in rows])
    outcome.stats = {**run_totals(parts, rows), **expectations.breach_stats(rows)}
    failed = [row for row in rows if row.error_kind]
    if failed:
        outcome.error_type = root_failure_kind([row.error_kind for row in failed if row.error_kind])
        outcome.error_message = "; ".join(f"{row.source}: {row.error_message}" for row in failed)


async def _publish_outcome(
    context: WorkerContext, claimed: ClaimedRun, outcome: attempts.AttemptOutcome
) -> None:
    requeued = outcome.requeued
    with suppress(RedisError, *UNAVAILABLE):  # a sweep requeues and republishes
        if requeued is not None:
            until = outcome.deferral.until if outcome.deferral else None
            await trigger.enqueue(context, [requeued], until)
        elif claimed.schedule_key is not None and claimed.org_id is None:
            # Collections have no health of their own: there may be 100,000 of them.
            await publish.publish_job(context.pool, context.redis, claimed.schedule_key)
