"""The worker context: the Postgres pool, Redis, the clock and one HTTP client per source."""

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

from app.core.config import Config
from app.core.messages import HostLimits
from app.core.version import VERSION
from app.fetch.authenticated import AnyFetcher, FetcherOptions, Fetchers
from app.fetch.client import Fetcher, open_client, open_job_transport
from app.fetch.exchange_thread import ExchangeThread
from app.fetch.limiter import Limiter, RedisLimiter
from app.fetch.ssrf_guard import Guard
from app.fetch.tokens import (
    AuthenticatedFetcher,
    AuthorizationProvider,
    Login,
    authorization_provider,
)
from app.sources.recipes.sandbox import Sandbox
from app.store import db, schema
from app.store.db import Pool
from app.store.schedules import heartbeats
from app.store.servers import ServerUrls
from app.store.session_engine import SessionEngine

MAX_CLOCK_JUMP = timedelta(seconds=5)
MIN_CLOCK_CORRECTION = timedelta(milliseconds=1)
NO_LOGINS: Mapping[str, Login] = MappingProxyType({})
WEBHOOK_CLIENT = "webhooks"  # the name of the client for organisations' webhooks
WEBHOOK_CONNECTIONS = 64
RECIPE_CONNECTIONS = 64  # over all recipe sources together
JOB_CONNECTIONS = 64  # of the HTTP clients of all jobs together
CONTROL_CONNECTIONS = 4  # for heartbeats, leases and deciding, which never wait for the work
CONTROL_LOCK_WAIT = 3.0  # seconds
MIN_CONNECTIONS = 4  # a source may raise its concurrency while it runs


@dataclass(slots=True)
class Clock:
    """The current instant (aware, UTC) by the database's clock, whatever the machine's clock says.

    `skew` is a simulated error of the machine's clock, for tests. `offset` is the measured
    difference between the database's clock and the machine's.
    """

    skew: timedelta = timedelta(0)
    offset: timedelta = timedelta(0)

    _started_wall: datetime = field(default_factory=lambda: datetime.now(UTC))
    _started_monotonic: float = field(default_factory=time.monotonic)

    def __call__(self) -> datetime:
        return self._machine_time() + self.offset

    def error(self) -> float:
        """Return the seconds by which the machine's clock is ahead of the database's."""
        return (datetime.now(UTC) + self.skew - self()).total_seconds()

    def _machine_time(self) -> datetime:
        # Monotonic from the start: setting the machine's clock while we run changes nothing.
        return (
            self._started_wall
            + self.skew
            + timedelta(seconds=time.monotonic() - self._started_monotonic)
        )

    async def synchronise(self, pool: Pool) -> None:
        """Synchronise with the database's clock, allowing half the round trip for transport."""
        before, started = self._machine_time(), time.monotonic()
        database_now = await heartbeats.database_now(pool)
        half_trip = timedelta(seconds=(time.monotonic() - started) / 2)
        offset = database_now - before - half_trip
        # A difference within half a round trip is measurement error.
        if abs(offset - self.offset) > half_trip + MIN_CLOCK_CORRECTION:
            self.offset = offset


@dataclass(slots=True)
class Heartbeat:
    """This worker's heartbeat, recorded in the database as intervals without a gap."""

    pool: Pool
    clock: Clock
    worker: str
    longest_gap: timedelta
    _beat_id: int | None = None
    _last_beat_at: datetime | None = None
    _last_monotonic: float = 0.0

    async def beat(self) -> None:
        """Extend the current interval, or begin a new one after a gap or a jump of the clock."""
        await self.clock.synchronise(self.pool)
        now, monotonic = self.clock(), time.monotonic()
        elapsed = timedelta(seconds=monotonic - self._last_monotonic)
        last, self._last_beat_at, self._last_monotonic = self._last_beat_at, now, monotonic
        jumped = last is not None and now - last - elapsed > MAX_CLOCK_JUMP
        if self._beat_id is None or last is None or jumped or now - last > self.longest_gap:
            self._beat_id = await heartbeats.start_interval(
                self.pool, self.worker, now, jumped=jumped
            )
        # After a failover to a replica that lacks the interval, a new one begins.
        elif not await heartbeats.extend_interval(self.pool, self._beat_id, now):
            self._beat_id = await heartbeats.start_interval(self.pool, self.worker, now)


@dataclass(slots=True)
class WorkerContext:
    """What a worker opens and closes, handed to jobs. `worker`: this process's unique name.

    `control`: connections for heartbeats, leases and deciding. Work uses `pool`, so that its
    statements, which may wait for locks, cannot delay these. `engine` and `job_transport`: for the
    sessions and HTTP clients of jobs; both connect on first use.
    """

    config: Config
    pool: Pool
    control: Pool
    redis: ArqRedis
    clock: Clock
    heartbeat: Heartbeat
    worker: str
    started_at: datetime
    limiter: Limiter
    recipe_fetchers: Fetchers
    sandbox: Sandbox
    engine: SessionEngine
    job_transport: httpx.AsyncBaseTransport
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict[str, httpx.AsyncClient])
    fetchers: dict[str, AnyFetcher] = field(default_factory=dict[str, AnyFetcher])

    def open_fetcher(self, name: str, opening: FetcherOptions) -> None:
        """Open a fetcher for a source that was not known when the worker started.

        Its addresses pass the SSRF guard. It replaces an earlier one of the same name; only the
        most recently opened fetchers are kept.
        """
        for old in self.recipe_fetchers.record_opened(name):
            self.fetchers.pop(old, None)
        self.fetchers[name] = self.recipe_fetchers.create(name, opening)


