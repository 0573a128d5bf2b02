"""Enqueueing of runs in Redis: built-in jobs in arq's queue, organisations' in their own queue.

A run that Redis does not receive or loses is requeued by a worker's sweep.
"""

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol
from uuid import UUID

from arq.connections import ArqRedis

from app.core.enums import COLLECTION_TASK
from app.queue import org_queue
from app.queue.jobs import enqueue_many
from app.queue.org_queue import OrgQueueEntry
from app.store.db import Pool
from app.store.schedules import decisions


class EnqueuableRun(Protocol):
    """A queued run; the id of its arq job is `run:<run_id>:<attempt>`."""

    @property
    def run_id(self) -> UUID:
        """The run's id."""
        ...

    @property
    def job(self) -> str:
        """The arq task that executes it."""
        ...

    @property
    def attempt(self) -> int:
        """From 1."""
        ...


async def enqueue_runs(
    pool: Pool, redis: ArqRedis, queued: Iterable[EnqueuableRun], until: datetime | None = None
) -> None:
    """Enqueue runs in Redis, in bulk; none starts before `until` (aware), if given.

    Organisations' runs wait in a queue of their own, so that they delay nothing else.
    """
    runs = list(queued)
    jobs = [
        (run.job, [str(run.run_id)], _arq_job_id(run)) for run in runs if run.job != COLLECTION_TASK
    ]
    if jobs:
        await enqueue_many(redis, jobs, defer_until=until)
    await _enqueue_for_organisations(
        pool, redis, [run for run in runs if run.job == COLLECTION_TASK], until
    )


async def _enqueue_for_organisations(
    pool: Pool, redis: ArqRedis, runs: Sequence[EnqueuableRun], until: datetime | None
) -> None:
    if not runs:
        return
    last_run_seconds = await decisions.last_durations(pool, [run.run_id for run in runs])
    waiters = [
        OrgQueueEntry(
            run.job,
            [str(run.run_id)],
            _arq_job_id(run),
            last_run_seconds.get(run.run_id, 0.0),
            until,
        )
        for run in runs
    ]
    await org_queue.add_runs(redis, waiters)


def _arq_job_id(run: EnqueuableRun) -> str:
    return f"run:{run.run_id}:{run.attempt}"
