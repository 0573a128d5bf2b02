"""Redis goes away; the worker does not."""

import asyncio

from structlog.testing import capture_logs

from app.queue.jobs import WAKE_CHANNEL, enqueue, redis_pool
from tests.queue.harness import queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until

RESTARTS = 40


async def test_it_survives_forty_restarts_under_load_and_gives_every_slot_back(
    redis_server: RedisProcess,
) -> None:
    done: set[str] = set()
    ctx = {"seen": done}

    async with (
        queue_of(redis_server.url) as queue,
        working(
            redis_server.url, poll_delay=0.05, max_jobs=5, ctx=ctx | {"lease_seconds": 1}
        ) as worker,
    ):
        await until(lambda: queue.listeners(WAKE_CHANNEL))
        for i in range(RESTARTS):
            names = [f"r{i}.{j}" for j in range(6)]
            await asyncio.gather(
                *(enqueue(queue.redis, "quiet", name, 0.02, job_id=name) for name in names)
            )
            await asyncio.sleep(0.003 * (i % 10))  # another moment of the work each time
            redis_server.kill()
            redis_server.start()
            await until(queue.answers)
            await until(lambda names=names: done.issuperset(names))
        await until(queue.none_waiting)
        await until(lambda: worker.job_counter == 0)

        assert worker.main_task is not None
        assert not worker.main_task.done()
        assert not worker.sem.locked()
        assert worker.sem._value == worker.max_jobs + 1


async def test_a_job_that_ends_while_redis_is_away_is_not_run_again(
    redis_server: RedisProcess,
) -> None:
    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, poll_delay=0.05) as worker,
    ):
        await enqueue(queue.redis, "brief", "once", 0.3, job_id="once")
        await until(lambda: queue.notes("once"))
        redis_server.kill()
        await until(lambda: not worker.job_tasks)
        redis_server.start()
        await until(queue.answers)
        await until(queue.none_waiting)

        assert len(await queue.notes("once")) == 1
        assert await queue.keys("arq:in-progress:*") == []


async def test_it_waits_for_a_redis_that_is_away_when_it_starts(redis_server: RedisProcess) -> None:
    redis_server.kill()

    with capture_logs() as lines:
        async with working(redis_server.url, poll_delay=0.05), queue_of(redis_server.url) as queue:
            await until(lambda: lines)
            redis_server.start()
            await until(queue.answers)
            await until(lambda: queue.notes("startup"))
            await enqueue(queue.redis, "brief")
            await until(lambda: queue.notes("brief"))
            started = await queue.notes("startup")

    assert len(started) == 1
    assert [line["event"] for line in lines[:2]] == ["worker.redis_away", "worker.redis_back"]


async def test_the_wake_works_again_soon_after_an_outage(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue, working(redis_server.url, poll_delay=30):
        await until(lambda: queue.listeners(WAKE_CHANNEL))
        redis_server.kill()
        redis_server.start()
        await until(queue.answers)
        await until(lambda: queue.listeners(WAKE_CHANNEL), 10)
        await enqueue(queue.redis, "brief")

        assert await until(lambda: queue.notes("brief"), 10)


async def test_what_was_queued_while_the_wake_was_away_is_found_when_it_is_back(
    redis_server: RedisProcess,
) -> None:
    async with queue_of(redis_server.url) as queue, working(redis_server.url, poll_delay=30):
        await until(lambda: queue.listeners(WAKE_CHANNEL))
        redis_server.kill()
        redis_server.start()
        await until(queue.answers)
        await queue.redis.enqueue_job("brief")

        assert await until(lambda: queue.notes("brief"), 10)


async def test_an_emptied_redis_does_not_end_the_worker(redis_server: RedisProcess) -> None:
    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, poll_delay=0.05) as worker,
    ):
        await enqueue(queue.redis, "brief", "one", 0.2)
        await until(lambda: queue.notes("one"))
        await queue.flush()
        await enqueue(queue.redis, "brief", "two")
        await until(lambda: queue.notes("two"))
        await until(lambda: worker.job_counter == 0)

        assert await queue.waiting() == []


async def test_a_redis_that_hangs_longer_than_a_timeout_is_waited_for(
    redis_server: RedisProcess,
) -> None:
    pool = redis_pool(redis_server.url, timeout=0.3)

    with capture_logs() as lines:
        async with (
            queue_of(redis_server.url) as queue,
            working(redis_server.url, redis_pool=pool, poll_delay=0.05) as worker,
        ):
            await until(lambda: queue.listeners(WAKE_CHANNEL))
            redis_server.freeze()
            await until(lambda: lines)
            redis_server.thaw()
            await until(lambda: len(lines) >= 2)
            await enqueue(queue.redis, "brief")
            await until(lambda: queue.notes("brief"))
            await until(lambda: worker.job_counter == 0)

    assert [line["event"] for line in lines[:2]] == ["worker.redis_away", "worker.redis_back"]
