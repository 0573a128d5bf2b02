"""The executor: what happens to a run, in order."""

from collections.abc import Awaitable, Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from arq import Retry
from redis.exceptions import RedisError

from app.context import WorkerContext, worker_context
from app.core import log
from app.core.enums import COLLECTION_TASK
from app.core.errors import BadSchedule
from app.core.tasks import gather_fail_fast
from app.health import publish
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.queue import enqueue, org_queue
from app.runs import attempts
from app.runs.attempts import AttemptOutcome, Leases
from app.scheduling.policies import Policies
from app.store.db import TRANSIENT, UNAVAILABLE
from app.store.runs import progress, run_rows
from app.store.runs.progress import SourceProgress
from app.store.runs.run_rows import ClaimedRun, RunRequest, is_suspect
from app.store.schedules import schedule_rows
from workers import expectations
from workers.collect import Collector, root_failure_kind, run_totals
from workers.job import PlannedSource, RunPlan
from workers.schedule_settings import default_policies

NO_SLOT_RETRY_SECONDS = 0.25  # seconds until a run is retried that found no free slot

Isolate = Callable[[str, UUID, str], Awaitable[None]]  # task, run id, arq's job id
Planner = Callable[[WorkerContext, ClaimedRun, AttemptOutcome], Awaitable[RunPlan | None]]

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class RunCall:
    """What arq passes to a task. `run_id`: None creates a manual run with `params`."""

    task: str
    run_id: str | None = None
    params: Mapping[str, Any] = field(default_factory=dict[str, Any])


async def execute(ctx: dict[str, Any], run: RunCall, plan: Planner) -> None:
    """Execute one run, if it is still queued.

    `plan` returns the sources to collect, or None if it has set the outcome itself. Failures are
    recorded, not raised. Raises arq's Retry if no slot is free or Postgres is away.
    """
    context, leases = worker_context(ctx), _leases(ctx)
    for_org = run.task == COLLECTION_TASK
    # 1. Take a slot. Organisations' runs have fewer; some slots are left to cron entries.
    with _slot(leases, context.config.max_jobs, org_slots(ctx) if for_org else None):
        # 2. Claim the run: from here on no other worker executes it while its lease is renewed.
        #    One whose worker died before is executed in a process of its own.
        with _retry_without_postgres():
            run_id = UUID(run.run_id) if run.run_id else await _create_manual_run(context, run, ctx)
            isolate: Isolate | None = ctx.get("isolate")
            claimed = await attempts.claim(leases, run_id, context.worker, suspects=isolate is None)
        if claimed is None and isolate is not None and await is_suspect(context.pool, run_id):
            await isolate(run.task, run_id, ctx["job_id"])
        elif claimed is None:
            _log.info("run.not_claimed", execution_id=str(run_id))
        else:
            with structlog.contextvars.bound_contextvars(**_log_fields(context, claimed)):
                _log.info("run.started", trigger=claimed.trigger, params=claimed.params or None)
                # 3. Hold the lease. However the block ends, one outcome is recorded.
                async with attempts.attempt(leases, claimed) as outcome:
                    # 4. Plan: which sources, and within which limits.
                    planned = await plan(context, claimed, outcome)
                    # 5. Collect them, and set the outcome from theirs.
                    if planned is not None:
                        await collect_sources(context, planned, claimed, outcome)
                # 6. Publish the outcome, or enqueue the attempt that follows.
                await _publish(ctx, claimed, outcome)
    # 7. Admit the next of the organisations' runs to the slot.
    if for_org:
        with suppress(RedisError):  # the next dispatch admits it
            await org_queue.admit_runs(context.redis, ended=ctx["job_id"])


def _leases(ctx: dict[str, Any]) -> Leases:
    leases: Leases = ctx["leases"]
    return leases


def org_slots(ctx: dict[str, Any]) -> int:
    """How many organisations' runs this worker executes at once."""
    limit: int | None = ctx.get("slots")
    return worker_context(ctx).config.max_jobs if limit is None else limit


