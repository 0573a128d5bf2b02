"""SAQ on Redis, with its defaults, in the benchmark of ad-hoc jobs."""

import asyncio

from ad_hoc_roles import asked, produce
from redis.asyncio import Redis
from saq import Worker
from saq.queue.redis import RedisQueue
from timing import Stopwatch


async def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    queue = RedisQueue(Redis.from_url(wanted.redis))
    await queue.connect()
    if wanted.role == "producer":
        await produce(wanted, lambda number: queue.enqueue("noop", number=number))
    elif wanted.role == "worker":
        watch = Stopwatch(wanted.record)

        async def noop(_: dict[str, object], *, number: int) -> None:
            watch.start(number)

        await Worker(queue, functions=[("noop", noop)]).start()


if __name__ == "__main__":
    asyncio.run(main())
