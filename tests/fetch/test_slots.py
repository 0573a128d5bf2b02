"""Requests under way at once: never more than allowed, by all workers together, and none lost."""

import asyncio
import sys
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.core.messages import HostLimits
from app.fetch.limiter import RedisLimiter
from app.fetch.permits import SLOT_LEASE, Admission
from app.fetch.slots import Slots
from tests.wait import until

HOST = "a.test:443"


def limits(concurrency: int) -> HostLimits:
    return HostLimits(rate=1e6, burst=100_000, concurrency=concurrency)


@given(st.integers(1, 4), st.lists(st.sampled_from(["take", "free", "cancel"]), max_size=40))
@settings(max_examples=60)
async def test_any_story_keeps_the_bound_and_serves_first_come_first_served(
    most: int, story: list[str]
) -> None:
    slots, served, line = Slots(), list[asyncio.Task[float]](), list[asyncio.Task[float]]()
    for step in story:
        if step == "take":
            line.append(asyncio.create_task(slots.acquire(HOST, most)))
        elif step == "free" and served:
            served.pop(0)
            slots.release(HOST)
        elif step == "cancel" and line:
            line.pop().cancel()
        for _ in range(3):
            await asyncio.sleep(0)
        due = most - len(served)
        served, line = [*served, *line[:due]], line[due:]

        assert all(task.done() for task in served)
        assert not any(task.done() for task in line)
    for task in line:
        task.cancel()


WORKER = """
import asyncio, sys, time
from redis.asyncio import Redis
from app.fetch.limiter import RedisLimiter
from app.core.messages import HostLimits

async def main(path, tasks, count):
    async with Redis(unix_socket_path=path) as redis:
        limiter = RedisLimiter(redis)
        limits = HostLimits(rate=1e6, burst=100000, concurrency=3)
        async def ask():
            for _ in range(int(count)):
                passed = await limiter.acquire("a.test:443", limits)
                began = time.monotonic()
                await asyncio.sleep(0.004)
                print(began, time.monotonic())
                limiter.release(passed)
        await asyncio.gather(*(ask() for _ in range(int(tasks))))
        await limiter.close()

asyncio.run(main(*sys.argv[1:]))
"""


async def test_workers_in_processes_of_their_own_never_exceed_the_concurrency(
    redis: Redis, redis_socket: str, request: pytest.FixtureRequest
) -> None:
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable,
            *("-c", WORKER, redis_socket, "4", "12"),
            stdout=asyncio.subprocess.PIPE,
            cwd=request.config.rootpath,
        )
        for _ in range(3)
    ]
    said = [out.decode() for out, _ in await asyncio.gather(*(w.communicate() for w in workers))]
    spans = [tuple(map(float, line.split())) for out in said for line in out.splitlines()]
    edges = sorted((at, change) for span in spans for at, change in zip(span, (1, -1), strict=True))
    under_way = most = 0
    for _, change in edges:
        under_way += change
        most = max(most, under_way)

    assert len(spans) == 3 * 4 * 12
    assert most == 3
    assert await redis.exists(f"rollcall:limit:{HOST}") == 1


async def test_a_slot_that_falls_free_wakes_the_other_worker_at_once(redis: Redis) -> None:
    one, other = RedisLimiter(redis), RedisLimiter(redis)
    held = await one.acquire(HOST, limits(1))
    waiting = asyncio.create_task(other.acquire(HOST, limits(1)))
    await until(lambda: redis.exists(f"rollcall:limit:{HOST}:waiting"))

    one.release(held)
    began = time.monotonic()
    passed = await waiting

    assert time.monotonic() - began < 0.5
    assert passed.queued_seconds > 0


async def test_a_worker_that_is_always_busy_does_not_starve_the_others(redis: Redis) -> None:
    greedy, modest = RedisLimiter(redis), RedisLimiter(redis)
    stop = False

    async def over_and_over() -> None:
        while not stop:
            passed = await greedy.acquire(HOST, limits(2))
            await asyncio.sleep(0)
            greedy.release(passed)

    hogs = [asyncio.create_task(over_and_over()) for _ in range(6)]
    async with asyncio.timeout(10):
        for _ in range(3):
            modest.release(await modest.acquire(HOST, limits(2)))
    served = not any(hog.done() for hog in hogs)
    stop = True
    await asyncio.gather(*hogs)

    assert served


async def test_the_slots_of_a_dead_worker_come_free_with_their_lease(redis: Redis) -> None:
    late = 0.0
    dead, alive = (RedisLimiter(redis, ahead=lambda: late) for _ in range(2))
    for _ in range(2):
        await dead.acquire(HOST, limits(2))

    late = SLOT_LEASE + 1
    async with asyncio.timeout(5):
        passed = await alive.acquire(HOST, limits(2))

    assert passed.admission is Admission.GO


async def test_the_slots_of_a_worker_that_beats_are_free_as_soon_as_it_is_silent(
    redis: Redis,
) -> None:
    dead, alive = RedisLimiter(redis, worker="host:1:a"), RedisLimiter(redis, worker="host:2:b")
    await dead.heartbeat(0.2)
    await alive.heartbeat(60)
    for _ in range(2):
        await dead.acquire(HOST, limits(2))

    async with asyncio.timeout(5):
        passed = await alive.acquire(HOST, limits(2))
    async with asyncio.timeout(5):
        again = await alive.acquire(HOST, limits(2))

    assert passed.admission is again.admission is Admission.GO
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1.5):
            await dead.acquire(HOST, limits(2))  # who lives and holds its slots keeps them


async def test_requests_that_are_cancelled_while_they_ask_leave_no_slot_taken(
    redis: Redis,
) -> None:
    limiter = RedisLimiter(redis)
    for n in range(60):
        tasks = [asyncio.create_task(limiter.acquire(HOST, limits(5))) for _ in range(10)]
        for _ in range(n % 8):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            if not isinstance(ended, BaseException):
                limiter.release(ended)

    async with asyncio.timeout(5):
        passes = [await limiter.acquire(HOST, limits(5)) for _ in range(5)]

    assert {passed.admission for passed in passes} == {Admission.GO}
