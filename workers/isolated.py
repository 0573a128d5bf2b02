"""The process that executes one run alone: `python -m workers.isolated`, started by a worker."""

import asyncio
import contextlib
import signal
import sys
from contextlib import AsyncExitStack
from typing import Any

from arq import Retry
from pydantic import ConfigDict

from app.context import ServerUrls, WorkerContext, open_context
from app.core import config, log
from app.core.config import Config
from app.core.errors import BadJob, RollcallError
from app.core.event_loop import end_despite_threads, end_now, run_past_exits
from app.core.job_scope import share_with_jobs
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.runs import log as run_log
from app.runs.leases import Leases
from app.store.db import TRANSIENT
from workers import lifecycle, registry
from workers.execute import execute
from workers.isolation import IsolatedRun, read_run, until_stopped
from workers.job import Job, Params, declare_job
from workers.job_options import JobOptions
from workers.registry import JobRegistry
from workers.run import Run

_log = log.logger(__name__)


class AnyParams(Params):
    """Whatever parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)


async def execute_alone(run: IsolatedRun, settings: Config) -> None:
    """Execute the run, renewing its lease. SIGTERM hands it back."""
    stopped, loop = asyncio.Event(), asyncio.get_running_loop()
    for signum in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(signum, stopped.set)
    where = ServerUrls(run.database, run.redis)
    limits, logins = registry.source_limits(settings), registry.source_logins(settings)
    async with AsyncExitStack() as stack:
        redis = lifecycle.open_queue(settings, where)
        stack.push_async_callback(redis.aclose, close_connection_pool=True)
        context = await stack.enter_async_context(
            open_context(settings, where, redis, limits, logins)
        )
        jobs = registry.load(settings)
        context.give_secrets(jobs.secrets)
        hidden = settings.secrets(jobs.secrets.values())
        log.configure(settings.log_format, settings.log_level, hidden)
        await stack.enter_async_context(run_log.capture(redis, hidden))
        pings = HeartbeatPings.from_config(settings)
        stack.push_async_callback(pings.close)
        leases = Leases(context.control, context.clock, settings.lease_seconds, context.hide)
        leases.after_overtime = end_now  # others wait for their turn
        ctx: dict[str, Any] = {
            "context": context,
            "leases": leases,
            "redis": redis,
            "job_id": run.job_id,
            "claimed": run.claimed,
            "logging": log.LoggingState.now(),
            "pings": pings,
        }
        job = job_named(run.task, jobs)
        renewing = asyncio.create_task(_renew(context, leases))
        try:
            with contextlib.suppress(Retry):  # Postgres is away: the sweep queues the run again
                await until_stopped(execute(ctx, job, str(run.claimed.run_id)), stopped)
        finally:
            renewing.cancel()


def job_named(name: str, found: JobRegistry) -> Job:
    """The job of that name; one that fails with what is wrong, if it cannot be loaded any more."""
    faults = "; ".join(found.faults) or "its file is gone, or has another job"

    async def fail(run: Run) -> None:
        del run
        raise BadJob(f"the job {name!r} cannot be loaded any more: {faults}")

    known = next((job for job in found.jobs if job.name == name), None)
    return known or declare_job(fail, JobOptions(name=name, params=AnyParams))


async def _renew(context: WorkerContext, leases: Leases) -> None:
    while True:
        for step in (leases.renew(), context.limiter.heartbeat(leases.seconds)):
            try:
                await step
            except TRANSIENT as error:
                _log.warning("heartbeat.failed", error=repr(error))
        await asyncio.sleep(leases.seconds / 3)


def main() -> int:
    """Execute the run described on standard input; returns the exit code."""
    try:
        settings = config.load()
        log.configure(settings.log_format, settings.log_level, settings.secrets())
        run = read_run()
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            share_with_jobs(loop)
            run_past_exits(loop, loop.create_task(execute_alone(run, settings)))
            end_despite_threads()
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
