"""Stock arq, with its defaults, in the benchmark of ad-hoc jobs."""

import asyncio
import logging.config

from ad_hoc_roles import asked, produce
from arq.connections import ArqRedis
from arq.logs import default_log_config
from arq.worker import func, run_worker
from redis.asyncio import ConnectionPool
from timing import Stopwatch


def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    redis = ArqRedis(ConnectionPool.from_url(wanted.redis))
    if wanted.role == "producer":
        asyncio.run(produce(wanted, lambda number: redis.enqueue_job("noop", number)))
    elif wanted.role == "worker":
        watch = Stopwatch(wanted.record)

        async def noop(_: dict[str, object], number: int) -> None:
            watch.start(number)

        logging.config.dictConfig(default_log_config(verbose=False))
        run_worker(
            type("Settings", (), {"functions": [func(noop, name="noop")], "redis_pool": redis})
        )


if __name__ == "__main__":
    main()
