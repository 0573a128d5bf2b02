"""What must be opened and closed: the pool, Redis, one pooled client for each source."""

import asyncio
import os
import socket
import ssl
import time
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from types import MappingProxyType
from typing import Any

import httpx
from arq.connections import ArqRedis

from app.config import Config
from app.fetch.auth import Keeper, Login, SignedWindow, keeper_of
from app.fetch.client import Window, open_client
from app.fetch.guard import Guard
from app.fetch.keyed import AnyWindow, Opening, Visits
from app.fetch.limiter import Limiter, RedisLimiter
from app.messages import Limits
from app.recipes.sandbox import Sandbox
from app.store import beats, db, schema
from app.store.db import Pool

VERSION = "0.1.0"
LEAP = timedelta(seconds=5)
TREMOR = timedelta(milliseconds=1)
NO_LOGINS: Mapping[str, Login] = MappingProxyType({})
GUARDED_CONNECTIONS = 64  # of all sources together that users have written
FEWEST_CONNECTIONS = 4  # a site may tell us later that it takes more at once than we thought


@dataclass(slots=True)
class Clock:
    """The instant by the database's clock, so that a machine whose clock is wrong does no harm.

    `skew` is what this machine's clock is taken to be wrong by, for drills.
    """

    skew: timedelta = timedelta(0)
    offset: timedelta = timedelta(0)

    _wall: datetime = field(default_factory=lambda: datetime.now(UTC))
    _since: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        return self._own() + self.offset

    def _own(self) -> datetime:
        # Counted on from the start: a machine clock that is set while we live changes nothing.
        return self._wall + self.skew + timedelta(seconds=time.monotonic() - self._since)

    async def set_by(self, pool: Pool) -> None:
        """Ask the database what time it is; half the round trip is taken off."""
        before, started = self._own(), time.monotonic()
        there = await beats.database_now(pool)
        half = timedelta(seconds=(time.monotonic() - started) / 2)
        offset = there - before - half
        # Within half a round trip the answer says nothing new: the clock need not tremble.
        if abs(offset - self.offset) > half + TREMOR:
            self.offset = offset


@dataclass(slots=True)
class Heart:
    """This worker's stretches of beating, in the database."""

    pool: Pool
    clock: Clock
    worker: str
    longest_gap: timedelta
    _beat: int | None = None
    _wall: datetime | None = None
    _monotonic: float = 0.0

    async def beat(self) -> None:
        """Prolong this worker's stretch, or open a new one after a gap or a leap of the clock."""
        await self.clock.set_by(self.pool)
        now, monotonic = self.clock(), time.monotonic()
        elapsed = timedelta(seconds=monotonic - self._monotonic)
        last, self._wall, self._monotonic = self._wall, now, monotonic
        jumped = last is not None and now - last - elapsed > LEAP
        if self._beat is None or last is None or jumped or now - last > self.longest_gap:
            self._beat = await beats.begin(self.pool, self.worker, now, jumped=jumped)
        else:
            await beats.extend(self.pool, self._beat, now)


@dataclass(slots=True)
class House:
    """All that is open, handed to whoever needs it."""

    config: Config
    pool: Pool
    redis: ArqRedis
    clock: Clock
    heart: Heart
    worker: str
    started_at: datetime
    limiter: Limiter
    visits: Visits
    sandbox: Sandbox
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict[str, httpx.AsyncClient])
    windows: dict[str, AnyWindow] = field(default_factory=dict[str, AnyWindow])

    def window_for(self, name: str, opening: Opening) -> None:
        """Open a window for a source that was not known when the house was opened.

        Its addresses pass the guard. One of the same name is replaced; of those that were opened so
        only the latest are kept.
        """
        for old in self.visits.opened(name):
            self.windows.pop(old, None)
        self.windows[name] = self.visits.window(name, opening)


@dataclass(frozen=True, slots=True)
class Urls:
    """Where Postgres and Redis are: as configured, or our own private pair."""

    database: str
    redis: str


