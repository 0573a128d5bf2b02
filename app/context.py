"""The worker context: the Postgres pool, Redis, the clock and one HTTP client per source."""

import ssl
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MappingProxyType
from typing import Any

import httpx
from arq.connections import ArqRedis
from pydantic import SecretStr
from redis.asyncio import BlockingConnectionPool

from app.control import Clock, Heartbeat, close_pool, open_control_pool, worker_name
from app.core import redact
from app.core.config import Config
from app.core.job_scope import keep_from_jobs
from app.core.messages import HostLimits
from app.core.version import user_agent
from app.fetch.authenticated import AnyFetcher, FetcherOptions, Fetchers, Login, with_login
from app.fetch.client import Fetcher, open_client, open_job_transport
from app.fetch.exchange_thread import ExchangeThread
from app.fetch.large_pages import LargePages
from app.fetch.limiter import RedisLimiter
from app.fetch.permits import Limiter
from app.fetch.ssrf_guard import Guard
from app.fetch.tokens import ClientCredentials, TokenProvider
from app.sources.recipes.sandbox import Sandbox
from app.store import db, schema
from app.store.db import Pool
from app.store.servers import ServerUrls
from app.store.session_engine import SessionEngine

NO_LOGINS: Mapping[str, Login] = MappingProxyType({})
WEBHOOK_CLIENT = "webhooks"  # the name of the client for organisations' webhooks
WEBHOOK_CONNECTIONS = 64
RECIPE_CONNECTIONS = 64  # over all recipe sources together
JOB_CONNECTIONS = 64  # of the HTTP clients of all jobs together
JOB_REDIS_CONNECTIONS = 50  # of all jobs together
JOB_REDIS_SECONDS = 20  # for one of them to become free
CONTROL_CONNECTIONS = 2  # for leases and health, which never wait for the work
MIN_CONNECTIONS = 4  # a source may raise its concurrency while it runs


@dataclass(slots=True)
class WorkerContext:
    """What a worker opens and closes, handed to jobs. `worker`: this process's unique name.

    `control`: connections for heartbeats, leases and deciding. Work uses `pool`, so that its
    statements, which may wait for locks, cannot delay these. `engine` and `job_transport`: for the
    sessions and HTTP clients of jobs; both connect on first use, as does `job_redis`, the client of
    jobs, whose commands may wait and keep its connections. `hide`: removes the secrets of
    the settings and of jobs, and what looks like one, from a text that is recorded.
    """

    config: Config
    pool: Pool
    control: Pool
    redis: ArqRedis
    job_redis: ArqRedis
    clock: Clock
    heartbeat: Heartbeat
    worker: str
    started_at: datetime
    limiter: Limiter
    recipe_fetchers: Fetchers
    sandbox: Sandbox
    engine: SessionEngine
    job_transport: httpx.AsyncBaseTransport
    large_pages: LargePages
    hide: Callable[[str], str]
    clients: dict[str, httpx.AsyncClient] = field(default_factory=dict[str, httpx.AsyncClient])
    fetchers: dict[str, AnyFetcher] = field(default_factory=dict[str, AnyFetcher])
    job_secrets: Mapping[str, SecretStr] = field(default_factory=dict[str, SecretStr])

    def give_secrets(self, secrets: Mapping[str, SecretStr]) -> None:
        """Let jobs read these secrets, which `hide` removes from then on."""
        self.job_secrets = secrets
        self.hide = redact.text_redactor(self.config.secrets(secrets.values()))

    async def synchronise(self) -> None:
        """Synchronise with the database's clock."""
        await self.clock.synchronise(self.control)

    def open_fetcher(self, name: str, opening: FetcherOptions) -> None:
        """Open a fetcher for a source that was not known when the worker started.

        Its addresses pass the SSRF guard. It replaces an earlier one of the same name; only the
        most recently opened fetchers are kept.
        """
        for old in self.recipe_fetchers.record_opened(name):
            self.fetchers.pop(old, None)
        self.fetchers[name] = self.recipe_fetchers.create(name, opening)


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
        pool, control = await _open_pools(config, where, stack)
        await schema.check(pool)
        clock = Clock(timedelta(seconds=config.clock_skew_seconds))
        worker = worker_name()
        limiter = RedisLimiter(redis, worker=worker)
        thread = await stack.enter_async_context(ExchangeThread())
        clients = ClientFactory(config, ssl.create_default_context(), thread)
        guarded = await stack.enter_async_context(clients.guarded(RECIPE_CONNECTIONS))
        sandbox = Sandbox()
        stack.push_async_callback(sandbox.close)
        engine, transport, job_redis = _open_for_jobs(config, where, redis, clients, stack)
        context = WorkerContext(
            config=config,
            pool=pool,
            control=control,
            redis=redis,
            job_redis=job_redis,
            clock=clock,
            heartbeat=Heartbeat(control, clock, worker, timedelta(seconds=config.lease_seconds)),
            worker=worker,
            started_at=clock(),
            limiter=limiter,
            recipe_fetchers=Fetchers(guarded, limiter, clock),
            sandbox=sandbox,
            engine=engine,
            job_transport=transport,
            large_pages=thread.large_pages,
            hide=redact.text_redactor(config.secrets()),
        )
        stack.push_async_callback(limiter.close)
        await context.heartbeat.beat()
        await _open_sites(context, clients, (sources, logins), stack)
        yield context


