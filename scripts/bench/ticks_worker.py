"""Rollcall in the tick benchmark: the production worker with N schedules and a one-line job."""

import sys
from collections.abc import Callable
from datetime import timedelta

import arq.worker
from pydantic import SecretStr

from app.core import config, log
from app.core.config import Config
from app.ledger.edit import DeclaredSchedule
from app.queue import jobs, worker
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store import servers
from scripts.bench.timing import Stopwatch, asked, offset_us, period
from workers import lifecycle
from workers.decider_process import DeciderProcess
from workers.job import Job, Schedules, job
from workers.registry import JobRegistry
from workers.run import Run
from workers.sweep import HEALTH_SCHEDULE, publish_health
from workers.trigger import resilient_entry


def schedules_of(number: int, count: int) -> Schedules:
    """Return the schedule of the job of that number."""
    anchor = EPOCH + timedelta(microseconds=offset_us(number, count))

    def schedules(_: Config, name: str) -> list[DeclaredSchedule]:
        schedule = Schedule.every(period(count), anchor=anchor, name=name)
        return [DeclaredSchedule(name, name, schedule, Policies())]

    return schedules


def tick_job(number: int, count: int, watch: Stopwatch) -> Job:
    """Return the job of that number, which does nothing."""

    @job(name=f"tick-{number}", schedules=schedules_of(number, count))
    async def tick(run: Run) -> None:
        del run
        watch.start(number)

    return tick


def main(make: Callable[[int, int, Stopwatch], Job] = tick_job) -> None:
    """Run the worker until SIGTERM, with the jobs that `make` returns."""
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
    own = tuple(make(number, wanted.count, watch) for number in range(wanted.count))
    found = JobRegistry(own, tuple(one for each in own for one in each.declared(settings)), ())

    class Settings:
        functions = found.tasks()
        cron_jobs = (resilient_entry("health", publish_health, HEALTH_SCHEDULE),)
        on_startup = lifecycle.startup(settings, where, found, DeciderProcess)
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
