"""One budget per host: never exceeded, shared by all workers, slower when asked to be."""

import asyncio
import itertools
import os
import sys
import tempfile
import time
from typing import Any, cast

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis
from structlog.testing import capture_logs

from app.core.errors import Failure, HttpStatus, RateLimited
from app.core.messages import HostLimits
from app.fetch.limiter import RedisLimiter
from app.fetch.limiter_scripts import TENANT_HOSTS
from app.fetch.permits import Admission, Limiter, Permit
from app.fetch.rates import HALVING_SECONDS

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


gaps = st.lists(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0]), max_size=25)
hosts = (f"{n}.test:443" for n in itertools.count())
story = settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@given(gaps, st.sampled_from([0.5, 2.0, 7.0]), st.integers(1, 5), st.sampled_from([0.0, 1.0, 30.0]))
@story
async def test_no_window_holds_more_than_rate_and_burst(
    redis: Redis, gaps: list[float], rate: float, burst: int, patience: float
) -> None:
    clock, limits, host = Clock(), HostLimits(rate=rate, burst=burst, concurrency=1), next(hosts)
    limiter = RedisLimiter(redis, ahead=clock)
    starts: list[float] = []
    for gap in gaps:
        clock.now += gap
        before = clock.now + time.monotonic()
        permit = await limiter.acquire(host, limits, patience=patience)
        if permit.admission is Admission.GO:
            starts.append((before + clock.now + time.monotonic()) / 2 + permit.wait)
            limiter.release(permit)

    assert not crowded(starts, limits, slack=0.1)


@given(
    st.lists(st.tuples(st.sampled_from([0.0, 0.01, 0.3, 1.0, 20.0]), st.booleans()), max_size=25)
)
@story
async def test_nothing_starts_in_a_cool_down(redis: Redis, steps: list[tuple[float, bool]]) -> None:
    clock, limits, host = Clock(), HostLimits(rate=2, burst=3, concurrency=1), next(hosts)
    limiter = RedisLimiter(redis, ahead=clock)
    closed = 0.0
    for gap, refused in steps:
        clock.now += gap
        if refused:
            await limiter.record(
                Permit(host, Admission.GO), RateLimited("slow", status=429, retry_in=5.0)
            )
            closed = clock.now + 5.0

        assert clock.now + await waited(limiter, limits, host=host, patience=1e9) >= closed - 0.5


LIMITS = HostLimits(rate=10, burst=1, concurrency=1_000)


async def waited(
    limiter: Limiter, limits: HostLimits = LIMITS, *, host: str = HOST, patience: float = 30.0
) -> float:
    """How long the limiter says to wait; the request itself takes no time."""
    passed = await limiter.acquire(host, limits, patience=patience)
    if passed.admission is Admission.GO:
        limiter.release(passed)
    return passed.wait


async def record(limiter: Limiter, failure: Failure | None, times: int = 1) -> None:
    for _ in range(times):
        await limiter.record(Permit(HOST, Admission.GO), failure)


async def test_a_refusal_leaves_no_debt(redis: Redis) -> None:
    limiter = RedisLimiter(redis)
    slow = HostLimits(rate=0.01, burst=1, concurrency=1)
    await waited(limiter, slow)

    refused = [await waited(limiter, slow) for _ in range(3)]

    assert refused == pytest.approx([100, 100, 100], abs=2)


async def test_a_throttled_host_is_asked_half_as_often_and_comes_back_by_clean_answers(
    redis: Redis,
) -> None:
    limiter = RedisLimiter(redis)
    slow_down = RateLimited("slow down", status=429)

    async def interval() -> float:
        await waited(limiter, patience=1e6)  # has what was learnt before
        began = time.monotonic()
        first = await waited(limiter, patience=1e6)
        # The second is asked later: what passed between the two is part of the interval.
        return await waited(limiter, patience=1e6) - first + (time.monotonic() - began) / 2

    before = await interval()
    await record(limiter, slow_down, 2)  # the second was under way together with the first
    slowed = await interval()
    await record(limiter, None, 20)
    eased = await interval()
    await record(limiter, None, 20 * 20)
    healed = await interval()

    assert [before, slowed, eased, healed] == pytest.approx([0.1, 0.2, 0.19, 0.1], abs=0.008)


