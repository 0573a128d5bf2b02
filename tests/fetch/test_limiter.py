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

from app.core.errors import Failure, RateLimited
from app.core.messages import HostLimits
from app.fetch.limiter import Admission, Limiter, LocalLimiter, Permit, RedisLimiter
from app.fetch.rates import Rates

HOST = "a.test:443"


class Clock:
    """A clock that is told the time."""

    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def crowded(starts: list[float], limits: HostLimits, slack: float = 1e-6) -> bool:
    """Whether any window holds more starts than rate * window + burst."""
    ordered = sorted(starts)
    return any(
        last - first + 1 > limits.rate * (ordered[last] - ordered[first] + slack) + limits.burst
        for first in range(len(ordered))
        for last in range(first, len(ordered))
    )


gaps = st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0]), max_size=40)


@given(gaps, st.sampled_from([0.5, 2.0, 7.0]), st.integers(1, 5), st.sampled_from([0.0, 1.0, 30.0]))
def test_no_window_holds_more_than_rate_and_burst(
    gaps: list[float], rate: float, burst: int, patience: float
) -> None:
    clock, limits = Clock(), HostLimits(rate=rate, burst=burst, concurrency=1)
    rates = Rates(clock)
    starts: list[float] = []
    for gap in gaps:
        clock.now += gap
        wait = rates.reserve(HOST, limits, patience=patience)
        if wait <= patience:
            starts.append(clock.now + wait)

    assert not crowded(starts, limits)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0]), st.booleans()), max_size=40)
)
def test_nothing_starts_in_a_cool_down_and_no_error_speeds_anything_up(
    steps: list[tuple[float, bool]],
) -> None:
    clock, limits = Clock(), HostLimits(rate=2, burst=3, concurrency=1)
    rates, plain = Rates(clock), Rates(clock)
    closed = 0.0
    for gap, refused in steps:
        clock.now += gap
        if refused:
            rates.penalise(HOST, 5.0)
            closed = clock.now + 5.0
        wait = rates.reserve(HOST, limits, patience=1e9)

        assert clock.now + wait >= closed - 1e-6
        assert wait >= plain.reserve(HOST, limits, patience=1e9) - 1e-6


LIMITS = HostLimits(rate=10, burst=1, concurrency=1_000)


def local_or_shared(kind: str, redis: Redis, clock: Clock) -> Limiter:
    return LocalLimiter(clock) if kind == "local" else RedisLimiter(redis)


async def waited(
    limiter: Limiter, limits: HostLimits = LIMITS, *, host: str = HOST, patience: float = 30.0
) -> float:
    """How long the limiter says to wait; the request itself takes no time."""
    passed = await limiter.acquire(host, limits, patience=patience)
    if passed.admission is Admission.GO:
        limiter.release(passed)
    return passed.wait


async def told(limiter: Limiter, failure: Failure | None, times: int = 1) -> None:
    for _ in range(times):
        await limiter.record(Permit(HOST, Admission.GO), failure)


@pytest.mark.parametrize("kind", ["local", "shared"])
async def test_a_refusal_leaves_no_debt(kind: str, redis: Redis) -> None:
    limiter = local_or_shared(kind, redis, Clock())
    slow = HostLimits(rate=0.01, burst=1, concurrency=1)
    await waited(limiter, slow)

    refused = [await waited(limiter, slow) for _ in range(3)]

    assert refused == pytest.approx([100, 100, 100], abs=2)


@pytest.mark.parametrize("kind", ["local", "shared"])
async def test_a_throttled_host_is_asked_half_as_often_and_comes_back_by_clean_answers(
    kind: str, redis: Redis
) -> None:
    limiter = local_or_shared(kind, redis, Clock())
    slow_down = RateLimited("slow down", status=429)

    async def interval() -> float:
        await waited(limiter, patience=1e6)  # has what was learnt before
        first = await waited(limiter, patience=1e6)
        return await waited(limiter, patience=1e6) - first

    before = await interval()
    await told(limiter, slow_down, 2)  # the second was under way together with the first
    slowed = await interval()
    await told(limiter, None, 20)
    eased = await interval()
    await told(limiter, None, 20 * 20)
    healed = await interval()

    assert [before, slowed, eased, healed] == pytest.approx([0.1, 0.2, 0.19, 0.1], abs=0.008)


