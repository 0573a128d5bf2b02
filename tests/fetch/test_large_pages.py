"""A process holds few large pages at once, whatever the number of sources."""

import asyncio
import gzip
from collections.abc import AsyncGenerator
from dataclasses import replace

import pytest

from app.core.errors import LocalNetwork
from app.core.messages import HostLimits, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.exchange_thread import ExchangeThread
from app.fetch.large_pages import LARGE_BYTES, MAX_LARGE_PAGES, page_hold
from app.fetch.solo_limiter import SoloLimiter
from tests.fetch.hostile import Visit, serving
from tests.wait import until

pytestmark = pytest.mark.anyio

LARGE = b"x" * (LARGE_BYTES + 1)
LIMITS = HostLimits(rate=5_000, burst=500, concurrency=16)


@pytest.fixture
async def thread() -> AsyncGenerator[ExchangeThread]:
    async with ExchangeThread() as opened:
        yield opened


@pytest.fixture
async def fetcher(thread: ExchangeThread) -> AsyncGenerator[Fetcher]:
    async with open_client("test", concurrency=16, thread=thread) as client:
        yield Fetcher(client, SoloLimiter(), source="s", limits=LIMITS, attempts=1)


def page(body: bytes, encoding: str = "identity") -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-length: {len(body)}\r\ncontent-encoding: {encoding}\r\n"
    return head.encode() + b"content-type: text/plain\r\n\r\n" + body


@pytest.mark.parametrize("answer", [page(LARGE), page(gzip.compress(LARGE), "gzip")])
async def test_so_many_large_pages_are_held_at_once_and_the_next_waits(
    thread: ExchangeThread, fetcher: Fetcher, answer: bytes
) -> None:
    held, done = 0, asyncio.Event()

    async def process(url: str) -> None:
        nonlocal held
        with page_hold(thread.large_pages):
            await fetcher.fetch(SourceRequest(url), RequestCounts())
            held += 1
            await done.wait()

    async def serve(visit: Visit) -> None:
        await visit.say(answer)

    async with serving(serve) as site:
        tasks = [asyncio.create_task(process(site)) for _ in range(MAX_LARGE_PAGES + 3)]
        await until(lambda: held == MAX_LARGE_PAGES, 10, "the first ones")
        _, waiting = await asyncio.wait(tasks, timeout=0.5)

        assert (held, len(waiting)) == (MAX_LARGE_PAGES, len(tasks))
        done.set()
        await asyncio.wait_for(asyncio.gather(*tasks), 20)

    assert held == len(tasks)


async def test_small_pages_do_not_wait_for_large_ones(
    thread: ExchangeThread, fetcher: Fetcher
) -> None:
    for _ in range(MAX_LARGE_PAGES):
        await thread.run(thread.large_pages.places.acquire())

    async with serving(lambda visit: visit.say(page(b"small"))) as site:
        with page_hold(thread.large_pages):
            raw = await fetcher.fetch(SourceRequest(site), RequestCounts())

    assert raw.body == b"small"


async def test_a_page_that_gets_no_place_is_not_told_as_the_sites_fault(
    thread: ExchangeThread, fetcher: Fetcher
) -> None:
    for _ in range(MAX_LARGE_PAGES):
        await thread.run(thread.large_pages.places.acquire())
    hurried = replace(fetcher, deadline=0.5)

    async with serving(lambda visit: visit.say(page(LARGE))) as site:
        with page_hold(thread.large_pages), pytest.raises(LocalNetwork, match="large pages"):
            await hurried.fetch(SourceRequest(site), RequestCounts())
