"""When jobs start: at once when announced, on the instant when deferred, when a slot falls free.

How late they start is judged by the median: on a busy machine any single one may be held up.
"""

import asyncio
import statistics
import time

from app.queue.jobs import WAKE_CHANNEL, enqueue, enqueue_many
from tests.queue.harness import Ctx, Queue, every_second, queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until


async def test_an_enqueued_job_starts_long_before_the_next_poll(redis_server: RedisProcess) -> None:
    late: list[float] = []

    async with queue_of(redis_server.url) as queue, working(redis_server.url, poll_delay=5):
        await until(lambda: queue.listeners(WAKE_CHANNEL))
        for i in range(10):
            sent = time.time()
            await enqueue(queue.redis, "brief", f"n{i}")
            [started] = await until(lambda i=i: queue.notes(f"n{i}"))
            late.append(started - sent)

    assert statistics.median(late) < 0.25, late


async def test_a_deferred_job_starts_on_its_instant_and_never_before(
    redis_server: RedisProcess,
) -> None:
    late: list[float] = []

    async with queue_of(redis_server.url) as queue, working(redis_server.url, poll_delay=5):
        await until(lambda: queue.listeners(WAKE_CHANNEL))
        for i in range(8):
            seconds = 0.137_499 + i / 1000
            due = time.time() + seconds
            await enqueue(queue.redis, "brief", f"d{i}", defer_by=seconds)
            [started] = await until(lambda i=i: queue.notes(f"d{i}"))
            late.append(started - due)

    assert min(late) >= 0, late
    assert statistics.median(late) < 0.15, late


async def test_a_cron_ring_starts_on_its_instant_and_not_at_the_next_poll(
    redis_server: RedisProcess,
) -> None:
    rings = [every_second()]

    async with queue_of(redis_server.url) as queue, working(redis_server.url, cron_jobs=rings):
        notes = await until(lambda: queue.notes("ring", least=5))

    assert statistics.median(started % 1 for started in notes) < 0.15, notes


async def test_short_jobs_follow_each_other_without_waiting_for_the_poll(
    redis_server: RedisProcess,
) -> None:
    wanted = [("brief", ("brief", 0.01), f"b{i}") for i in range(50)]

    async with queue_of(redis_server.url) as queue:
        await enqueue_many(queue.redis, wanted)
        async with working(redis_server.url, poll_delay=60, max_jobs=2):
            notes = await until(lambda: queue.notes("brief", least=50))

    assert len(notes) == 50


async def test_a_wake_of_nonsense_starts_nothing_and_kills_nothing(
    redis_server: RedisProcess,
) -> None:
    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, poll_delay=60) as worker,
    ):
        await until(lambda: queue.listeners(WAKE_CHANNEL))
        await queue.say(WAKE_CHANNEL, b"\xff\xfe")
        await queue.say(WAKE_CHANNEL, b"no-such-job")
        await enqueue(queue.redis, "brief")
        await until(lambda: queue.notes("brief"))

        assert await until(lambda: worker.job_counter == 0)


async def test_no_more_jobs_run_at_once_than_there_are_slots(redis_server: RedisProcess) -> None:
    most = 0

    async with queue_of(redis_server.url) as queue, working(redis_server.url, max_jobs=3) as worker:
        for i in range(30):
            await enqueue(queue.redis, "brief", "brief", 0.02, job_id=f"s{i}")
            most = max(most, worker.job_counter)
        while len(await queue.notes("brief")) < 30:
            most = max(most, worker.job_counter)
            await asyncio.sleep(0.005)
        await until(lambda: worker.job_counter == 0)

    assert most == 3


async def test_two_workers_never_start_the_same_job(redis_server: RedisProcess) -> None:
    names = [f"j{i}" for i in range(200)]

    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, poll_delay=0.01) as one,
        working(redis_server.url, poll_delay=0.01) as other,
    ):
        await until(lambda: _both_listen(queue))
        await asyncio.gather(*(enqueue(queue.redis, "brief", name) for name in names))
        await until(queue.none_waiting)
        counts = [len(await queue.notes(name)) for name in names]

    assert counts == [1] * 200
    assert one.jobs_complete > 0
    assert other.jobs_complete > 0


async def _both_listen(queue: Queue) -> bool:
    return await queue.listeners(WAKE_CHANNEL) == 2


async def test_a_job_that_failed_outside_its_body_is_free_again_at_once(
    redis_server: RedisProcess,
) -> None:
    starts: list[str] = []

    async def stumble(ctx: Ctx) -> None:
        starts.append(ctx["job_id"])
        if len(starts) == 1:
            raise ConnectionError("Redis went away between the claim and the body")

    changes = {"on_job_start": stumble, "poll_delay": 0.1, "ctx": {"lease_seconds": 60}}
    async with queue_of(redis_server.url) as queue, working(redis_server.url, **changes) as worker:
        await enqueue(queue.redis, "brief", job_id="one")
        await until(lambda: queue.notes("brief"))
        await until(lambda: worker.job_counter == 0)

    assert starts == ["one", "one"]


async def test_runs_wait_in_the_queue_for_their_slots_and_hold_up_no_cron_job(
    redis_server: RedisProcess,
) -> None:
    """`run_slots` of them at once; the others are neither claimed nor tried meanwhile."""
    wanted = [("brief", ("brief", 1.2), f"b{i}") for i in range(30)]

    async with queue_of(redis_server.url) as queue:
        await enqueue_many(queue.redis, wanted)
        slots = {"ctx": {"run_slots": 2}, "max_jobs": 5, "poll_delay": 0.1}
        async with working(redis_server.url, cron_jobs=[every_second()], **slots):
            await until(lambda: queue.notes("brief", least=2))
            claimed = await until(lambda: queue.keys("arq:in-progress:b*"))
            rings = await until(lambda: queue.notes("ring", least=3))
            started, tried = await queue.notes("brief"), await queue.keys("arq:retry:b*")

    assert len(claimed) == 2
    assert statistics.median(at % 1 for at in rings) < 0.3, rings
    assert len(tried) <= len(started) <= 2 * (1 + (max(rings) - started[0]) / 1.2)


async def test_a_run_starts_once_a_slot_for_runs_is_free(redis_server: RedisProcess) -> None:
    wanted = [("brief", ("brief", 0.01), f"b{i}") for i in range(50)]

    async with queue_of(redis_server.url) as queue:
        await enqueue_many(queue.redis, wanted)
        slots = {"ctx": {"run_slots": 1}, "max_jobs": 4, "poll_delay": 60}
        async with working(redis_server.url, **slots) as worker:
            notes = await until(lambda: queue.notes("brief", least=50))
            await until(queue.none_waiting)

    assert len(notes) == 50
    assert worker.jobs_retried == 0