def user_agent(contact: str) -> str:
    """Who we say we are: the product, and whom to write to."""
    about = f"; {contact}" if contact else ""
    return f"Rollcall/{VERSION} (scheduled scraper{about})"


def worker_name() -> str:
    """This process, told apart from every other that was or is."""
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(3)}"


def urls(config: Config) -> Urls:
    """The configured servers; for what is not configured, the private ones of DATA_DIR, started.

    Raises ServersUnavailable if those are needed and cannot be had.
    """
    database, redis = config.database_url, config.redis_url
    if database is not None and redis is not None:
        return Urls(database.get_secret_value(), redis.get_secret_value())
    from app import embedded, migrations  # noqa: PLC0415 - production never opens these rooms

    servers = embedded.start(config.data_dir)
    if database is None:
        migrations.upgrade(servers.database_url)
    return Urls(
        servers.database_url if database is None else database.get_secret_value(),
        servers.redis_url if redis is None else redis.get_secret_value(),
    )


def check(config: Config) -> None:
    """Raises BadConfig for a setting that only what is opened here can judge."""
    Guard.allowing(config.guard_allow)


@asynccontextmanager
async def opened(
    config: Config,
    where: Urls,
    redis: ArqRedis,
    sources: Mapping[str, Limits],
    logins: Mapping[str, Login] = NO_LOGINS,
) -> AsyncGenerator[House]:
    """Open everything a worker needs, and close it again, last first.

    Raises WrongSchema if the database's schema is older or newer than this code.
    `logins`: of sources that want to know who asks; those with the same one share its token.
    """
    async with AsyncExitStack() as stack:
        pool = await db.open_pool(
            where.database, size=config.database_pool_size, idle_limit=config.lease_seconds
        )
        stack.push_async_callback(_close, pool)
        await schema.check(pool)
        clock = Clock(timedelta(seconds=config.clock_skew_seconds))
        worker = worker_name()
        limiter = RedisLimiter(redis, worker=worker)
        context = ssl.create_default_context()
        guarded = open_client(
            user_agent(config.contact),
            concurrency=GUARDED_CONNECTIONS,
            ssl_context=context,
            guard=Guard.allowing(config.guard_allow),
        )
        sandbox = Sandbox()
        stack.push_async_callback(sandbox.close)
        house = House(
            config=config,
            pool=pool,
            redis=redis,
            clock=clock,
            heart=Heart(pool, clock, worker, timedelta(seconds=config.lease_seconds)),
            worker=worker,
            started_at=clock(),
            limiter=limiter,
            visits=Visits(await stack.enter_async_context(guarded), limiter, clock),
            sandbox=sandbox,
        )
        stack.push_async_callback(house.limiter.close)
        await house.heart.beat()
        for name, limits in sources.items():
            client = open_client(
                user_agent(config.contact),
                concurrency=max(limits.concurrency, FEWEST_CONNECTIONS),
                ssl_context=context,
            )
            house.clients[name] = await stack.enter_async_context(client)
            house.windows[name] = Window(
                client, house.limiter, source=name, limits=limits, clock=clock
            )
        _sign(house.windows, logins)
        yield house


def _sign(windows: dict[str, AnyWindow], logins: Mapping[str, Login]) -> None:
    keepers: dict[Login, Keeper] = {}
    for name, login in logins.items():
        window = windows[name]
        if isinstance(window, Window):
            keeper = keepers.setdefault(login, keeper_of(login, window))
            windows[name] = SignedWindow(window, keeper, login.setting)


async def _close(pool: Pool) -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except (TimeoutError, *db.AWAY):
        pool.terminate()


def ctx_house(ctx: dict[str, Any]) -> House:
    """Arq's untyped context, opened."""
    house = ctx["house"]
    if not isinstance(house, House):
        raise TypeError("ctx['house'] is missing: on_startup did not run")
    return house
