"""Exchanges in a thread: what a site sends cannot delay the event loop that decides."""

import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import AsyncIterator, Generator
from contextlib import contextmanager
from multiprocessing.connection import Connection

import httpx
import pytest

from app.core.errors import Failure, Network, Timeout, TooLarge
from app.core.messages import HostLimits, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.exchange_thread import ExchangeThread
from app.fetch.solo_limiter import SoloLimiter
from tests.fetch import hostile
from tests.fetch.hostile import PAGE, Handler, Visit, serving
from tests.wait import until

LIMITS = HostLimits(rate=1e6, burst=1_000_000, concurrency=100)
SITES: dict[str, Handler] = {
    "interim": hostile.endless_interim_responses,
    "chunks": hostile.chunks_of_one_byte,
    "packets": hostile.packets_of_one_byte,
}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with (
        ExchangeThread() as thread,
        open_client("rollcall-test", concurrency=50, thread=thread) as opened,
    ):
        yield opened


def fetcher(client: httpx.AsyncClient, *, deadline: float = 20.0) -> Fetcher:
    return Fetcher(
        client,
        SoloLimiter(),
        source="test",
        limits=LIMITS,
        max_bytes=1_000_000,
        deadline=deadline,
        attempts=1,
    )


async def fetch(
    client: httpx.AsyncClient, url: str, tally: RequestCounts | None = None, deadline: float = 20.0
) -> bytes:
    raw = await fetcher(client, deadline=deadline).fetch(
        SourceRequest(url), tally or RequestCounts()
    )
    return raw.body


async def test_pages_are_fetched_on_connections_that_are_kept(client: httpx.AsyncClient) -> None:
    async def well(visit: Visit) -> None:
        await visit.answer()

    async with serving(well) as base:
        pages = await asyncio.gather(*(fetch(client, base) for _ in range(20)))

    assert pages == [PAGE] * 20


@pytest.mark.parametrize("site", ["interim", "chunks"])
async def test_a_response_of_endless_events_is_refused_early(
    client: httpx.AsyncClient, site: str
) -> None:
    tally = RequestCounts()
    async with serving(SITES[site]) as base:
        with pytest.raises(Network, match="refused") as caught:
            await fetch(client, base, tally)

    assert not caught.value.retry
    assert tally.bytes < 200_000


async def test_honest_small_chunks_and_a_few_interim_responses_are_accepted(
    client: httpx.AsyncClient,
) -> None:
    async def small(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 3)
        await visit.say(
            b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
            b"transfer-encoding: chunked\r\n\r\n"
        )
        for _ in range(5_000):
            await visit.say(b"50\r\n" + b"1" * 0x50 + b"\r\n")
        await visit.say(b"0\r\n\r\n")

    async with serving(small) as base:
        assert await fetch(client, base) == b"1" * 0x50 * 5_000


async def test_the_bytes_of_a_response_that_is_cut_off_are_counted(
    client: httpx.AsyncClient,
) -> None:
    async def half(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: 900000\r\n\r\n" + b"1" * 400_000)
        await visit.hang()

    async def too_much(visit: Visit) -> None:
        await visit.say(b"HTTP/1.1 200 OK\r\n\r\n" + b"1" * 2_000_000)
        await visit.hang()

    half_tally, much_tally = RequestCounts(), RequestCounts()
    async with serving(half) as base, serving(too_much) as other:
        with pytest.raises(Timeout):
            await fetch(client, base, half_tally, deadline=1.0)
        with pytest.raises(TooLarge):
            await fetch(client, other, much_tally)

    assert half_tally.bytes == 400_000
    assert 1_000_000 < much_tally.bytes < 1_100_000


async def test_cancelled_exchanges_leave_the_client_usable(client: httpx.AsyncClient) -> None:
    hanging: list[str] = []

    async def slow(visit: Visit) -> None:
        if visit.path == "/hang":
            hanging.append(visit.path)
            await visit.hang()
        await visit.answer()

    async with serving(slow) as base:
        lost = [asyncio.create_task(fetch(client, f"{base}/hang")) for _ in range(100)]
        await until(lambda: len(hanging) >= 50)  # as many as the client has connections
        for task in lost:
            task.cancel()
        await asyncio.gather(*lost, return_exceptions=True)
        async with asyncio.timeout(10):
            assert await fetch(client, f"{base}/well") == PAGE


def _serve(handler: str, told: Connection) -> None:
    async def forever() -> None:
        async with serving(SITES[handler]) as base:
            told.send(base)
            await asyncio.Event().wait()

    asyncio.run(forever())


async def worst_delay(seconds: float) -> float:
    """The most CPU time, of all threads, that passed during ten waits of a millisecond.

    A decision waits about so many times. CPU time, because the machine may be busy with others.
    """
    worst, end = 0.0, time.monotonic() + seconds
    while time.monotonic() < end:
        before = time.process_time()
        for _ in range(10):
            await asyncio.sleep(0.001)
        worst = max(worst, time.process_time() - before)
    return worst


@contextmanager
def in_a_process(site: str) -> Generator[str]:
    """A hostile site in a process of its own, which so does not burden the loop under test."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_serve, args=(site, theirs), daemon=True)
    process.start()
    try:
        yield ours.recv()
    finally:
        process.kill()
        process.join()


@pytest.mark.parametrize("site", SITES)
async def test_the_loop_stays_free_under_forty_connections_of_a_hostile_site(
    client: httpx.AsyncClient, site: str
) -> None:
    async def over_and_over(base: str) -> None:
        while True:
            with contextlib.suppress(Failure):
                await fetch(client, base)
            await asyncio.sleep(0.1)  # the rate limit of a source

    with in_a_process(site) as base:
        attackers = [asyncio.create_task(over_and_over(base)) for _ in range(40)]
        worst = await worst_delay(4.0)
        for attacker in attackers:
            attacker.cancel()
        await asyncio.gather(*attackers, return_exceptions=True)

    # The goal is 0.25 s; a quiet machine measures up to 0.30, and up to 15 s without the fix.
    assert worst < 1.0
