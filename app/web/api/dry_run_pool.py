"""Dry runs of recipes: one page, fetched through the SSRF guard and parsed in a sandbox process."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.authoring import trial
from app.authoring.page import PageFetcher
from app.authoring.trial import TrialPage
from app.context import Clock, user_agent
from app.core.config import Config
from app.core.errors import Timeout
from app.fetch.authenticated import FetcherOptions, Fetchers
from app.fetch.client import RequestCounts, open_client
from app.fetch.exchange_thread import ExchangeThread
from app.fetch.limiter import RedisLimiter
from app.fetch.robots import Robots
from app.fetch.ssrf_guard import Guard
from app.sources.recipes.checking import load_in_sandbox
from app.sources.recipes.model import Recipe
from app.sources.recipes.sandbox import Sandbox
from app.sources.recipes.source import SINGLE_PARTITION, RecipeSource
from app.web import fixed_window
from app.web.api.problems import Problem

MAX_CONCURRENT = 16  # concurrent dry runs in this process, one of each organisation
SANDBOX_PROCESSES = 2
MAX_LOADS_PER_MINUTE = 30  # recipes checked per organisation, over all processes
TIME_LIMIT_SECONDS = 20.0  # total time of one dry run
PARSE_SECONDS = 10.0  # seconds of that for parsing the page
MAX_PER_MINUTE = 10  # dry runs per organisation, over all processes
WINDOW_SECONDS = 60


@dataclass(slots=True)
class DryRunner:
    """Runs dry runs and limits how many there are.

    Requests go through the same rate limiter as those of workers.
    `seconds`: the time limit of one dry run.
    """

    page_fetcher: PageFetcher
    redis: Redis
    seconds: float = TIME_LIMIT_SECONDS
    _busy: set[UUID] = field(default_factory=set[UUID])

    @asynccontextmanager
    async def slot(self, org_id: UUID) -> AsyncGenerator[None]:
        """Hold the organisation's slot for a dry run.

        Raises Problem (429) if the organisation already has a dry run in progress, if this process
        has MAX_CONCURRENT of them, or if the organisation has used up those of this minute.
        """
        # Reserve the slot before the counter is awaited, so that two requests cannot both pass.
        self._reserve(org_id)
        try:
            await self._check_rate(f"tried:{org_id}", MAX_PER_MINUTE, "dry runs")
            yield
        finally:
            self._busy.discard(org_id)

    async def load(self, org_id: UUID, text: str) -> Recipe:
        """Return the recipe, checked in a sandbox process, one of each organisation at a time.

        Raises BadRecipe, or Problem (429) if the organisation has had too many checked.
        """
        await self._check_rate(f"loaded:{org_id}", MAX_LOADS_PER_MINUTE, "recipes")
        return await load_in_sandbox(self.page_fetcher.sandbox, org_id.hex, text)

    async def run(self, source: RecipeSource, opening: FetcherOptions) -> TrialPage:
        """Fetch and parse the first page of the recipe's first partition.

        A Failure, a timeout included, is returned in `failure`.
        """
        try:
            async with asyncio.timeout(self.seconds):
                return await self._fetched(source, opening)
        except TimeoutError:
            timeout = Timeout(f"exceeded the dry run time limit of {self.seconds:g} s")
            return TrialPage(SINGLE_PARTITION, 1, None, failure=timeout)

    async def _fetched(self, source: RecipeSource, opening: FetcherOptions) -> TrialPage:
        fetcher = replace(self.page_fetcher, tally=RequestCounts())
        window = fetcher.fetchers.create(source.fetcher_name, replace(opening, attempts=1))
        pages = await trial.fetch_trial_pages(source, fetcher, window, parts=1, pages=1)
        # The link to the next page can be faulty although this page was parsed.
        return replace(pages[0], failure=pages[-1].failure)

    def _reserve(self, org_id: UUID) -> None:
        if org_id in self._busy:
            raise _too_many("your organisation already has a dry run in progress", 1)
        if len(self._busy) >= MAX_CONCURRENT:
            raise _too_many("too many dry runs are in progress", 2)
        self._busy.add(org_id)

    async def _check_rate(self, name: str, limit: int, what: str) -> None:
        try:
            key = f"rollcall:api:{name}"
            count, expires_in = await fixed_window.count(self.redis, key, WINDOW_SECONDS)
        except (RedisError, OSError):
            return
        if count > limit:
            raise _too_many(f"more than {limit} {what} in a minute", expires_in)


@asynccontextmanager
async def open_dry_runner(config: Config, redis: Redis) -> AsyncGenerator[DryRunner]:
    """Yield what dry runs need, and close it afterwards. Connections are opened on first use."""
    async with AsyncExitStack() as stack:
        limiter = RedisLimiter(redis)
        stack.push_async_callback(limiter.close)
        client = open_client(
            user_agent(config.contact),
            concurrency=MAX_CONCURRENT,
            ssl_context=ssl.create_default_context(),
            guard=Guard.allowing(config.guard_allow),
            thread=await stack.enter_async_context(ExchangeThread()),
        )
        await stack.enter_async_context(client)
        sandbox = Sandbox(SANDBOX_PROCESSES, wall=PARSE_SECONDS)
        stack.push_async_callback(sandbox.close)
        fetcher = PageFetcher(client, Fetchers(client, limiter, Clock()), Robots(redis), sandbox)
        yield DryRunner(fetcher, redis)


def _too_many(reason: str, seconds: int) -> Problem:
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS,
        f"{reason}: try again later",
        headers={"retry-after": str(seconds)},
    )
