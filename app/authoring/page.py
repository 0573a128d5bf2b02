"""Fetching of single pages outside of runs: robots.txt, rate limit, SSRF guard, user agent."""

import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import cast

import httpx
from redis.asyncio import Redis

from app.authoring import proposal
from app.control import Clock
from app.core.config import Config
from app.core.errors import Failure
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.version import user_agent
from app.fetch.authenticated import AnyFetcher, Fetchers
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.robots import Robots
from app.fetch.solo_limiter import SoloLimiter
from app.fetch.ssrf_guard import Guard
from app.sources.recipes.sandbox import Sandbox

PAGE_LIMITS = HostLimits(rate=1, burst=1, concurrency=1)
# Accept: APIs answer with their own type. With application/json here, an HTML page would be taken
# for a block page and raise a failure.
ACCEPT_ANY = "*/*"


@dataclass
class _MemoryCache:
    """An in-process cache of robots.txt with the two methods of Redis that Robots uses."""

    values: dict[str, bytes] = field(default_factory=dict[str, bytes])

    async def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    async def set(self, key: str, value: bytes, ex: int) -> None:
        del ex
        self.values[key] = value


@dataclass(slots=True)
class PageFetcher:
    """Fetches single pages, with the SSRF guard and robots.txt checks that workers have.

    `fetchers`: makes the fetcher of a source. `sandbox`: the processes that parse pages by recipes.
    """

    client: httpx.AsyncClient
    fetchers: Fetchers
    robots: Robots
    sandbox: Sandbox
    tally: RequestCounts = field(default_factory=RequestCounts)

    async def fetch_url(self, url: str) -> RawPage:
        """Return the page at the URL. Raises Failure, also if robots.txt disallows it."""
        return await self._fetch_request(SourceRequest(url, accept=ACCEPT_ANY, robots=True), 1)

    async def propose(self, url: str) -> str:
        """Return the text of a recipe for the page at the URL, tried on the page after it.

        If that page cannot be read, the recipe has no paging and says so. Raises Failure.
        """
        raw = await self.fetch_url(url)
        text = proposal.propose_recipe(raw, url)
        request = proposal.next_request(text, raw)
        if request is None:
            return text
        try:
            request = replace(request, accept=ACCEPT_ANY, robots=True)
            following = await self._fetch_request(request, 2)
            return proposal.propose_recipe(raw, url, following)
        except Failure as failure:
            return proposal.without_paging(text, str(failure))

    async def _fetch_request(self, request: SourceRequest, number: int) -> RawPage:
        window = Fetcher(
            self.client, self.fetchers.limiter, source="look", limits=PAGE_LIMITS, attempts=1
        )
        return (await self.fetch(window, request, None, number))[0]

    async def fetch(
        self, window: AnyFetcher, request: SourceRequest, part: Partition | None, number: int
    ) -> tuple[RawPage, float]:
        """Return a page, and the seconds it took to fetch. Raises Failure."""
        if request.robots:
            unauthenticated = window if isinstance(window, Fetcher) else window.fetcher
            await self.robots.check(unauthenticated, request, self.tally)
        started = time.monotonic()
        raw = await window.fetch(request, self.tally)
        return replace(raw, partition=part, page=number), time.monotonic() - started


@asynccontextmanager
async def open_page_fetcher(config: Config) -> AsyncGenerator[PageFetcher]:
    """Yield a page fetcher and close it afterwards."""
    client = open_client(
        user_agent(config.contact),
        concurrency=2,
        ssl_context=ssl.create_default_context(),
        guard=Guard.allowing(config.guard_allow),
    )
    async with client:
        visits = Fetchers(client, SoloLimiter(), Clock())
        sandbox = Sandbox(1)
        try:
            robots = Robots(cast("Redis", _MemoryCache()), bounds=None)
            yield PageFetcher(client, visits, robots, sandbox)
        finally:
            await sandbox.close()
