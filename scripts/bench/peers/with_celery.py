"""Celery on Redis, in the benchmark of ad-hoc jobs: one process with threads. Has its own venv."""

import asyncio

from ad_hoc_roles import asked, produce
from celery import Celery
from timing import Stopwatch

OPTIONS = ("worker", "--pool=threads", "--concurrency=10", "--loglevel=WARNING")


def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    app = Celery(
        broker=wanted.redis.replace("unix://", "redis+socket://").replace("?db=", "?virtual_host=")
    )
    watch = Stopwatch(wanted.record) if wanted.role == "worker" else None

    @app.task(name="noop", ignore_result=True)
    def noop(number: int) -> None:
        if watch is not None:
            watch.start(number)

    async def enqueue(number: int) -> None:
        noop.delay(number)

    if wanted.role == "producer":
        asyncio.run(produce(wanted, enqueue))
    elif wanted.role == "worker":
        app.worker_main(list(OPTIONS))


if __name__ == "__main__":
    main()
