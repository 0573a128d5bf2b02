"""Rollcall in the benchmark of ad-hoc jobs: the production worker, and enqueueing as documented."""

import asyncio
import json
import os
from pathlib import Path

import arq.worker
from arq.connections import ArqRedis
from redis.asyncio import ConnectionPool

from app.core.config import Config
from scripts.bench.ad_hoc_roles import asked, produce
from scripts.bench.timing import Stopwatch
from workers import registry
from workers.job import job
from workers.registry import JobRegistry
from workers.run import Run


def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    if wanted.role == "producer":
        pool = ConnectionPool.from_url(wanted.redis)  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        redis = ArqRedis(pool, job_serializer=lambda one: json.dumps(one).encode())

        async def enqueue(number: int) -> None:
            enqueued = await redis.enqueue_job("noop", number=number)
            await redis.publish("rollcall:wake", enqueued.job_id if enqueued else "")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here

        asyncio.run(produce(wanted, enqueue))
    elif wanted.role == "worker":
        _work(wanted.record, wanted.postgres, wanted.redis)


def _work(record: Path, database: str, redis: str) -> None:
    watch = Stopwatch(record)

    @job(name="noop")
    async def noop(run: Run, *, number: int) -> None:
        del run
        watch.start(number)

    def load(settings: Config) -> JobRegistry:
        return JobRegistry((noop,), tuple(noop.declared(settings)), ())

    registry.load = load
    sources = record.with_name("sources")
    sources.mkdir(exist_ok=True)
    os.environ |= {  # noqa: TID251 - read by app.workers
        "DATABASE_URL": database,
        "REDIS_URL": redis,
        "LOG_FORMAT": "json",
        "SOURCES_DIR": str(sources),
    }
    from app.workers import Settings  # noqa: PLC0415 - importing it reads the environment

    arq.worker.run_worker(Settings)  # pyright: ignore[reportArgumentType] - as its CLI does


if __name__ == "__main__":
    main()
