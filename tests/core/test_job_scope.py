"""Each job has threads of its own, for as long as it needs them."""

import asyncio
import threading
from collections.abc import AsyncIterator

import pytest

from app.core.job_scope import job_scope, share_with_jobs
from tests.wait import until


def threads_of(job: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"{job}_")]


@pytest.fixture(autouse=True)
async def loop() -> AsyncIterator[asyncio.AbstractEventLoop]:
    running = asyncio.get_running_loop()
    share_with_jobs(running)
    yield running
    del running.run_in_executor


async def test_the_threads_of_a_job_end_with_its_last_run() -> None:
    with job_scope("brief"):
        with job_scope("brief"):
            await asyncio.to_thread(int)
        assert threads_of("brief")

    await until(lambda: not threads_of("brief"), 10, "the end of the threads")


async def test_threads_that_are_busy_stay_until_a_later_run_and_are_no_more() -> None:
    go, left = threading.Event(), list[asyncio.Task[bool]]()
    for _ in range(3):
        with job_scope("stuck"):
            left += [asyncio.create_task(asyncio.to_thread(go.wait)) for _ in range(50)]
            await asyncio.sleep(0)
    stuck = len(threads_of("stuck"))
    with job_scope("other"):
        await asyncio.to_thread(int)

    assert 0 < stuck < 50
    assert len(threads_of("stuck")) == stuck
    go.set()
    await asyncio.wait(left)
    with job_scope("stuck"):
        await asyncio.to_thread(int)
    await until(lambda: not threads_of("stuck"), 10, "the end of the threads")


async def test_what_a_job_leaves_behind_may_start_threads_after_its_run() -> None:
    after = asyncio.Event()

    async def late() -> int:
        await after.wait()
        return await asyncio.to_thread(int)

    with job_scope("late"):
        await asyncio.to_thread(int)
        task = asyncio.create_task(late())
    after.set()

    assert await task == 0
