"""Where recipes are tried: a few pages at a time, through the guard, read by a process apart."""

import asyncio
import ssl
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from http import HTTPStatus
from uuid import UUID

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.api.problems import Problem
from app.authoring import trial
from app.authoring.page import Eye
from app.authoring.trial import Seen
from app.config import Config
from app.errors import Timeout
from app.fetch.client import Tally, open_client
from app.fetch.guard import Guard
from app.fetch.keyed import Opening, Visits
from app.fetch.limiter import RedisLimiter
from app.fetch.robots import Robots
from app.queue import redis_pool
from app.recipes.sandbox import Sandbox
from app.recipes.source import WHOLE, RecipeSource
from app.resources import Clock, user_agent

AT_ONCE = 2  # of this process
SECONDS = 20.0  # of one, all in all
READING = 10.0  # seconds of them for reading the page
IN_A_MINUTE = 10  # of one organisation, over all processes
A_MINUTE = 60


@dataclass(slots=True)
class Bench:
    """What a recipe is tried with. Hosts are asked within the limits that workers keep to.

    `seconds`: that a dry run has.
    """

    eye: Eye
    redis: Redis
    seconds: float = SECONDS
    _busy: set[UUID] = field(default_factory=set[UUID])

    async def tried(self, org_id: UUID, source: RecipeSource, opening: Opening) -> Seen:
        """The first page of the recipe's first partition; what it failed with, if it did.

        Raises Problem (429) for a second at the same time, or too many.
        """
        self._sit_down(org_id)
        try:
            await self._count(org_id)
            async with asyncio.timeout(self.seconds):
                return await self._tried(source, opening)
        except TimeoutError:
            late = Timeout(f"took longer than {self.seconds:g} s, which is all that a dry run has")
            return Seen(WHOLE, 1, None, failure=late)
        finally:
            self._busy.discard(org_id)

    async def _tried(self, source: RecipeSource, opening: Opening) -> Seen:
        eye = replace(self.eye, tally=Tally())
        window = eye.visits.window(source.window, replace(opening, attempts=1))
        seen = await trial.tried(source, eye, window, parts=1, pages=1)
        # What leads on from a page may be faulty although the page could be read.
        return replace(seen[0], failure=seen[-1].failure)

    def _sit_down(self, org_id: UUID) -> None:
        if org_id in self._busy:
            raise _later("a dry run of your organisation is under way", 1)
        if len(self._busy) >= AT_ONCE:
            raise _later("other dry runs are under way", 2)
        self._busy.add(org_id)

    async def _count(self, org_id: UUID) -> None:
        count, left = await self._counted(org_id)
        if count > IN_A_MINUTE:
            raise _later(f"more than {IN_A_MINUTE} dry runs in a minute", max(left, 1))

    async def _counted(self, org_id: UUID) -> tuple[int, int]:
        key = f"rollcall:api:tried:{org_id}"
        try:
            async with self.redis.pipeline(transaction=True) as pipe:
                pipe.set(key, 0, ex=A_MINUTE, nx=True)
                pipe.incr(key)
                pipe.ttl(key)
                _, count, left = await pipe.execute()
        except (RedisError, OSError):
            return 0, 0
        return count, left


@asynccontextmanager
async def opened(config: Config, redis_url: str) -> AsyncGenerator[Bench]:
    """A bench that stands while the block lasts. It opens no connection until it is used."""
    async with AsyncExitStack() as stack:
        redis = redis_pool(redis_url, ssl_cert_reqs=config.redis_ssl_cert_reqs, max_connections=8)
        stack.push_async_callback(redis.aclose, close_connection_pool=True)
        limiter = RedisLimiter(redis)
        stack.push_async_callback(limiter.close)
        client = open_client(
            user_agent(config.contact),
            concurrency=AT_ONCE,
            ssl_context=ssl.create_default_context(),
            guard=Guard.allowing(config.guard_allow),
        )
        await stack.enter_async_context(client)
        sandbox = Sandbox(AT_ONCE, wall=READING)
        stack.push_async_callback(sandbox.close)
        eye = Eye(client, Visits(client, limiter, Clock()), Robots(redis), sandbox)
        yield Bench(eye, redis)


def _later(why: str, seconds: int) -> Problem:
    return Problem(
        HTTPStatus.TOO_MANY_REQUESTS, f"{why}: try again", headers={"retry-after": str(seconds)}
    )
