"""A worker's lifecycle: arq's startup and shutdown hooks, and the heartbeat between them."""

import asyncio
import gc
import os
import resource
import socket
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from arq.connections import ArqRedis
from asyncpg import PostgresError
from redis.exceptions import RedisError

from app.context import WorkerContext, open_context
from app.core import log, zone_data
from app.core.config import Config
from app.core.enums import SOURCE_TASK
from app.core.errors import BadConfig, WrongSchema
from app.core.tasks import cancel_all
from app.core.version import VERSION
from app.health import keys
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.health.alerts.watcher import AlertWatcher
from app.health.facts import WorkerFacts
from app.health.publisher import HealthPublisher
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.queue import enqueue, org_queue
from app.queue.clock import elapsed
from app.queue.jobs import redis_pool
from app.runs import log as run_log
from app.runs.attempts import OVERTIME_SECONDS
from app.runs.leases import Leases
from app.store import schema, server_faults, tenancy
from app.store.content import changes
from app.store.db import TRANSIENT
from app.store.schedules import schedule_rows
from app.store.servers import ServerUrls
from workers import recipe_dir, registry
from workers.decider_process import DeciderOrder, DeciderProcess
from workers.deciding import deciding_state, triggers_of
from workers.execute import org_slots
from workers.isolation import Isolation
from workers.job import code_of
from workers.maintenance import maintain_partitions
from workers.org_alerts import OrgAlertSender
from workers.registry import JobRegistry
from workers.sweep import publish_health, sweep
from workers.trigger import known_jobs
from workers.watchdog import LoopWatchdog
from workers.webhooks import Sender

Hook = Callable[[dict[str, Any]], Awaitable[None]]
Result = TypeVar("Result")

RETRY_SECONDS = 0.5
WATCH_SECONDS = 10.0  # between looks whether Redis takes the starts of the monitor
WORKER_KEY_LEASES = 1.25  # life of a worker's key: one silent for longer has lost its runs

_log = log.logger(__name__)


def startup(
    config: Config,
    where: ServerUrls,
    jobs: JobRegistry,
    open_decider: Callable[[], DeciderProcess] | None = None,
) -> Hook:
    """The hook that opens the worker context into arq's `ctx` and registers the schedules.

    Without `open_decider`, the entries of `deciding_entries` are among the worker's own.
    """

    async def open_worker(ctx: dict[str, Any]) -> None:
        hidden = config.secrets(jobs.secrets.values())
        log.configure(config.log_format, config.log_level, hidden)
        stack = AsyncExitStack()
        # Opened first, so that it is ready once the schedules are registered.
        decider = open_decider and await stack.enter_async_context(open_decider())
        limits, logins = registry.source_limits(config), registry.source_logins(config)
        opening = partial(open_context, config, where, ctx["redis"], limits, logins)
        context = await _wait_or_exit(config, lambda: stack.enter_async_context(opening()))
        context.give_secrets(jobs.secrets)
        elapsed.follow(lambda: context.clock().timestamp())
        leases = Leases(context.control, context.clock, config.lease_seconds, context.hide)
        ctx.update(
            stack=stack,
            context=context,
            clients=context.clients,
            leases=leases,
            heartbeat=lambda: _beat(ctx, context, leases, jobs),
            run_slots=config.max_jobs,
            **deciding_state(jobs.names(), config.lease_seconds),
            # Leave one slot to each built-in job: they must not wait for organisations' runs.
            slots=ctx.get("slots", max(1, config.max_jobs - len(registry.SITES))),
            isolate=Isolation(where, leases),
            decides=decider is None,
        )
        await _open_services(ctx, context, stack, jobs)
        await _wait_or_exit(config, lambda: _initialise(ctx, context, leases, jobs))
        if decider:
            triggers = triggers_of(jobs.declared)
            decider.decide(
                DeciderOrder(where.database, where.redis, context.worker, jobs.names(), triggers)
            )
            # What start-up has made lives as long as the process: no collection looks at it again.
            gc.freeze()
        _log_start(context, jobs)

    return open_worker


