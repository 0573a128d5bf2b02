"""The executor: what happens to a run, in order."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import contextmanager, suppress
from types import MappingProxyType
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

import structlog
from arq import Retry
from redis.exceptions import RedisError

from app.context import WorkerContext, worker_context
from app.core import log
from app.core.enums import COLLECTION_TASK, SOURCE_TASK
from app.core.errors import BadParameters
from app.core.job_scope import job_scope
from app.core.printable import UNSTORABLE, is_storable
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.queue import enqueue, org_queue
from app.runs import attempts
from app.runs.attempts import AttemptOutcome
from app.runs.leases import Leases
from app.store.db import TRANSIENT
from app.store.runs.attempt_rows import ClaimedRun
from app.store.runs.run_rows import RunRequest, is_suspect, seconds_until_due
from app.store.schedules import schedule_rows
from workers.job import Job
from workers.run import Run
from workers.schedule_settings import default_policies
from workers.source import is_left_to_others
from workers.trigger import health_publisher

NO_SLOT_RETRY_SECONDS = 0.25  # seconds until a run is retried that found no free slot
LEAVE_SECONDS = 1.0  # seconds until a run is tried again that was left to other workers
NO_PARAMS: Mapping[str, Any] = MappingProxyType({})

Isolate = Callable[[Job, UUID, str], Awaitable[None]]  # job, run id, arq's job id

_log = log.logger(__name__)


async def execute(
    ctx: dict[str, Any], job: Job, run_id: str | None = None, params: Mapping[str, Any] = NO_PARAMS
) -> None:
    """Execute one run of the job, if it is still queued.

    `run_id`: None creates a manual run with `params`. Failures are recorded, not raised. Raises
    arq's Retry if no slot is free or Postgres is away.
    """
    context, leases = worker_context(ctx), _leases(ctx)
    for_org = job.name == COLLECTION_TASK
    # 1. Take a slot. Organisations' runs have fewer; some slots are left to cron entries.
    with _slot(leases, context.config.max_jobs, org_slots(ctx) if for_org else None):
        # 2. Claim the run: from here on no other worker executes it while its lease is renewed.
        #    One whose worker died before is executed in a process of its own.
        with _retry_without_postgres():
            if job.name == SOURCE_TASK:
                await _leave_to_others(context, run_id, params)
            wanted, claimed = await _claim(ctx, job, run_id, params)
            if claimed is None:
                await _retry_when_due(context, wanted)
                await _isolate_suspect(ctx, job, wanted)
        if claimed is not None:
            with structlog.contextvars.bound_contextvars(**_log_fields(context, claimed)):
                _log.info("run.started", trigger=claimed.trigger, params=claimed.params or None)
                # 3. Hold the lease. However the block ends, one outcome is recorded.
                _name_task(f"{job.name} {claimed.run_id}")
                async with attempts.attempt(leases, claimed) as outcome:
                    run = Run(ctx, job, claimed, outcome)
                    _apply_limits(job, claimed, outcome)
                    # 4. Call the job's function, which may collect sources.
                    async with run.opened():
                        _check_storable(params)
                        # 5. Set the outcome from what it returned and recorded.
                        with _executing(ctx, job):
                            result = await job.execute(run)
                        run.conclude(result)
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


async def _leave_to_others(
    context: WorkerContext, run_id: str | None, params: Mapping[str, Any]
) -> None:
    """Keep the arq job of a recipe that only other workers have; no attempt is spent."""
    try:
        left = await is_left_to_others(context, UUID(run_id) if run_id else None, params)
    except RedisError:
        left = True
    if left:
        _log.info("run.left", execution_id=run_id, why="only another worker has its recipe")
        raise Retry(defer=LEAVE_SECONDS)


async def _retry_when_due(context: WorkerContext, run_id: UUID) -> None:
    """Keep the arq job of a deferred run, which the clock of Redis has started too early."""
    seconds = await seconds_until_due(context.pool, run_id, context.clock())
    if seconds is not None:
        raise Retry(defer=seconds)


async def _isolate_suspect(ctx: dict[str, Any], job: Job, run_id: UUID) -> None:
    """Execute a run that could not be claimed in a process of its own, if that is why."""
    isolate: Isolate | None = ctx.get("isolate")
    if isolate is not None and await is_suspect(worker_context(ctx).pool, run_id):
        await isolate(job, run_id, ctx["job_id"])
    else:
        _log.info("run.not_claimed", execution_id=str(run_id))


@contextmanager
def _executing(ctx: dict[str, Any], job: Job) -> Generator[None]:
    """While the code of a job is executed; what it changes of the logging is undone.

    Nor can it leave a lower limit of recursion, at which logging itself fails.
    """
    logging: log.LoggingState | None = ctx.get("logging")
    recursion = sys.getrecursionlimit()
    try:
        with job_scope(job.name):
            yield
    finally:
        sys.setrecursionlimit(max(recursion, sys.getrecursionlimit()))
        if logging is not None:
            logging.restore()


def _check_storable(params: Mapping[str, Any]) -> None:
    """Raise BadParameters if the run could be recorded only without its parameters."""
    if not is_storable(dict(params)):
        raise BadParameters(f"a parameter has {UNSTORABLE}, which cannot be stored")


def _name_task(name: str) -> None:
    task = asyncio.current_task()
    if task is not None:
        task.set_name(name)


def _apply_limits(job: Job, claimed: ClaimedRun, outcome: AttemptOutcome) -> None:
    outcome.retry = job.retry
    if job.timeout is not None and claimed.schedule_key is None:
        message = f"took longer than {job.timeout:g} s"
        outcome.limit_duration(job.timeout, "TimeoutError", message)


async def _claim(
    ctx: dict[str, Any], job: Job, run_id: str | None, params: Mapping[str, Any]
) -> tuple[UUID, ClaimedRun | None]:
    """Claim the run; without an id, one that is created. Returns its id; None if not queued.

    `ctx["claimed"]`: the run, if the worker that has started this process has claimed it.
    """
    given: ClaimedRun | None = ctx.get("claimed")
    if given is not None:
        return given.run_id, given
    leases, worker = _leases(ctx), worker_context(ctx).worker
    if run_id:
        wanted = UUID(run_id)
    else:
        params = params if is_storable(dict(params)) else NO_PARAMS
        request = _manual_request(ctx, job, params)
        key = schedule_rows.key_of(job.name, params)
        started = await attempts.start(leases, request, worker, key)
        if started is not None:
            return started.run_id, started
        wanted = request.run_id  # arq has delivered the job before
    suspects = ctx.get("isolate") is None
    return wanted, await attempts.claim(leases, wanted, worker, suspects=suspects)


def _manual_request(ctx: dict[str, Any], job: Job, params: Mapping[str, Any]) -> RunRequest:
    policies = default_policies(worker_context(ctx).config)
    # An arq job delivered twice is one run; the same job id enqueued again later is another run.
    queued_at = ctx.get("enqueue_time")
    run_id = uuid5(NAMESPACE_OID, f"{ctx['job_id']} {queued_at}" if queued_at else ctx["job_id"])
    limits = (policies.max_attempts, policies.timeout)
    return RunRequest(run_id, job.name, dict(params), "queue", *limits)


def _log_fields(context: WorkerContext, claimed: ClaimedRun) -> dict[str, Any]:
    return {
        "execution_id": str(claimed.run_id),
        "job": claimed.schedule_key or schedule_rows.key_of(claimed.job, claimed.params),
        "task": claimed.job,
        "attempt": claimed.attempt,
        "worker": context.worker,
    }


async def _publish(ctx: dict[str, Any], claimed: ClaimedRun, outcome: AttemptOutcome) -> None:
    context, requeued, pings = worker_context(ctx), outcome.requeued, ctx.get("pings")
    if isinstance(pings, HeartbeatPings) and requeued is None and not outcome.fenced:
        key = claimed.schedule_key or schedule_rows.key_of(claimed.job, claimed.params)
        pings.run_ended(key if claimed.org_id is None else claimed.job, outcome.status)
    with suppress(RedisError, *TRANSIENT):  # a sweep requeues and republishes
        if requeued is not None:
            until = outcome.deferral.until if outcome.deferral else None
            await enqueue.enqueue_runs(context.pool, context.redis, [requeued], until)
        elif claimed.schedule_key is not None and claimed.org_id is None:
            # Collections have no health of their own: there may be 100,000 of them.
            await health_publisher(ctx).publish_job(claimed.schedule_key)
