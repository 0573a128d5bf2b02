"""Rollcall in the tick benchmark: the production worker with N schedules and a one-line job."""

import sys
from datetime import timedelta
from typing import Any

import arq.worker
from arq.worker import Function, func
from pydantic import SecretStr

from app.context import WorkerContext
from app.core import config, log
from app.core.enums import RunStatus
from app.ledger.edit import DeclaredSchedule
from app.queue import jobs, worker
from app.runs.attempts import AttemptOutcome
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store import servers
from app.store.runs.run_rows import ClaimedRun
from scripts.bench.timing import Stopwatch, asked, offset_us, period
from workers import lifecycle
from workers.dispatch import dispatch
from workers.execute import RunCall, execute
from workers.sweep import HEALTH_SCHEDULE, publish_health, sweep, sweep_schedule
from workers.trigger import cron_entry_for, resilient_entry


def declared(number: int, count: int) -> DeclaredSchedule:
    """Return the declared schedule of that number, with its own job."""
    anchor = EPOCH + timedelta(microseconds=offset_us(number, count))
    name = f"tick-{number}"
    return DeclaredSchedule(
        key=name,
        job=name,
        schedule=Schedule.every(period(count), anchor=anchor, name=name),
        policies=Policies(),
    )


def job(number: int, watch: Stopwatch) -> Function:
    """Return the arq function that executes that schedule's runs."""

    async def plan(_: WorkerContext, __: ClaimedRun, outcome: AttemptOutcome) -> None:
        watch.start(number)
        outcome.status = RunStatus.SUCCESS

    async def tick(ctx: dict[str, Any], run_id: str) -> None:
        await execute(ctx, RunCall(f"tick-{number}", run_id), plan)

    return func(tick, name=f"tick-{number}")


def main() -> None:
    """Run the worker until SIGTERM."""
    wanted = asked(__doc__ or "")
    settings = config.load(
        _env_file=None,
        database_url=SecretStr(wanted.postgres),
        redis_url=SecretStr(wanted.redis),
        log_format="json",
    )
    log.configure(settings.log_format, settings.log_level)
    where = servers.server_urls(settings)
    watch = Stopwatch(wanted.record)
    schedules = [declared(number, wanted.count) for number in range(wanted.count)]

    class Settings:
        functions = tuple(job(number, watch) for number in range(wanted.count))
        cron_jobs = (
            *(cron_entry_for(schedule) for schedule in schedules),
            resilient_entry("dispatch", dispatch, Schedule.every(1)),
            resilient_entry("sweep", sweep, sweep_schedule(settings.lease_seconds)),
            resilient_entry("health", publish_health, HEALTH_SCHEDULE),
        )
        on_startup = lifecycle.startup(settings, where, schedules)
        on_shutdown = lifecycle.shutdown
        redis_pool = lifecycle.open_queue(settings, where)
        job_serializer = jobs.dumps
        job_deserializer = jobs.loads
        max_jobs = settings.max_jobs
        job_timeout = settings.job_timeout_seconds + 60
        job_completion_wait = settings.shutdown_grace_seconds
        keep_result = 0
        max_tries = 1_000_000
        retry_jobs = True
        health_check_interval = 5

    worker.install()
    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does


if __name__ == "__main__":
    sys.exit(main())
