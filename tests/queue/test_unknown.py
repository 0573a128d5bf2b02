"""Jobs whose function this worker does not have: left in the queue for one that has it."""

import asyncio
from typing import Any

from structlog.testing import capture_logs

from app.core.log import configure
from app.queue.jobs import WAKE_CHANNEL, enqueue
from tests.queue.harness import FUNCTIONS, queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until

WITHOUT_BRIEF = [one for one in FUNCTIONS if one.name != "brief"]


async def test_a_job_that_a_worker_does_not_know_is_left_to_one_that_does(
    redis_server: RedisProcess,
) -> None:
    wanted = {f"j{number}" for number in range(30)}

    async with queue_of(redis_server.url) as queue, working(redis_server.url):
        async with working(redis_server.url, functions=WITHOUT_BRIEF, max_jobs=100):
            await until(lambda: queue.listeners(WAKE_CHANNEL))
            for job_id in wanted:
                await enqueue(queue.redis, "brief", job_id, job_id=job_id)
            await until(queue.none_waiting)

        assert {job_id for job_id in wanted if await queue.notes(job_id)} == wanted
        assert await queue.keys("arq:retry:*") == []


async def test_a_job_that_no_worker_knows_waits_for_one_that_does(
    redis_server: RedisProcess,
) -> None:
    configure()
    async with queue_of(redis_server.url) as queue:
        with capture_logs() as lines:
            async with working(redis_server.url, functions=WITHOUT_BRIEF):
                await enqueue(queue.redis, "brief", "kept", job_id="kept")
                await enqueue(queue.redis, "brief", "kept", job_id="kept too")
                await until(lambda: _said(lines))
                await asyncio.sleep(2.5)  # it is claimed and left several times
                waiting = await queue.waiting()
            left = await queue.keys("arq:in-progress:*"), await queue.keys("arq:retry:*")

        async with working(redis_server.url):
            await until(lambda: queue.notes("kept", least=2))

    assert sorted(waiting) == ["kept", "kept too"]
    assert left == ([], [])
    assert [line["task"] for line in _said(lines)] == ["brief"]


def _said(lines: list[Any]) -> list[Any]:
    return [line for line in lines if line["event"] == "job.unknown"]