async def _open_pools(
    config: Config, where: ServerUrls, stack: AsyncExitStack
) -> tuple[Pool, Pool]:
    """Open the pool of the work and the one of heartbeats, leases and deciding."""
    pool = await db.open_pool(
        where.database, size=config.database_pool_size, idle_limit=config.lease_seconds
    )
    stack.push_async_callback(close_pool, pool)
    control = await open_control_pool(
        where.database, size=CONTROL_CONNECTIONS, lease_seconds=config.lease_seconds
    )
    stack.push_async_callback(close_pool, control)
    return pool, control


def _open_for_jobs(
    config: Config,
    where: ServerUrls,
    redis: ArqRedis,
    clients: "ClientFactory",
    stack: AsyncExitStack,
) -> tuple[SessionEngine, httpx.AsyncBaseTransport, ArqRedis]:
    """What jobs get of Postgres, HTTP and Redis, which connects on first use; none closes it."""
    engine = SessionEngine(
        where.database, size=config.database_pool_size, idle_limit=config.lease_seconds
    )
    stack.push_async_callback(engine.dispose)
    transport = open_job_transport(clients.ssl_context, connections=JOB_CONNECTIONS)
    stack.push_async_callback(transport.aclose)
    job_redis = _own_connections(redis)
    stack.push_async_callback(job_redis.aclose, close_connection_pool=True)
    for client in (redis, job_redis):
        keep_from_jobs(client.connection_pool, "disconnect")
    keep_from_jobs(transport, "aclose")
    return engine, transport, job_redis


def _own_connections(redis: ArqRedis) -> ArqRedis:
    """A client like this one, with connections of its own."""
    pool: Any = redis.connection_pool
    own = BlockingConnectionPool(
        max_connections=JOB_REDIS_CONNECTIONS,
        timeout=JOB_REDIS_SECONDS,
        connection_class=pool.connection_class,
        **pool.connection_kwargs,
    )
    return ArqRedis(
        own, job_serializer=redis.job_serializer, job_deserializer=redis.job_deserializer
    )


@dataclass(frozen=True, slots=True)
class ClientFactory:
    """Opens the HTTP clients of a worker: one SSL context and one exchange thread for all."""

    config: Config
    ssl_context: ssl.SSLContext
    thread: ExchangeThread

    def guarded(self, connections: int) -> httpx.AsyncClient:
        """A client for URLs that users supply: they pass the SSRF guard."""
        return open_client(
            user_agent(self.config.contact),
            concurrency=connections,
            ssl_context=self.ssl_context,
            guard=Guard.allowing(self.config.guard_allow),
            thread=self.thread,
        )

    def of_site(self, limits: HostLimits) -> httpx.AsyncClient:
        """A client for one built-in source."""
        return open_client(
            user_agent(self.config.contact),
            concurrency=max(limits.concurrency, MIN_CONNECTIONS),
            ssl_context=self.ssl_context,
            thread=self.thread,
        )


async def _open_sites(
    context: WorkerContext,
    clients: ClientFactory,
    sites: tuple[Mapping[str, HostLimits], Mapping[str, Login]],
    stack: AsyncExitStack,
) -> None:
    """Open the clients of webhooks and of built-in sources, by limits and credentials by name."""
    webhooks = await stack.enter_async_context(clients.guarded(WEBHOOK_CONNECTIONS))
    context.clients[WEBHOOK_CLIENT] = webhooks
    sources, logins = sites
    providers: dict[ClientCredentials, TokenProvider] = {}
    for name, limits in sources.items():
        client = await stack.enter_async_context(clients.of_site(limits))
        fetcher = Fetcher(client, context.limiter, source=name, limits=limits, clock=context.clock)
        context.clients[name] = client
        context.fetchers[name] = with_login(fetcher, logins.get(name), providers)


def worker_context(ctx: dict[str, Any]) -> WorkerContext:
    """The worker context held by arq's untyped `ctx`. Raises TypeError if startup did not run."""
    context = ctx["context"]
    if not isinstance(context, WorkerContext):
        raise TypeError("ctx['context'] is missing: on_startup did not run")
    return context
