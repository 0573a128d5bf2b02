"""A claim is short and renewed: what a dead worker held is soon free, a live one's is not."""

import asyncio
import signal
import time
from pathlib import Path

from app.queue.jobs import enqueue
from tests.queue.harness import queue_of, worker_process, working
from tests.redis_process import RedisProcess
from tests.wait import until

KEY = "arq:in-progress:long"


async def test_the_claim_of_a_long_job_is_short_and_renewed_until_it_ends(
    redis_server: RedisProcess,
) -> None:
    left: list[int] = []

    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, ctx={"lease_seconds": 0.5}),
    ):
        await enqueue(queue.redis, "brief", "brief", 1.5, job_id="long")
        await until(lambda: queue.notes("brief"))
        end = time.monotonic() + 1.2
        while time.monotonic() < end:
            left.append(await queue.lives_ms(KEY))
            await asyncio.sleep(0.05)
        await until(queue.none_waiting)
        gone = await queue.lives_ms(KEY)

    assert all(0 < ms <= 500 for ms in left), left
    assert gone == -2


async def test_a_job_of_a_killed_worker_is_taken_up_within_two_leases(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    ctx = {"lease_seconds": 1}

    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, ctx=ctx) as dead:
            await enqueue(queue.redis, "letting_go", job_id="long")
            await until(lambda: queue.notes("started"))
            dead.kill()
            killed = time.time()
            async with working(redis_server.url, ctx=ctx):
                notes = await until(lambda: queue.notes("started", least=2))

    assert notes[1] - killed < 2


async def test_a_worker_does_not_renew_a_claim_that_another_holds(
    redis_server: RedisProcess,
) -> None:
    beats: list[float] = []

    async def beat() -> None:
        beats.append(time.monotonic())

    ctx = {"lease_seconds": 0.3, "heartbeat": beat}
    async with queue_of(redis_server.url) as queue, working(redis_server.url, ctx=ctx):
        await enqueue(queue.redis, "brief", "brief", 1.5, job_id="long")
        await until(lambda: queue.notes("brief"))
        await queue.redis.set(KEY, "another's", px=60_000)
        seen = len(beats)
        await until(lambda: len(beats) >= seen + 3)

        assert await queue.lives_ms(KEY) > 30_000


async def test_a_stopped_worker_that_comes_back_goes_on_working(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, ctx={"lease_seconds": 1}) as worker:
            await until(lambda: queue.notes("startup"))
            worker.send_signal(signal.SIGSTOP)
            await asyncio.sleep(0.5)
            worker.send_signal(signal.SIGCONT)
            await enqueue(queue.redis, "brief")

            assert await until(lambda: queue.notes("brief"))


async def test_the_heartbeat_beats_from_start_through_the_drain_and_may_fail(
    redis_server: RedisProcess,
) -> None:
    beats: list[bool] = []

    async def beat() -> None:
        beats.append(worker.allow_pick_jobs)
        raise ValueError("no database")

    changes = {"ctx": {"lease_seconds": 0.15}, "job_completion_wait": 1}
    async with queue_of(redis_server.url) as queue, working(redis_server.url, **changes) as worker:
        worker.ctx["heartbeat"] = beat
        await until(lambda: len(beats) > 2)
        await enqueue(queue.redis, "brief", "brief", 0.5)
        await until(lambda: queue.notes("brief"))

    assert beats.count(False) >= 2