def user_agent(contact: str) -> str:
    """The User-Agent header: product, version and contact."""
    about = f"; {contact}" if contact else ""
    return f"Rollcall/{VERSION} (scheduled scraper{about})"


def worker_name() -> str:
    """A name unique to this process: host, process id and a random suffix."""
    return f"{socket.gethostname()}:{os.getpid()}:{token_hex(3)}"


def check_config(config: Config) -> None:
    """Raises BadConfig for settings that only the opened components can validate."""
    Guard.allowing(config.guard_allow)


@asynccontextmanager
async def open_context(
    config: Config,
    where: ServerUrls,
    redis: ArqRedis,
    sources: Mapping[str, HostLimits],
    logins: Mapping[str, Login] = NO_LOGINS,
) -> AsyncGenerator[WorkerContext]:
    """Open the worker context, and close it again in reverse order.

    `sources`: limits by source name. `logins`: credentials by source name; sources with the same
    credentials share a token. Raises WrongSchema if the database's schema is older or newer than
    this code.
    """
    async with AsyncExitStack() as stack:
        pool = await db.open_pool(
            where.database, size=config.database_pool_size, idle_limit=config.lease_seconds
        )
        stack.push_async_callback(_close_pool, pool)
        control = await db.open_pool(
            where.database,
            size=CONTROL_CONNECTIONS,
            idle_limit=config.lease_seconds,
            lock_wait=min(CONTROL_LOCK_WAIT, config.lease_seconds / 3),
            statement_limit=max(config.lease_seconds, 5.0),
        )
        stack.push_async_callback(_close_pool, control)
        await schema.check(pool)
        clock = Clock(timedelta(seconds=config.clock_skew_seconds))
        worker = worker_name()
        limiter = RedisLimiter(redis, worker=worker)
        ssl_context = ssl.create_default_context()
        thread = await stack.enter_async_context(ExchangeThread())
        guarded = open_client(
            user_agent(config.contact),
            concurrency=RECIPE_CONNECTIONS,
            ssl_context=ssl_context,
            guard=Guard.allowing(config.guard_allow),
            thread=thread,
        )
        sandbox = Sandbox()
        stack.push_async_callback(sandbox.close)
        engine = SessionEngine(
            where.database, size=config.database_pool_size, idle_limit=config.lease_seconds
        )
        stack.push_async_callback(engine.dispose)
        transport = open_job_transport(ssl_context, connections=JOB_CONNECTIONS)
        stack.push_async_callback(transport.aclose)
        context = WorkerContext(
            config=config,
            pool=pool,
            control=control,
            redis=redis,
            clock=clock,
            heartbeat=Heartbeat(control, clock, worker, timedelta(seconds=config.lease_seconds)),
            worker=worker,
            started_at=clock(),
            limiter=limiter,
            recipe_fetchers=Fetchers(await stack.enter_async_context(guarded), limiter, clock),
            sandbox=sandbox,
            engine=engine,
            job_transport=transport,
        )
        context.clients[WEBHOOK_CLIENT] = await stack.enter_async_context(
            open_client(
                user_agent(config.contact),
                concurrency=WEBHOOK_CONNECTIONS,
                ssl_context=ssl_context,
                guard=Guard.allowing(config.guard_allow),
                thread=thread,
            )
        )
        stack.push_async_callback(context.limiter.close)
        await context.heartbeat.beat()
        for name, limits in sources.items():
            client = open_client(
                user_agent(config.contact),
                concurrency=max(limits.concurrency, MIN_CONNECTIONS),
                ssl_context=ssl_context,
                thread=thread,
            )
            context.clients[name] = await stack.enter_async_context(client)
            context.fetchers[name] = Fetcher(
                client, context.limiter, source=name, limits=limits, clock=clock
            )
        _add_logins(context.fetchers, logins)
        yield context


def _add_logins(windows: dict[str, AnyFetcher], logins: Mapping[str, Login]) -> None:
    token_keepers: dict[Login, AuthorizationProvider] = {}
    for name, login in logins.items():
        window = windows[name]
        if isinstance(window, Fetcher):
            token_keeper = token_keepers.setdefault(login, authorization_provider(login, window))
            windows[name] = AuthenticatedFetcher(window, token_keeper, login.setting)


async def _close_pool(pool: Pool) -> None:
    try:
        async with asyncio.timeout(2):
            await pool.close()
    except (TimeoutError, *db.UNAVAILABLE):
        pool.terminate()


def worker_context(ctx: dict[str, Any]) -> WorkerContext:
    """The worker context held by arq's untyped `ctx`. Raises TypeError if startup did not run."""
    context = ctx["context"]
    if not isinstance(context, WorkerContext):
        raise TypeError("ctx['context'] is missing: on_startup did not run")
    return context
