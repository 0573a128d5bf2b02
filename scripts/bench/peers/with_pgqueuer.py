"""pgqueuer, with its defaults, in the benchmark of ad-hoc jobs."""

import asyncio
import signal

import asyncpg
from ad_hoc_roles import asked, produce
from pgqueuer import AsyncpgDriver, Job, PgQueuer, Queries
from timing import Stopwatch


async def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    driver = AsyncpgDriver(await asyncpg.connect(wanted.postgres))
    queries = Queries(driver)
    if wanted.role == "prepare":
        await queries.install()
    elif wanted.role == "producer":
        await produce(wanted, lambda number: queries.enqueue("noop", str(number).encode()))
    else:
        watch, queuer = Stopwatch(wanted.record), PgQueuer(driver)

        @queuer.entrypoint("noop")
        async def noop(job: Job) -> None:
            watch.start(int(job.payload or b"0"))

        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, queuer.shutdown.set)
        await queuer.run()


if __name__ == "__main__":
    asyncio.run(main())
