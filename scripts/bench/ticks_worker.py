"""Rollcall in the tick benchmark: the production worker, N schedules of a one-line job each."""

import os
import sys
from collections.abc import Callable
from datetime import timedelta

import arq.worker

from app.core.config import Config
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from scripts.bench.timing import Stopwatch, asked, offset_us, period
from workers import registry
from workers.job import Job, job
from workers.job_options import Schedules
from workers.registry import JobRegistry
from workers.run import Run


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
    """Run `app.workers.Settings` until SIGTERM, but with the jobs that `make` returns."""
    wanted = asked(__doc__ or "")
    watch = Stopwatch(wanted.record)
    own = tuple(make(number, wanted.count, watch) for number in range(wanted.count))

    def load(settings: Config) -> JobRegistry:
        return JobRegistry(own, tuple(one for each in own for one in each.declared(settings)), ())

    registry.load = load
    sources = wanted.record.with_name("sources")
    sources.mkdir(exist_ok=True)
    os.environ |= {  # noqa: TID251 - read by app.workers
        "DATABASE_URL": wanted.postgres,
        "REDIS_URL": wanted.redis,
        "LOG_FORMAT": "json",
        "SOURCES_DIR": str(sources),
    }
    from app.workers import Settings  # noqa: PLC0415 - importing it reads the environment

    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does


if __name__ == "__main__":
    sys.exit(main())
