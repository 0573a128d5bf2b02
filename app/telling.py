"""Tells Redis of runs that are queued: the house's into arq's queue, organisations' into the line.

What it does not hear, a worker's sweep tells it again.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from arq.connections import ArqRedis

from app import backlog
from app.backlog import Waiter
from app.queue import enqueue_many
from app.store import batches
from app.store.db import Pool
from app.words import COLLECTION


class Run(Protocol):
    """A queued run, as its job is named in Redis: `run:<run_id>:<attempt>`."""

    @property
    def run_id(self) -> UUID:
        """Which it is."""
        ...

    @property
    def job(self) -> str:
        """Whose function does it."""
        ...

    @property
    def attempt(self) -> int:
        """From 1."""
        ...


async def tell(
    pool: Pool, redis: ArqRedis, queued: Iterable[Run], until: datetime | None = None
) -> None:
    """Tell Redis of queued runs, in bulk; none of them is to start before `until`, if it is given.

    Those of organisations wait in line, so that nothing else waits behind them.
    """
    told = list(queued)
    wanted = [(run.job, [str(run.run_id)], _job_id(run)) for run in told if run.job != COLLECTION]
    if wanted:
        await enqueue_many(redis, wanted, defer_until=until)
    await _line_up(pool, redis, [run for run in told if run.job == COLLECTION], until)


async def _line_up(
    pool: Pool, redis: ArqRedis, runs: Sequence[Run], until: datetime | None
) -> None:
    if not runs:
        return
    took = await batches.took(pool, [run.run_id for run in runs])
    waiters = [
        Waiter(run.job, [str(run.run_id)], _job_id(run), took.get(run.run_id, 0.0), until)
        for run in runs
    ]
    await backlog.put(redis, waiters)


def _job_id(run: Run) -> str:
    return f"run:{run.run_id}:{run.attempt}"
