"""One polite look at one address: robots.txt first, our limits, our name."""

import ssl
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import cast

import httpx
from redis.asyncio import Redis

from app.config import Config
from app.fetch.client import Tally, Window, open_client
from app.fetch.guard import Guard
from app.fetch.keyed import AnyWindow, Visits
from app.fetch.limiter import LocalLimiter
from app.fetch.robots import Robots
from app.messages import Limits, Partition, Raw, Request
from app.recipes.sandbox import Sandbox
from app.resources import Clock, user_agent

POLITE = Limits(rate=1, burst=1, concurrency=1)
# An API says what it speaks; and whoever names JSON here has a page for people refused as a block.
ANYTHING = "*/*"


@dataclass
class _Rules:
    """Where robots.txt is kept while a command lasts; what Redis is to a worker."""

    kept: dict[str, bytes] = field(default_factory=dict[str, bytes])

    async def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    async def set(self, key: str, value: bytes, ex: int) -> None:
        del ex
        self.kept[key] = value


@dataclass(slots=True)
class Eye:
    """What looks. `visits` opens its windows, through the guard that workers have too.

    `sandbox`: where pages are read by what others have written.
    """

    client: httpx.AsyncClient
    visits: Visits
    robots: Robots
    sandbox: Sandbox
    tally: Tally = field(default_factory=Tally)

    async def look(self, url: str) -> Raw:
        """The page at that address, if robots.txt lets us have it. Raises Failure."""
        request = Request(url, accept=ANYTHING, robots=True)
        window = Window(self.client, self.visits.limiter, source="look", limits=POLITE, attempts=1)
        return (await self.ask(window, request, None, 1))[0]

    async def ask(
        self, window: AnyWindow, request: Request, part: Partition | None, number: int
    ) -> tuple[Raw, float]:
        """A page, and how many seconds it took. Raises Failure."""
        if request.robots:
            plain = window if isinstance(window, Window) else window.window
            await self.robots.check(plain, request, self.tally)
        started = time.monotonic()
        raw = await window.ask(request, partition=part, page=number, tally=self.tally)
        return raw, time.monotonic() - started


@asynccontextmanager
async def opened(config: Config) -> AsyncGenerator[Eye]:
    """An eye that is open while the block lasts. Addresses are guarded as a worker's are."""
    client = open_client(
        user_agent(config.contact),
        concurrency=2,
        ssl_context=ssl.create_default_context(),
        guard=Guard.allowing(config.guard_allow),
    )
    async with client:
        visits = Visits(client, LocalLimiter(), Clock())
        sandbox = Sandbox(1)
        try:
            yield Eye(client, visits, Robots(cast("Redis", _Rules())), sandbox)
        finally:
            await sandbox.close()
