"""A process that claims the run it is given and kills itself: `python -m tests.execute.poison`."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from uuid import UUID

from app.store import db
from app.store.runs import run_rows
from workers.isolation import IsolatedRun, read_run


async def claim_and_die(run: IsolatedRun) -> None:
    pool = await db.open_pool(run.database, size=2)
    await run_rows.claim(pool, UUID(run.run_id), f"w{os.getpid()}", datetime.now(UTC), 0.1)
    os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    asyncio.run(claim_and_die(read_run()))