@contextmanager
def _slot(leases: Leases, limit: int, org_limit: int | None) -> Generator[None]:
    """Count a run while it is executed. `org_limit`: None for a built-in job's run."""
    is_full = org_limit is not None and leases.running_for_orgs >= org_limit
    if is_full or leases.running >= limit:
        raise Retry(defer=NO_SLOT_RETRY_SECONDS)
    leases.running += 1
    leases.running_for_orgs += org_limit is not None
    try:
        yield
    finally:
        leases.running -= 1
        leases.running_for_orgs -= org_limit is not None


@contextmanager
def _retry_without_postgres() -> Generator[None]:
    """Keep the arq job in the queue, under the same id, while Postgres is away."""
    try:
        yield
    except TRANSIENT as error:
        _log.warning("run.put_off", error=str(error))
        raise Retry(defer=1) from error


async def _create_manual_run(context: WorkerContext, run: RunCall, ctx: dict[str, Any]) -> UUID:
    # An arq job delivered twice is one run; the same job id enqueued again later is another run.
    queued_at = ctx.get("enqueue_time")
    run_id = uuid5(NAMESPACE_OID, f"{ctx['job_id']} {queued_at}" if queued_at else ctx["job_id"])
    limits = await _schedule_limits(context, schedule_rows.key_of(run.task, run.params))
    request = RunRequest(run_id, run.task, dict(run.params), "queue", *limits)
    await run_rows.request(context.pool, request, context.clock())
    return run_id


async def _schedule_limits(context: WorkerContext, key: str) -> tuple[int, float]:
    """The attempts and the timeout of a schedule; the defaults if there is none to read."""
    state = await schedule_rows.one(context.pool, key)
    policies = default_policies(context.config)
    if state is not None:
        with suppress(BadSchedule):
            policies = Policies.from_spec(state.policies)
    return policies.max_attempts, policies.timeout


def _log_fields(context: WorkerContext, claimed: ClaimedRun) -> dict[str, Any]:
    return {
        "execution_id": str(claimed.run_id),
        "job": claimed.schedule_key or schedule_rows.key_of(claimed.job, claimed.params),
        "task": claimed.job,
        "attempt": claimed.attempt,
        "worker": context.worker,
    }


async def collect_sources(
    context: WorkerContext, plan: RunPlan, claimed: ClaimedRun, outcome: AttemptOutcome
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
    rows = await gather_fail_fast(collector.run() for collector in collectors)
    _set_outcome(outcome, plan.sources, [*ended.values(), *rows])
    late = {
        one.row.source: (one.backoff[0], str(one.backoff[1])[:500])
        for one in collectors
        if one.backoff is not None
    }
    outcome.deferral = attempts.decide_deferral(claimed, context.clock(), late)
    if plan.on_collected is not None:
        await plan.on_collected(outcome)


def _set_outcome(
    outcome: AttemptOutcome, parts: Sequence[PlannedSource], rows: Sequence[SourceProgress]
) -> None:
    outcome.status = attempts.combined_status([row.status for row in rows])
    outcome.stats = {**run_totals(parts, rows), **expectations.breach_stats(rows)}
    failed = [row for row in rows if row.error_kind]
    if failed:
        outcome.error_type = root_failure_kind([row.error_kind for row in failed if row.error_kind])
        outcome.error_message = "; ".join(f"{row.source}: {row.error_message}" for row in failed)


async def _publish(ctx: dict[str, Any], claimed: ClaimedRun, outcome: AttemptOutcome) -> None:
    context, requeued, pings = worker_context(ctx), outcome.requeued, ctx.get("pings")
    if isinstance(pings, HeartbeatPings) and requeued is None and not outcome.fenced:
        key = claimed.schedule_key or schedule_rows.key_of(claimed.job, claimed.params)
        pings.run_ended(key if claimed.org_id is None else claimed.job, outcome.status)
    with suppress(RedisError, *UNAVAILABLE):  # a sweep requeues and republishes
        if requeued is not None:
            until = outcome.deferral.until if outcome.deferral else None
            await enqueue.enqueue_runs(context.pool, context.redis, [requeued], until)
        elif claimed.schedule_key is not None and claimed.org_id is None:
            # Collections have no health of their own: there may be 100,000 of them.
            await publish.publish_job(context.pool, context.redis, claimed.schedule_key)
