"""A real worker with thousands in line: the built-in jobs go first, and the line moves on."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from arq.worker import func

from app.context import WorkerContext
from app.core.enums import COLLECTION_TASK
from app.queue import org_queue
from app.queue.jobs import dumps, enqueue, loads, redis_pool
from app.queue.worker import SurvivingWorker
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from tests import worker_harness
from tests.dispatch import orgs
from tests.wait import until
from workers.dispatch import dispatch
from workers.execute import execute
from workers.run import Run

SLOTS = 3
MINUTE = timedelta(minutes=1)


@dataclass(slots=True)
class Shop:
    """What the worker's jobs have seen."""

    context: WorkerContext
    ctx: dict[str, Any]
    seconds: float = 0.02
    now: int = 0
    most: int = 0
    done: list[UUID] = field(default_factory=list[UUID])
    started: list[int] = field(default_factory=list[int])  # runs done when it started

    async def collection(self, ctx: dict[str, Any], run_id: str) -> None:
        await execute(ctx | self.ctx, worker_harness.job_of(self._collect, COLLECTION_TASK), run_id)

    async def _collect(self, run: Run) -> None:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.seconds)
        self.now -= 1
        self.done.append(run.id)

    async def built_in(self, ctx: dict[str, Any]) -> None:
        del ctx
        self.started.append(len(self.done))

    async def in_line(self, count: int) -> None:
        """So many organisations' runs, decided and in line."""
        minute = self.context.clock().replace(second=0, microsecond=0)
        every = [Schedule.cron("* * * * *")] * count
        await orgs.found(
            self.context.pool, minute - MINUTE, every, Policies(misfire_grace=timedelta(hours=1))
        )
        await dispatch(self.ctx)

    @contextlib.asynccontextmanager
    async def working(self, url: str) -> AsyncGenerator[None]:
        """A worker in this process."""
        worker = SurvivingWorker(
            functions=[
                func(self.collection, name=COLLECTION_TASK, max_tries=1_000),
                func(self.built_in, name="built_in"),
            ],
            redis_pool=redis_pool(url),
            job_serializer=dumps,
            job_deserializer=loads,
            keep_result=0,
            max_jobs=10,
            handle_signals=False,
        )
        task = asyncio.create_task(worker.async_run())
        try:
            yield
        finally:
            await worker.close()
            await asyncio.gather(task, return_exceptions=True)


@pytest.fixture
async def shop(context: WorkerContext) -> Shop:
    ctx = worker_harness.ctx_of(context) | {"known_jobs": [COLLECTION_TASK], "slots": SLOTS}
    ctx.pop("job_id", None)
    await org_queue.announce_slots(context.redis, context.worker, SLOTS, 60)
    return Shop(context, ctx)


async def test_every_run_in_line_is_done_once_and_no_more_at_once_than_there_are_slots(
    shop: Shop, redis_url: str
) -> None:
    await shop.in_line(200)

    async with shop.working(redis_url):
        await until(lambda: _many(shop, 200), seconds=30, what="all runs")

    assert len(set(shop.done)) == len(shop.done) == 200
    assert shop.most == SLOTS


async def test_a_built_in_job_does_not_wait_behind_thousands(shop: Shop, redis_url: str) -> None:
    shop.seconds = 0.2
    await shop.in_line(3_000)

    async with shop.working(redis_url):
        await until(lambda: _many(shop, SLOTS), what="the first runs")
        before = len(shop.done)
        await enqueue(shop.context.redis, "built_in")
        await until(lambda: _started(shop), what="the built-in job")

    assert shop.started[0] - before <= 5 * SLOTS, "runs that ended before it started"


async def _many(shop: Shop, count: int) -> bool:
    return len(shop.done) >= count


async def _started(shop: Shop) -> bool:
    return bool(shop.started)
