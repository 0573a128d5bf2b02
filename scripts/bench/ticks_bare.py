"""Our worker without ledger and context in the tick benchmark: N cron entries that do nothing."""

import sys
from datetime import timedelta
from typing import Any

import arq.worker
from arq.cron import CronJob

from app.core import log
from app.queue import jobs, worker
from app.queue.cron import cron_entry
from app.scheduling.schedule import EPOCH, Schedule
from scripts.bench.timing import Stopwatch, asked, offset_us, period


def entry_of(number: int, count: int, watch: Stopwatch) -> CronJob:
    """Return the cron entry of that number."""

    async def trigger(ctx: dict[str, Any]) -> None:  # noqa: ARG001 - arq's signature
        watch.start(number)

    anchor = EPOCH + timedelta(microseconds=offset_us(number, count))
    return cron_entry(f"ring:tick-{number}", trigger, Schedule.every(period(count), anchor=anchor))


def main() -> None:
    """Run the worker until SIGTERM."""
    wanted = asked(__doc__ or "")
    watch = Stopwatch(wanted.record)
    log.configure("json", "info")

    class Settings:
        cron_jobs = tuple(entry_of(number, wanted.count, watch) for number in range(wanted.count))
        redis_pool = jobs.redis_pool(wanted.redis)
        job_serializer = jobs.dumps
        job_deserializer = jobs.loads
        keep_result = 0
        health_check_interval = 5

    worker.install()
    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does


if __name__ == "__main__":
    sys.exit(main())
