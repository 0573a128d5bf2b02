"""A job that damages what it is given fails, and damages no other run."""

import asyncio
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import datetime
from typing import Any, cast

import pytest
from sqlalchemy.exc import InvalidRequestError
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.jobs import Job, LeaseLost, Run, job
from app.queue.jobs import redis_pool
from tests import worker_harness
from tests.fresh_process import PROJECT
from tests.wait import until

MAX_CONNECTIONS = 50  # of a client of Redis


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


async def test_connections_that_a_job_does_not_release_are_those_of_later_runs_again(
    context: WorkerContext,
) -> None:
    @job(timeout=1)
    async def own(run: Run) -> None:
        while True:  # until none is left
            await run.context.pool.acquire()

    with capture_logs() as logs:
        row = await performed(context, own)
    async with asyncio.timeout(10):
        after = await performed(context, fine)

    assert (row["status"], after["status"]) == ("timed_out", "success")
    kept = [entry for entry in logs if entry["event"] == "postgres.not_released"]
    assert [entry["connections"] for entry in kept] == [context.pool.get_max_size()]


async def test_postgres_is_not_used_from_another_event_loop(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        await asyncio.to_thread(lambda: asyncio.run(using(run)))

    row = await performed(context, own)
    after = await performed(context, fine)

    assert (row["status"], row["error_type"]) == ("failure", "RuntimeError")
    assert "asyncio.run_coroutine_threadsafe" in row["error_message"]
    assert after["status"] == "success"


async def test_blocking_commands_of_jobs_leave_connections_to_redis_for_the_worker(
    context: WorkerContext, redis_url: str
) -> None:
    @job
    async def own(run: Run) -> None:
        clients: list[Any] = [run.redis, run.arq_ctx()["redis"]]
        await asyncio.gather(*(one.blpop("none", 60) for one in clients for _ in range(40)))

    other = redis_pool(redis_url)

    async def all_wait() -> bool:
        return (await cast("Any", other).info("clients"))["blocked_clients"] >= MAX_CONNECTIONS

    running = asyncio.create_task(performed(context, own))
    await until(all_wait, 20, "the commands")
    async with asyncio.timeout(15):
        await context.redis.exists("fine")
    running.cancel()
    await running
    await other.aclose(close_connection_pool=True)


@pytest.mark.parametrize("used", [True, False])
async def test_the_session_of_a_run_that_has_ended_takes_no_connection(
    context: WorkerContext, used: bool
) -> None:
    kept: list[Run] = []

    @job
    async def own(run: Run) -> None:
        kept.append(run)
        if used:
            await run.session.connection()

    await performed(context, own)

    with pytest.raises((InvalidRequestError, LeaseLost)):
        await kept[0].session.connection()


@pytest.mark.parametrize(
    ("member", "value"),
    [("status", "good"), ("stats", object()), ("error_message", 7), ("deferral", "tomorrow")],
)
async def test_an_outcome_that_cannot_be_recorded_is_a_failure_that_says_so(
    context: WorkerContext, member: str, value: object
) -> None:
    @job
    async def own(run: Run) -> None:
        setattr(run.outcome, member, value)

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert row["error_message"].startswith("its outcome cannot be recorded: ")


async def test_a_run_is_not_deferred_to_an_instant_without_a_zone(context: WorkerContext) -> None:
    @job
    async def own(run: Run) -> None:
        raise run.defer(datetime(2027, 3, 2, 12, 7), "later")  # noqa: DTZ001 - the fault

    row = await performed(context, own)

    assert (row["status"], row["error_type"]) == ("failure", "BadResult")
    assert "2027-03-02 12:07:00 has no zone" in row["error_message"]


async def test_as_many_failed_parts_are_logged_as_the_log_of_a_run_keeps(
    context: WorkerContext,
) -> None:
    @job
    async def own(run: Run) -> None:
        for number in range(1_000):
            run.part_failed(f"part {number}", "gone")

    with capture_logs() as lines:
        row = await performed(context, own)

    assert (row["status"], row["stats"]) == ("partial_failure", {"parts_failed": 1_000})
    assert len([line for line in lines if line["event"] == "part.failed"]) == 200


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


CLOSED = """
import sys
from app.core import log
from app.core.event_loop import end_now
log.configure("json")
sys.stderr.close()
log.logger("x").warning("one.line")
sys.stdout = None
end_now(7)
"""


def test_a_process_logs_and_ends_although_a_job_has_closed_its_output() -> None:
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", CLOSED], cwd=PROJECT, capture_output=True, text=True, check=False
    )

    assert done.returncode == 7, done.stderr
    assert "one.line" in done.stderr
