"""Stock arq in the tick benchmark: its Worker with N cron jobs and default logging."""

import logging.config
import sys
from typing import Any

from arq.connections import ArqRedis
from arq.cron import CronJob, cron
from arq.logs import default_log_config
from arq.worker import run_worker
from redis.asyncio import ConnectionPool

from scripts.bench.timing import SPREAD, Stopwatch, asked, offset_us, period


def cron_job(number: int, count: int, watch: Stopwatch) -> CronJob:
    """Return the cron job of that number."""

    async def tick(ctx: dict[str, Any]) -> None:  # noqa: ARG001 - arq's signature
        watch.start(number)

    second, microsecond = divmod(offset_us(number, count), 1_000_000)
    seconds = second if period(count) == SPREAD else set(range(60))
    return cron(tick, name=f"tick-{number}", second=seconds, microsecond=microsecond)


def main() -> None:
    """Run the worker until SIGTERM."""
    wanted = asked(__doc__ or "")
    watch = Stopwatch(wanted.record)
    pool = ConnectionPool.from_url(wanted.redis)  # pyright: ignore[reportUnknownMemberType] - bare kwargs
    logging.config.dictConfig(default_log_config(verbose=False))

    class Settings:
        cron_jobs = tuple(cron_job(number, wanted.count, watch) for number in range(wanted.count))
        redis_pool = ArqRedis(pool)

    run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does


if __name__ == "__main__":
    sys.exit(main())