async def _open_services(
    ctx: dict[str, Any], context: WorkerContext, stack: AsyncExitStack, jobs: JobRegistry
) -> None:
    """Open what runs beside the jobs: alerts, pings, webhooks, logs of runs, the watchdog."""
    config, leases = context.config, ctx["leases"]
    hidden = config.secrets(jobs.secrets.values())
    watcher = AlertWatcher(config, context.pool, context.redis)
    pings, sender = HeartbeatPings.from_config(config), Sender()
    org_alerts = OrgAlertSender()
    health = HealthPublisher(context.control, context.redis, context.worker)
    for service in (watcher, pings, sender, org_alerts, health):
        stack.push_async_callback(service.close)
    ctx.update(watcher=watcher, pings=pings, sender=sender, org_alerts=org_alerts, health=health)
    await stack.enter_async_context(run_log.capture(context.redis, hidden))
    watch = asyncio.create_task(watcher.run_while_redis_fails(WATCH_SECONDS))
    stack.push_async_callback(cancel_all, [watch])
    ctx["logging"] = log.LoggingState.now()
    codes = {code: job.name for job in jobs.jobs if (code := code_of(job.function))}
    blocked_until = partial(_blocked_until, config, leases)
    await stack.enter_async_context(LoopWatchdog(codes, blocked_until))


def _blocked_until(config: Config, leases: Leases, since: float) -> float:
    """Until when, in seconds of the loop's clock, a loop that is blocked since then may go on.

    Until the limit of every run that is executed here is over, and so is what follows it.
    """
    deadlines = [limit.when() or since for limit in list(leases.limits.values())]
    return max(since, *(deadlines or [since + config.job_timeout_seconds])) + OVERTIME_SECONDS


def _log_start(context: WorkerContext, jobs: JobRegistry) -> None:
    for fault in registry.recipe_faults(context.config):
        _log.error("recipe.faulty", fault=fault)
    for fault in jobs.faults:
        _log.error("job.faulty", fault=fault)
    for job in jobs.jobs:
        reason = job.disabled_reason(context.config)
        if reason is not None:
            _log.info("job.disabled", job=job.name, why=reason)
    _log.info("worker.started", worker=context.worker, jobs=[d.key for d in jobs.declared])


async def _wait_or_exit(config: Config, step: Callable[[], Awaitable[Result]]) -> Result:
    """Retry `step` until the servers answer; exit with code 2 if only the operator can help."""
    try:
        return await _wait_for_servers(step)
    except (WrongSchema, BadConfig) as error:
        log.report_fatal(str(error), config.log_format)
        raise SystemExit(2) from None


async def _wait_for_servers(step: Callable[[], Awaitable[Result]]) -> Result:
    """Retry `step` until Postgres and Redis are available.

    Raises BadConfig for what no later attempt can change, such as a wrong password.
    """
    while True:
        try:
            return await step()
        except (RedisError, *TRANSIENT, *server_faults.LASTING_POSTGRES) as error:
            if server_faults.is_lasting(error):
                raise BadConfig(server_faults.sentence(error)) from None
            _log.warning("worker.waits", error=repr(error))
        await asyncio.sleep(RETRY_SECONDS)


async def _initialise(
    ctx: dict[str, Any], context: WorkerContext, leases: Leases, jobs: JobRegistry
) -> None:
    await changes.continue_clock(context.pool)  # before anything changes
    if not await tenancy.rls_enforced(context.pool):
        _log.warning("row_security.bypassed", fix="use a role without SUPERUSER and BYPASSRLS")
    for job in (one for one in jobs.jobs if one.tables):
        try:
            from app.store import tables  # noqa: PLC0415 - only own jobs load SQLAlchemy

            await tables.create_missing(context.pool, job.tables)
        except PostgresError as error:  # its runs fail, the other jobs' do not
            _log.error("job.table_missing", job=job.name, error=str(error))
    # Before its schedules are registered: another worker must not take one for removed after it.
    await _beat(ctx, context, leases, jobs)
    queued = await edit.register(context.pool, jobs.declared, context.clock())
    await disable_removed_recipes(context, jobs.declared)
    # What Redis does not receive, a sweep requeues.
    await enqueue.enqueue_runs(context.pool, context.redis, queued)
    await sweep(ctx)
    if ctx["decides"]:
        await ctx["remembered"].read(context.control, [one.key for one in jobs.declared])
    await publish_health(ctx)
    await maintain_partitions(ctx)


