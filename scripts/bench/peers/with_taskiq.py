"""taskiq on a list of Redis, with its defaults, in the benchmark of ad-hoc jobs."""

import asyncio

from ad_hoc_roles import asked, produce
from taskiq.api import run_receiver_task
from taskiq_redis import ListQueueBroker
from timing import Stopwatch


async def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    broker = ListQueueBroker(wanted.redis)
    watch = Stopwatch(wanted.record) if wanted.role == "worker" else None

    @broker.task(task_name="noop")
    async def noop(number: int) -> None:
        if watch is not None:
            watch.start(number)

    if wanted.role == "producer":
        await broker.startup()
        await produce(wanted, noop.kiq)
        await broker.shutdown()
    elif wanted.role == "worker":
        await run_receiver_task(broker, run_startup=True)


if __name__ == "__main__":
    asyncio.run(main())
