"""Our worker without the house: N alarms that only ring, which is arq's own cost."""

import sys
from datetime import timedelta
from typing import Any

import arq.worker
from arq.cron import CronJob

from app import arq_worker, log, queue
from app.scheduling.cronjob import alarm
from app.scheduling.schedule import EPOCH, Schedule
from scripts.bench.stopwatch import Stopwatch, asked, offset_us, period


def bell(number: int, count: int, watch: Stopwatch) -> CronJob:
    """The alarm of that number."""

    async def ring(ctx: dict[str, Any]) -> None:  # noqa: ARG001 - arq's signature
        watch.start(number)

    anchor = EPOCH + timedelta(microseconds=offset_us(number, count))
    return alarm(f"ring:tick-{number}", ring, Schedule.every(period(count), anchor=anchor))


def main() -> None:
    """Work until SIGTERM."""
    wanted = asked(__doc__ or "")
    watch = Stopwatch(wanted.record)
    log.configure("json", "info")

    class Settings:
        cron_jobs = tuple(bell(number, wanted.count, watch) for number in range(wanted.count))
        redis_pool = queue.redis_pool(wanted.redis)
        job_serializer = queue.dumps
        job_deserializer = queue.loads
        keep_result = 0
        health_check_interval = 5

    arq_worker.install()
    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does


if __name__ == "__main__":
    sys.exit(main())