async def disable_removed_recipes(
    context: WorkerContext, declared: Sequence[DeclaredSchedule]
) -> None:
    """Disable the schedules of removed recipes, which would otherwise be overdue forever.

    One that another live worker declares stays, as during a deployment.
    """
    why = "the recipe no longer exists"
    undeclared = await schedule_rows.undeclared(
        context.pool, SOURCE_TASK, [one.key for one in declared]
    )

    async def is_declared(key: str) -> bool:
        return key in await keys.declared_elsewhere(context.redis, context.worker)

    gone, kept = list[str](), list[str]()
    for key in undeclared:
        done = await edit.disable(context.pool, key, context.clock(), why=why, unless=is_declared)
        (gone if done else kept).append(key)
    if gone:
        _log.info("source.disabled", schedules=gone, why=why)
    if kept:
        _log.warning("source.missing", schedules=kept, why="only another worker has the recipe")


async def _enable_own_recipes(context: WorkerContext, declared: Sequence[DeclaredSchedule]) -> None:
    """Enable this worker's recipes that one which did not see it in Redis has disabled."""
    own = {one.key: one for one in declared if one.job == SOURCE_TASK and one.enabled}
    disabled = await schedule_rows.disabled(context.pool, list(own))
    names = {key: key.removeprefix(recipe_dir.KEY_PREFIX) for key in disabled}
    found = [key for key in disabled if recipe_dir.find_file(context.config, names[key])]
    if found:
        queued = await edit.register(context.pool, [own[key] for key in found], context.clock())
        await enqueue.enqueue_runs(context.pool, context.redis, queued)
        _log.info("source.enabled", schedules=found, why="this worker has the recipe")


async def shutdown(ctx: dict[str, Any]) -> None:
    """Close what startup opened, in reverse order."""
    stack, context, leases = ctx.get("stack"), ctx.get("context"), ctx.get("leases")
    if isinstance(leases, Leases):
        with suppress(*TRANSIENT):  # those leases expire, and a sweep queues their runs again
            await leases.record_late()
    if isinstance(context, WorkerContext):
        try:
            await keys.delete_worker(context.redis, context.worker)
            await org_queue.withdraw_slots(context.redis, context.worker, org_slots(ctx))
        except RedisError:
            _log.info("worker.not_forgotten", worker=context.worker)  # its key expires
        _log.info("worker.stopped", worker=context.worker)
    if isinstance(stack, AsyncExitStack):
        await stack.aclose()


def open_queue(config: Config, where: ServerUrls) -> ArqRedis:
    """The client of arq's queue; connects on first use."""
    return redis_pool(where.redis, ssl_cert_reqs=config.redis_ssl_cert_reqs)


async def _beat(
    ctx: dict[str, Any], context: WorkerContext, leases: Leases, jobs: JobRegistry
) -> None:
    ctx["logging"].restore()
    # The heartbeats are those of the process that decides.
    beat = context.heartbeat.beat if ctx.get("decides", True) else context.synchronise
    for step in (leases.record_late, leases.renew, leases.hand_back_unheard, beat):
        try:
            await step()
        except TRANSIENT as error:
            _log.warning("heartbeat.failed", step=step.__name__, error=repr(error))
    tasks = known_jobs(ctx)
    facts = WorkerFacts(
        seen_at=context.clock(),
        started_at=context.started_at,
        running=len(leases.held),
        zone_data=zone_data.VERSION,
        clock_error=round(context.clock.error(), 3),
        jobs=tuple(one.key for one in jobs.declared),
        faulty_jobs=jobs.faults,
        schema=schema.required_revision(),
        host=socket.gethostname(),
        version=VERSION,
        memory=_resident_bytes(),
        tasks=None if tasks is None else tuple(tasks),
    )
    # A Redis that hangs must not delay the renewal of leases.
    async with asyncio.timeout(leases.seconds / 3):
        await context.limiter.heartbeat(leases.seconds)
        await org_queue.announce_slots(
            context.redis, context.worker, org_slots(ctx), leases.seconds
        )
        ttl = context.config.lease_seconds * WORKER_KEY_LEASES
        unknown = await keys.write_worker(context.redis, context.worker, ttl, facts)
    # While it was not seen in Redis, one that started may have taken its recipes for removed.
    if unknown or facts.seen_at > ctx.get("seen_until", facts.seen_at):
        ctx["seen_until"] = context.started_at  # again at the next heartbeat if this fails
        await _enable_own_recipes(context, jobs.declared)
    ctx["seen_until"] = facts.seen_at + timedelta(seconds=ttl)


def _resident_bytes() -> int:
    """The memory of this process: what is resident, or its peak where /proc is missing."""
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