async def test_a_host_that_refused_for_long_is_soon_asked_as_often_as_before(
    redis: Redis,
) -> None:
    clock = Clock()
    limiter = RedisLimiter(redis, ahead=clock)

    async def interval() -> float:
        await waited(limiter, patience=1e6)
        first = await waited(limiter, patience=1e6)
        return await waited(limiter, patience=1e6) - first

    await interval()
    for _ in range(8):
        await record(limiter, RateLimited("unavailable", status=503))
        clock.now += 2
    slowest = await interval()
    later: list[float] = []
    for _ in range(7):
        clock.now += HALVING_SECONDS
        later.append(await interval())

    assert slowest == pytest.approx(6.4, abs=0.1)
    assert later == pytest.approx([3.2, 1.6, 0.8, 0.4, 0.2, 0.1, 0.1], abs=0.05)


async def test_a_cool_down_is_seen_by_every_worker(redis: Redis) -> None:
    one, other = RedisLimiter(redis), RedisLimiter(redis)

    await record(one, RateLimited("slow down", status=429, retry_in=60.0))

    assert await waited(other) == pytest.approx(60, abs=1)
    assert await waited(other, host="b.test:443") == 0


async def test_one_request_in_ten_may_be_a_retry_and_ten_in_any_case(redis: Redis) -> None:
    limiter = RedisLimiter(redis)
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
from app.core.messages import HostLimits

async def main(path, rate, burst, count):
    async with Redis(unix_socket_path=path) as redis:
        limiter = RedisLimiter(redis)
        limits = HostLimits(rate=float(rate), burst=int(burst), concurrency=100)
        for _ in range(int(count)):
            before = time.monotonic()
            passed = await limiter.acquire("a.test:443", limits)
            await asyncio.sleep(max(before + passed.wait - time.monotonic(), 0))
            print(before, time.monotonic(), passed.wait)
            limiter.release(passed)

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


async def test_while_redis_is_away_a_request_waits_and_a_cool_down_is_not_lost(
    redis: Redis, redis_socket: str
) -> None:
    del redis  # emptied before
    with tempfile.TemporaryDirectory(prefix="rc") as folder, capture_logs() as logged:
        way = f"{folder}/r.sock"
        os.symlink(redis_socket, way)  # noqa: PTH211 - no path of pathlib's in async code
        async with Redis(unix_socket_path=way) as own:
            limiter = RedisLimiter(own)
            under_way = await limiter.acquire(HOST, LIMITS)
            os.unlink(way)  # noqa: PTH108 - as above
            await own.connection_pool.disconnect()  # pyright: ignore[reportGeneralTypeIssues] - redis-py is wrong here

            limiter.release(under_way)
            recorded = asyncio.create_task(
                limiter.record(under_way, RateLimited("slow", status=429, retry_in=90.0))
            )
            abandoned = asyncio.create_task(limiter.acquire("b.test:443", LIMITS))
            done, _ = await asyncio.wait([recorded, abandoned], timeout=0.6)
            abandoned.cancel()
            os.symlink(redis_socket, way)  # noqa: PTH211 - no path of pathlib's in async code
            await recorded
            back = await waited(limiter, patience=100.0)
            other = await limiter.acquire(
                "b.test:443", HostLimits(rate=1000, burst=1, concurrency=1)
            )
            await limiter.close()

    assert not done
    assert back == pytest.approx(90, abs=1)
    assert other.admission is Admission.GO
    said = [line["event"] for line in logged]
    assert said == ["limiter.waits_for_redis", "limiter.redis_back"]


BUILT_IN = HostLimits(rate=100, burst=1, concurrency=4)
TENANTS = [f"{n:032x}:" for n in range(5)]


