"""A job that damages what it is given fails, and damages no other run."""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from app.context import WorkerContext
from app.jobs import Job, Run, job
from tests import worker_harness


async def performed(context: WorkerContext, own: Job) -> dict[str, Any]:
    """One run by hand; returns its row."""
    run_id = await worker_harness.perform(context, job=own)
    return await worker_harness.run_row(context.pool, run_id)


async def using(run: Run) -> None:
    """Uses what its run gives."""
    await run.store("fine", [{"sku": "a"}], key="sku")
    await run.redis.exists("fine")
    await run.session.connection()


fine = job(name="fine")(using)


async def entering(run: Run) -> None:
    (client, *_) = run.arq_ctx()["clients"].values()
    async with client:
        pass


CLOSING: list[Callable[[Run], object]] = [
    lambda run: run.context.pool.close(),
    lambda run: run.context.pool.terminate(),
    lambda run: run.context.control.terminate(),
    lambda run: run.redis.aclose(close_connection_pool=True),
    lambda run: run.redis.connection_pool.disconnect(),
    lambda run: run.context.job_transport.aclose(),
    lambda run: next(iter(run.context.clients.values())).aclose(),
    entering,
]


@pytest.mark.parametrize("close", CLOSING)
async def test_a_job_cannot_close_what_the_runs_of_a_worker_share(
    context: WorkerContext, close: Callable[[Run], object]
) -> None:
    @job
    async def own(run: Run) -> None:
        closing = close(run)
        if isinstance(closing, Awaitable):
            await closing

    row = await performed(context, own)
    after = await performed(context, fine)

    assert (row["status"], row["error_type"]) == ("failure", "RuntimeError")
    assert "all runs of the worker share it" in row["error_message"]
    assert after["status"] == "success"
    assert all(not client.is_closed for client in context.clients.values())


async def test_postgres_is_not_used_from_another_event_loop(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        await asyncio.to_thread(lambda: asyncio.run(using(run)))

    row = await performed(context, own)
    after = await performed(context, fine)

    assert (row["status"], row["error_type"]) == ("failure", "RuntimeError")
    assert "asyncio.run_coroutine_threadsafe" in row["error_message"]
    assert after["status"] == "success"


async def test_a_job_cannot_leave_a_lower_limit_of_recursion(context: WorkerContext) -> None:
    before = sys.getrecursionlimit()

    @job
    async def own(run: Run) -> None:
        del run
        sys.setrecursionlimit(before - 100)

    @job
    async def deep(run: Run) -> None:
        del run
        sys.setrecursionlimit(before + 100)

    try:
        await performed(context, own)
        low = sys.getrecursionlimit()
        await performed(context, deep)
        high = sys.getrecursionlimit()
    finally:
        sys.setrecursionlimit(before)

    assert (low, high) == (before, before + 100)
