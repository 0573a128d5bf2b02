"""One budget per host: never exceeded, shared by all workers, slower when asked to be."""

import asyncio
import os
import sys
import tempfile
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.fetch.limiter import LocalLimiter, RedisLimiter
from app.messages import Limits

HOST = "a.test:443"


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def crowded(starts: list[float], limits: Limits, slack: float = 1e-6) -> bool:
    """Whether any window holds more starts than rate * window + burst."""
    ordered = sorted(starts)
    return any(
        last - first + 1 > limits.rate * (ordered[last] - ordered[first] + slack) + limits.burst
        for first in range(len(ordered))
        for last in range(first, len(ordered))
    )


gaps = st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0]), max_size=40)


@given(gaps, st.sampled_from([0.5, 2.0, 7.0]), st.integers(1, 5), st.sampled_from([0.0, 1.0, 30.0]))
async def test_no_window_holds_more_than_rate_and_burst(
    gaps: list[float], rate: float, burst: int, patience: float
) -> None:
    clock, limits = Clock(), Limits(rate=rate, burst=burst, concurrency=1)
    limiter = LocalLimiter(clock)
    starts: list[float] = []
    for gap in gaps:
        clock.now += gap
        wait = await limiter.reserve(HOST, limits, patience=patience)
        if wait <= patience:
            starts.append(clock.now + wait)

    assert not crowded(starts, limits)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0]), st.booleans()), max_size=40)
)
async def test_nothing_starts_in_a_cool_down_and_no_error_speeds_anything_up(
    steps: list[tuple[float, bool]],
) -> None:
    clock, limits = Clock(), Limits(rate=2, burst=3, concurrency=1)
    limiter, plain = LocalLimiter(clock), LocalLimiter(clock)
    closed = 0.0
    for gap, refused in steps:
        clock.now += gap
        if refused:
            await limiter.penalise(HOST, 5.0)
            closed = clock.now + 5.0
        wait = await limiter.reserve(HOST, limits, patience=1e9)

        assert clock.now + wait >= closed - 1e-6
        assert wait >= await plain.reserve(HOST, limits, patience=1e9) - 1e-6


LIMITS = Limits(rate=10, burst=1, concurrency=1)


async def local_or_shared(kind: str, redis: Redis, clock: Clock) -> LocalLimiter | RedisLimiter:
    return LocalLimiter(clock) if kind == "local" else RedisLimiter(redis)


@pytest.mark.parametrize("kind", ["local", "shared"])
async def test_a_refusal_leaves_no_debt(kind: str, redis: Redis) -> None:
    limiter = await local_or_shared(kind, redis, Clock())
    slow = Limits(rate=0.01, burst=1, concurrency=1)
    await limiter.reserve(HOST, slow)

    refused = [await limiter.reserve(HOST, slow) for _ in range(3)]

    assert refused == pytest.approx([100, 100, 100], abs=2)


@pytest.mark.parametrize("kind", ["local", "shared"])
async def test_a_throttled_host_is_asked_half_as_often_and_comes_back_by_clean_answers(
    kind: str, redis: Redis
) -> None:
    limiter = await local_or_shared(kind, redis, Clock())

    async def interval() -> float:
        first = await limiter.reserve(HOST, LIMITS, patience=1e6)
        return await limiter.reserve(HOST, LIMITS, patience=1e6) - first

    before = await interval()
    await limiter.penalise(HOST, 0.0)
    await limiter.penalise(HOST, 0.0)  # was under way together with the first
    await limiter.reserve(HOST, LIMITS, patience=1e6)
    slowed = await interval()
    for _ in range(20):
        await limiter.clean(HOST)
    await limiter.reserve(HOST, LIMITS, patience=1e6)
    eased = await interval()
    for _ in range(20 * 20):
        await limiter.clean(HOST)
    await limiter.reserve(HOST, LIMITS, patience=1e6)
    healed = await interval()

    assert [before, slowed, eased, healed] == pytest.approx([0.1, 0.2, 0.19, 0.1], abs=0.008)


