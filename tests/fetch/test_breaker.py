"""A sick host is left alone and comes back by itself; our own network is nobody else's fault."""

import asyncio
import itertools

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.asyncio import Redis

from app.core.errors import (
    Auth,
    Blocked,
    Failure,
    HttpStatus,
    LocalNetwork,
    Network,
    RateLimited,
    Schema,
    Timeout,
)
from app.core.messages import HostLimits, SourceRequest
from app.fetch.breaker import NetworkReachability, is_hard_failure
from app.fetch.client import Fetcher, RequestCounts
from app.fetch.limiter import RedisLimiter
from app.fetch.permits import Admission, Limiter, Permit
from tests.fetch.breaker_model import Breakers

HOST = "a.test:443"
FAST = HostLimits(rate=1e6, burst=100_000, concurrency=100)


class Clock:
    """A clock that is told the time; for Redis, how far it is ahead."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def limiter_of(redis: Redis, clock: Clock) -> Limiter:
    return RedisLimiter(redis, clock=clock, ahead=clock)


async def ask(limiter: Limiter, failure: Failure | None, host: str = HOST) -> Permit:
    """One request that ends as it is told, if it may go at all."""
    passed = await limiter.acquire(host, FAST)
    if passed.admission is Admission.GO:
        await limiter.record(passed, failure)
        limiter.release(passed)
    return passed


DOWN = HttpStatus("down", status=500, retry=True)


@pytest.mark.parametrize(
    ("failure", "counts"),
    [
        (Network("x"), True),
        (Timeout("x"), True),
        (Blocked("x", status=403), True),
        (HttpStatus("x", status=503), True),
        (HttpStatus("x", status=404), False),
        (Auth("x", status=401), False),
        (RateLimited("x", status=429), False),
        (Schema("x"), False),
    ],
)
def test_only_what_says_that_the_host_is_not_well_counts(failure: Failure, counts: bool) -> None:
    assert is_hard_failure(failure) is counts


async def test_the_fifth_failure_in_a_row_opens_for_a_minute_doubling_to_an_hour(
    redis: Redis,
) -> None:
    clock = Clock()
    limiter = limiter_of(redis, clock)
    for ending in (*[DOWN] * 4, None, *[DOWN] * 5):
        assert (await ask(limiter, ending)).admission is Admission.GO

    rests: list[float] = []
    for _ in range(9):
        refused = await ask(limiter, DOWN)
        assert refused.admission is Admission.RESTING
        assert refused.kind == "http_status"
        rests.append(refused.wait)
        clock.now += refused.wait + 0.01
        probe = await ask(limiter, DOWN)
        assert probe.admission is Admission.GO

    assert rests == pytest.approx([60, 120, 240, 480, 960, 1920, 3600, 3600, 3600], abs=2)


async def test_one_answer_after_the_rest_closes_the_breaker_for_good(redis: Redis) -> None:
    clock = Clock()
    limiter = limiter_of(redis, clock)
    for _ in range(5):
        await ask(limiter, DOWN)
    clock.now += 61

    endings = [await ask(limiter, end) for end in (None, *[DOWN] * 4, None, *[DOWN] * 4, None)]

    assert {passed.admission for passed in endings} == {Admission.GO}


async def test_after_the_rest_one_goes_first_and_the_others_wait_for_its_answer(
    redis: Redis,
) -> None:
    clock = Clock()
    limiter = limiter_of(redis, clock)
    for _ in range(5):
        await ask(limiter, DOWN)
    clock.now += 61
    probe = await limiter.acquire(HOST, FAST)
    others = [asyncio.create_task(limiter.acquire(HOST, FAST)) for _ in range(3)]
    done, waiting = await asyncio.wait(others, timeout=0.05)
    await limiter.record(probe, None)
    limiter.release(probe)
    async with asyncio.timeout(5):
        passes = await asyncio.gather(*others)

    assert (len(done), len(waiting)) == (0, 3)
    assert [passed.admission for passed in passes] == [Admission.GO] * 3


async def test_if_the_first_is_cancelled_another_goes_first(redis: Redis) -> None:
    clock = Clock()
    limiter = limiter_of(redis, clock)
    for _ in range(5):
        await ask(limiter, DOWN)
    clock.now += 61

    limiter.release(await limiter.acquire(HOST, FAST))
    async with asyncio.timeout(5):
        second = await limiter.acquire(HOST, FAST)

    assert second.admission is Admission.GO


async def test_what_one_worker_learns_all_know(redis: Redis) -> None:
    clock = Clock()
    workers = [RedisLimiter(redis, clock=clock, ahead=clock) for _ in range(3)]

    for n in range(5):
        await ask(workers[n % 2], Timeout("late"))
    refused = await ask(workers[2], None)
    clock.now += 61
    first = await workers[0].acquire(HOST, FAST)
    second = asyncio.create_task(workers[1].acquire(HOST, FAST))
    done, _ = await asyncio.wait([second], timeout=0.05)
    await workers[0].record(first, Timeout("late"))
    workers[0].release(first)

    assert (refused.admission, refused.kind) == (Admission.RESTING, "timeout")
    assert not done
    assert (await second).admission is Admission.RESTING


async def test_a_probe_whose_worker_died_is_followed_by_another_when_its_lease_ends(
    redis: Redis,
) -> None:
    clock = Clock()
    dead, alive = (RedisLimiter(redis, clock=clock, ahead=clock) for _ in range(2))
    for _ in range(5):
        await ask(dead, DOWN)
    clock.now += 61
    await dead.acquire(HOST, FAST)

    clock.now += 61
    second = await ask(alive, None)

    assert second.admission is Admission.GO


steps = st.lists(
    st.tuples(
        st.sampled_from(["good", "bad", "cancelled"]), st.sampled_from([0.0, 1.0, 61.0, 500.0])
    ),
    max_size=25,
)
hosts = (f"{n}.test:443" for n in itertools.count())


@given(steps)
@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_redis_and_the_plain_model_agree_on_any_story(
    redis: Redis, story: list[tuple[str, float]]
) -> None:
    clock, host = Clock(), next(hosts)
    shared, model = RedisLimiter(redis, clock=clock, ahead=clock), Breakers(clock)
    for n, (ending, gap) in enumerate(story):
        clock.now += gap
        rest, _ = model.open_for(host)
        passed = await shared.acquire(host, FAST)
        assert passed.admission is (Admission.RESTING if rest > 0.5 else Admission.GO)
        if passed.admission is Admission.RESTING:
            assert passed.wait == pytest.approx(rest, abs=1)
            continue
        assert model.allows(host, str(n))
        if ending == "bad":
            model.record_failure(host, "http_status", str(n))
            await shared.record(passed, DOWN)
        elif ending == "good":
            model.record_response(host, str(n))
            await shared.record(passed, None)
        model.release_probe(host, str(n))
        shared.release(passed)


def test_our_network_is_down_only_if_no_host_of_late_was_reached() -> None:
    clock = Clock()
    reach = NetworkReachability(clock)
    reach.record("c", reached=True)
    clock.now += 60
    reach.record("a", reached=False)
    alone = reach.unreachable_hosts()
    reach.record("b", reached=False)
    together = reach.unreachable_hosts()
    reach.record("c", reached=True)
    one_answers = reach.unreachable_hosts()
    clock.now += 60
    reach.record("a", reached=False)
    long_ago = reach.unreachable_hosts()

    assert (alone, together, one_answers, long_ago) == ([], ["a", "b"], [], [])


async def test_while_our_own_network_is_down_no_host_is_blamed(redis: Redis) -> None:
    clock = Clock()
    limiter = limiter_of(redis, clock)

    async with httpx.AsyncClient(transport=httpx.MockTransport(_unplugged)) as client:
        fetcher = Fetcher(client, limiter, source="t", limits=FAST, sleep=_at_once)
        said = [await _failure(fetcher, f"https://{n % 3}.test/") for n in range(30)]

    # The first host alone could have been down itself: it opened nothing that was not forgiven.
    assert {type(failure) for failure in said[2:]} == {LocalNetwork}
    for n in range(3):
        assert (await limiter.acquire(f"{n}.test:443", FAST)).admission is Admission.GO


async def _at_once(_: float) -> None:
    return


def _unplugged(request: httpx.Request) -> httpx.Response:
    import aiohttp  # noqa: PLC0415 - only here
    from aiohttp.client_reqrep import ConnectionKey  # noqa: PLC0415 - only here

    key = ConnectionKey("a", 443, True, True, None, None, None)
    cause = aiohttp.ClientConnectorError(key, OSError("Network is unreachable"))
    raise httpx.ConnectError("unreachable", request=request) from cause


async def _failure(fetcher: Fetcher, url: str) -> Failure:
    with pytest.raises(Failure) as caught:
        await fetcher.fetch(SourceRequest(url), RequestCounts())
    return caught.value


async def test_an_hour_of_503_costs_a_handful_of_requests_and_ends_by_itself(redis: Redis) -> None:
    clock, site = Clock(), Sick()

    async def nap(seconds: float) -> None:
        clock.now += seconds

    limiter = limiter_of(redis, clock)
    async with httpx.AsyncClient(transport=httpx.MockTransport(site)) as client:
        fetcher = Fetcher(client, limiter, source="t", limits=FAST, sleep=nap)
        said: list[Failure] = []
        while clock.now < 3_600:
            said.append(await _failure(fetcher, "https://a.test/"))
            clock.now += 10
        asked, site.down = site.asked, False
        back = await _persisted(fetcher, clock)

    assert len(said) > 200
    assert asked <= 20
    assert sum("its breaker is open until" in str(failure) for failure in said) > 200
    assert back == 200
    assert clock.now < 2 * 3_600


class Sick:
    """A site that is down until it is not."""

    def __init__(self) -> None:
        self.down = True
        self.asked = 0

    def __call__(self, _: httpx.Request) -> httpx.Response:
        self.asked += 1
        return httpx.Response(503 if self.down else 200, stream=httpx.ByteStream(b"{}"))


async def _persisted(fetcher: Fetcher, clock: Clock) -> int:
    """Ask again when told to; returns the status of the answer."""
    while True:
        try:
            asked = fetcher.fetch(SourceRequest("https://a.test/"), RequestCounts())
            return (await asked).status
        except HttpStatus as failure:
            clock.now += failure.retry_in or 1.0