async def test_a_tenants_cool_down_breaker_and_retries_are_its_own(redis: Redis) -> None:
    limiter = RedisLimiter(redis)
    one, other = TENANTS[:2]
    mine = await limiter.acquire(HOST, LIMITS, tenant=one)
    await limiter.record(mine, RateLimited("slow", status=429, retry_in=3600.0))
    limiter.release(mine)
    for _ in range(5):
        failed = await limiter.acquire("b.test:443", LIMITS, tenant=one)
        await limiter.record(failed, HttpStatus("down", status=500))
        limiter.release(failed)

    refused = await limiter.acquire(HOST, LIMITS, tenant=one)
    resting = await limiter.acquire("b.test:443", LIMITS, tenant=one)
    keyed = await limiter.acquire(HOST, LIMITS, tenant=f"{one}0a1b")
    others = [await limiter.acquire(HOST, LIMITS, tenant=who) for who in (other, "")]
    others += [await limiter.acquire("b.test:443", LIMITS, tenant=who) for who in (other, "")]

    assert (refused.admission, refused.wait) == (Admission.TOO_LONG, pytest.approx(3600, abs=2))
    assert resting.admission is Admission.RESTING
    assert keyed.admission is Admission.GO
    assert {permit.admission for permit in others} == {Admission.GO}
    assert max(permit.wait for permit in others) < 0.5
    assert await redis.exists("rollcall:limit:resting") == 0


async def test_tenants_take_a_quarter_of_a_built_in_site_and_all_together_keep_its_rate(
    redis: Redis,
) -> None:
    limiter = RedisLimiter(redis)
    limiter.release(await limiter.acquire(HOST, BUILT_IN))
    fast = HostLimits(rate=50, burst=100, concurrency=16)
    starts: dict[str, list[float]] = {"": [], "tenants": []}
    end = time.monotonic() + 3

    async def ask(tenant: str) -> None:
        while (before := time.monotonic()) < end:
            permit = await limiter.acquire(HOST, fast if tenant else BUILT_IN, tenant=tenant)
            start = max(before + permit.wait, time.monotonic())
            starts["tenants" if tenant else ""].append(start)
            await asyncio.sleep(start - time.monotonic() + 0.001)
            limiter.release(permit)

    await asyncio.gather(*(ask(who) for who in TENANTS for _ in range(4)), *(ask("") for _ in "ab"))

    seconds = max(map(max, starts.values())) - min(map(min, starts.values())) + 1
    assert len(starts["tenants"]) <= 25 * seconds
    assert len(starts[""]) + len(starts["tenants"]) <= 100 * seconds
    assert len(starts[""]) > len(starts["tenants"]) > 20


async def test_tenants_that_hold_their_slots_leave_the_others_to_built_in_jobs(
    redis: Redis,
) -> None:
    limiter = RedisLimiter(redis)
    limiter.release(await limiter.acquire(HOST, BUILT_IN))
    holding = [asyncio.create_task(limiter.acquire(HOST, LIMITS, tenant=who)) for who in TENANTS]
    await asyncio.wait(holding, timeout=0.3)

    async with asyncio.timeout(10):
        passes = [await limiter.acquire(HOST, BUILT_IN) for _ in range(3)]

    assert [task.done() for task in holding].count(True) == 1
    assert {permit.admission for permit in passes} == {Admission.GO}
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)


async def test_credentials_do_not_multiply_what_a_tenant_keeps_in_redis(redis: Redis) -> None:
    limiter, any_ = RedisLimiter(redis), cast("Any", redis)
    host = f"{'h' * 60}.{'o' * 60}.{'s' * 60}.{'t' * 60}.example:65535"
    for n in range(3 * TENANT_HOSTS):
        limiter.release(await limiter.acquire(host, LIMITS, tenant=f"org:{n:08x}"))
    await limiter.close()

    kept = [key async for key in any_.scan_iter("rollcall:limit:*")]
    assert sum(b":of:org:" in key and key.count(b":") == 6 for key in kept) <= TENANT_HOSTS
    assert sum([await any_.memory_usage(key) or 0 for key in kept]) < 250_000


async def test_a_tenant_requests_at_most_a_hundred_hosts_in_an_hour(redis: Redis) -> None:
    limiter = RedisLimiter(redis)
    for n in range(TENANT_HOSTS):
        limiter.release(await limiter.acquire(f"{n}.test:443", LIMITS, tenant=TENANTS[0]))

    one_more = await limiter.acquire("x.test:443", LIMITS, tenant=TENANTS[0])
    known = await limiter.acquire("3.test:443", LIMITS, tenant=TENANTS[0])
    another = await limiter.acquire("x.test:443", LIMITS, tenant=TENANTS[1])

    assert one_more.admission is Admission.CROWDED
    assert {known.admission, another.admission} == {Admission.GO}
    assert not await redis.exists(f"rollcall:limit:x.test:443:of:{TENANTS[0]}")