async def test_a_cool_down_is_seen_by_every_worker(redis: Redis) -> None:
    one, other = RedisLimiter(redis), RedisLimiter(redis)

    await one.penalise(HOST, 60.0)

    assert await other.reserve(HOST, LIMITS) == pytest.approx(60, abs=1)
    assert await other.reserve("b.test:443", LIMITS) == 0


WORKER = """
import asyncio, sys, time
from redis.asyncio import Redis
from app.fetch.limiter import RedisLimiter
from app.messages import Limits

async def main(path, rate, burst, count):
    async with Redis(unix_socket_path=path) as redis:
        limiter = RedisLimiter(redis)
        limits = Limits(rate=float(rate), burst=int(burst), concurrency=1)
        for _ in range(int(count)):
            before = time.monotonic()
            wait = await limiter.reserve("a.test:443", limits)
            await asyncio.sleep(max(before + wait - time.monotonic(), 0))
            print(before, time.monotonic(), wait)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_workers_in_processes_of_their_own_keep_one_budget(
    redis: Redis, redis_socket: str, request: pytest.FixtureRequest
) -> None:
    limits = Limits(rate=60, burst=5, concurrency=1)
    args = ["-c", WORKER, redis_socket, str(limits.rate), str(limits.burst), "25"]
    workers = [
        await asyncio.create_subprocess_exec(
            sys.executable, *args, stdout=asyncio.subprocess.PIPE, cwd=request.config.rootpath
        )
        for _ in range(4)
    ]
    said = [out.decode() for out, _ in await asyncio.gather(*(w.communicate() for w in workers))]
    lines = [line.split() for out in said for line in out.splitlines()]
    starts = [float(line[1]) for line in lines]

    assert len(starts) == 100
    assert max(starts) - min(starts) >= (100 - limits.burst) / limits.rate - 0.1
    # A process that is woken late starts late: a tenth of a second of that is not the limiter's.
    assert not crowded(starts, limits, slack=0.1)
    assert await redis.zcard(f"rollcall:limit:{HOST}:workers") == 4


async def test_many_tasks_on_connections_of_their_own_are_granted_exactly_the_budget(
    redis: Redis, redis_socket: str
) -> None:
    limits = Limits(rate=10, burst=4, concurrency=1)
    grants: list[float] = []

    async def worker() -> None:
        async with Redis(unix_socket_path=redis_socket) as own:
            limiter = RedisLimiter(own)
            for _ in range(10):
                before = time.monotonic()
                wait = await limiter.reserve(HOST, limits)
                grants.append((before + time.monotonic()) / 2 + wait)

    await asyncio.gather(*(worker() for _ in range(8)))

    assert len(grants) == 80
    assert not crowded(grants, limits, slack=0.1)
    assert max(grants) - min(grants) == pytest.approx(76 / 10, abs=0.2)
    assert await redis.exists(f"rollcall:limit:{HOST}") == 1


async def test_without_redis_each_worker_keeps_to_its_share(
    redis: Redis, redis_socket: str
) -> None:
    clock = Clock()
    with tempfile.TemporaryDirectory(prefix="rc") as folder:
        way = f"{folder}/r.sock"
        os.symlink(redis_socket, way)  # noqa: PTH211 - no path of pathlib's in async code
        async with Redis(unix_socket_path=way) as own:
            limiter = RedisLimiter(own, clock=clock)
            await RedisLimiter(redis).reserve(HOST, LIMITS)
            await limiter.reserve(HOST, LIMITS)  # now it knows that there are two
            os.unlink(way)  # noqa: PTH108 - as above
            await own.connection_pool.disconnect()  # pyright: ignore[reportGeneralTypeIssues] - redis-py is wrong here

            waits = [await limiter.reserve(HOST, LIMITS) for _ in range(3)]
            await limiter.penalise(HOST, 90.0)
            closed = await limiter.reserve(HOST, LIMITS)
            os.symlink(redis_socket, way)  # noqa: PTH211 - no path of pathlib's in async code
            clock.now += 2
            back = await limiter.reserve(HOST, LIMITS, patience=100.0)

    assert waits == pytest.approx([0.0, 0.2, 0.4])
    assert closed == pytest.approx(90)
    assert back == pytest.approx(88)  # what was learnt while Redis was away is not forgotten
