"""Enqueueing of runs in Redis: built-in jobs in arq's queue, organisations' in their own queue.

A run that Redis does not receive or loses is requeued by a worker's sweep.
"""

from collections.abc import Iterable
from datetime import datetime

from arq.connections import ArqRedis

from app.core.enums import COLLECTION_TASK
from app.queue import org_queue
from app.queue.jobs import enqueue_many
from app.store.db import Pool
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import decisions
from app.store.schedules.heartbeats import database_now


async def enqueue_runs(
    pool: Pool, redis: ArqRedis, queued: Iterable[QueuedRun], until: datetime | None = None
) -> None:
    """Enqueue runs in Redis, in bulk; none starts before `until` by the database's clock, if given.

    Organisations' runs wait in a queue of their own, so that they delay nothing else, and enter
    arq's queue as far as slots are free.
    """
    runs = list(queued)
    defer_by = 0.0
    if until is not None and runs:
        defer_by = max((until - await database_now(pool)).total_seconds(), 0.0)
    jobs = [(r.task, [str(r.run_id)], r.arq_id) for r in runs if r.task != COLLECTION_TASK]
    if jobs:
        await enqueue_many(redis, jobs, defer_by=defer_by)
    for_orgs = [run for run in runs if run.task == COLLECTION_TASK]
    if for_orgs:
        seconds = await decisions.last_durations(pool, [run.run_id for run in for_orgs])
        await org_queue.add_runs(redis, for_orgs, seconds, defer_by)
        await org_queue.admit_runs(redis)
