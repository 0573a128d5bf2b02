"""procrastinate, with its defaults, in the benchmark of ad-hoc jobs."""

import asyncio

from ad_hoc_roles import asked, produce
from procrastinate import App, PsycopgConnector
from timing import Stopwatch

CONCURRENCY = 10  # the other contenders' default; its own is 1


async def main() -> None:
    """Play the role that is asked for."""
    wanted = asked(__doc__ or "")
    app = App(connector=PsycopgConnector(conninfo=wanted.postgres))
    watch = Stopwatch(wanted.record) if wanted.role == "worker" else None

    @app.task(name="noop")
    async def noop(number: int) -> None:
        if watch is not None:
            watch.start(number)

    async with app.open_async():
        if wanted.role == "prepare":
            await app.schema_manager.apply_schema_async()
        elif wanted.role == "producer":
            await produce(wanted, lambda number: noop.defer_async(number=number))
        else:
            await app.run_worker_async(concurrency=CONCURRENCY)


if __name__ == "__main__":
    asyncio.run(main())
