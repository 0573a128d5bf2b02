"""APScheduler in the tick benchmark: AsyncIOScheduler with N jobs in memory. Has its own venv."""

# pyright: reportMissingImports=false, reportUnknownVariableType=false
# pyright: reportUnknownMemberType=false
# ^ it is not installed where types are checked

import asyncio
import signal
import sys
from datetime import datetime, timedelta, timezone

from apscheduler.schedulers.asyncio import AsyncIOScheduler
from timing import Stopwatch, asked, offset_us, period

EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)  # noqa: UP017 - whatever Python it runs on


async def work(count: int, watch: Stopwatch) -> None:
    """Run until SIGTERM."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    scheduler = AsyncIOScheduler(timezone=timezone.utc)  # noqa: UP017

    async def tick(number: int) -> None:
        watch.start(number)

    for number in range(count):
        anchor = EPOCH + timedelta(microseconds=offset_us(number, count))
        scheduler.add_job(tick, "interval", seconds=period(count), start_date=anchor, args=[number])
    scheduler.start()
    await stop.wait()


def main() -> None:
    """Run the scheduler until SIGTERM."""
    wanted = asked(__doc__ or "")
    asyncio.run(work(wanted.count, Stopwatch(wanted.record)))


if __name__ == "__main__":
    sys.exit(main())