async def test_a_cool_down_is_seen_by_every_worker(redis: Redis) -> None:
    one, other = RedisLimiter(redis), RedisLimiter(redis)

    await told(one, RateLimited("slow down", status=429, retry_in=60.0))

    assert await waited(other) == pytest.approx(60, abs=1)
    assert await waited(other, host="b.test:443") == 0


@pytest.mark.parametrize("kind", ["local", "shared"])
async def test_one_request_in_ten_may_be_a_retry_and_ten_in_any_case(
    kind: str, redis: Redis
) -> None:
    limiter = local_or_shared(kind, redis, Clock())
    fast = HostLimits(rate=1e6, burst=1_000, concurrency=1_000)

    async def retried() -> list[Admission]:
        return [(await limiter.acquire(HOST, fast, again=True)).admission for _ in range(16)]

    at_first = await retried()
    for _ in range(149 - 10):
        await limiter.acquire(HOST, fast)
    passed = await limiter.acquire(HOST, fast)
    later = await retried()
    elsewhere = await limiter.acquire("b.test:443", fast, again=True)

    assert [at_first.count(Admission.GO), later.count(Admission.GO)] == [10, 5]
    assert set(at_first[10:]) == {Admission.SPENT}
    assert passed.may_retry
    assert elsewhere.admission is Admission.GO


async def test_retries_of_all_workers_are_counted_together_until_the_hour_is_over(
    redis: Redis,
) -> None:
    late = 0.0
    fast = HostLimits(rate=1e6, burst=1_000, concurrency=1_000)
    workers = [RedisLimiter(redis, ahead=lambda: late) for _ in range(3)]

    async def retried() -> int:
        passes = [await workers[n % 3].acquire(HOST, fast, again=True) for n in range(15)]
        return [passed.admission for passed in passes].count(Admission.GO)

    first, second = await retried(), await retried()
    late = 3_600.0
    next_hour = await retried()

    assert (first, second, next_hour) == (10, 0, 10)


WORKER = """
import asyncio, sys, time
from redis.asyncio import Redis
from app.fetch.limiter import RedisLimiter
from app.core.messages import Limits

async def main(path, rate, burst, count):
    async with Redis(unix_socket_path=path) as redis:
        limiter = RedisLimiter(redis)
        limits = Limits(rate=float(rate), burst=int(burst), concurrency=100)
        for _ in range(int(count)):
            before = time.monotonic()
            passed = await limiter.enter("a.test:443", limits)
            await asyncio.sleep(max(before + passed.wait - time.monotonic(), 0))
            print(before, time.monotonic(), passed.wait)
            limiter.free(passed)

asyncio.run(main(*sys.argv[1:]))
"""


async def test_workers_in_processes_of_their_own_keep_one_budget(
    redis: Redis, redis_socket: str, request: pytest.FixtureRequest
) -> None:
    limits = HostLimits(rate=60, burst=5, concurrency=1)
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
    limits = HostLimits(rate=10, burst=4, concurrency=100)
    grants: list[float] = []

    async def worker() -> None:
        async with Redis(unix_socket_path=redis_socket) as own:
            limiter = RedisLimiter(own)
            for _ in range(10):
                before = time.monotonic()
                wait = await waited(limiter, limits)
                grants.append((before + time.monotonic()) / 2 + wait)
            await limiter.close()

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
            await waited(RedisLimiter(redis))
            await waited(limiter)  # now it knows that there are two
            os.unlink(way)  # noqa: PTH108 - as above
            await own.connection_pool.disconnect()  # pyright: ignore[reportGeneralTypeIssues] - redis-py is wrong here

            waits = [await waited(limiter) for _ in range(3)]
            await told(limiter, RateLimited("slow down", status=429, retry_in=90.0))
            closed = await waited(limiter)
            os.symlink(redis_socket, way)  # noqa: PTH211 - no path of pathlib's in async code
            clock.now += 2
            back = await waited(limiter, patience=100.0)
            await limiter.close()

    assert waits == pytest.approx([0.0, 0.2, 0.4])
    assert closed == pytest.approx(90)
    assert back == pytest.approx(88)  # what was learnt while Redis was away is not forgotten
