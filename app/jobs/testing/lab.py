"""A lab: one job's runs in this process, on a Postgres and a Redis of its own."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import asyncpg
from pydantic import SecretStr

from app import context as contexts
from app import embedded, migrations
from app.context import Clock, WorkerContext
from app.core.config import Config
from app.core.messages import HostLimits
from app.fetch.client import Fetcher
from app.fetch.slim_client import SlimClient
from app.jobs.testing.web import PretendWeb
from app.ledger import edit
from app.ledger.decide import decide_schedule
from app.ledger.edit import DeclaredSchedule
from app.queue.jobs import redis_pool
from app.runs.leases import Leases
from app.store import tables
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from app.store.servers import ServerUrls
from workers.discovery import JOB_OF_CLASS
from workers.execute import execute
from workers.job import Job

UNLIMITED = HostLimits(rate=10_000, burst=10_000, concurrency=64)
INSTANT = timedelta(microseconds=1)
START = datetime(2026, 3, 2, 12, tzinfo=UTC)


@dataclass(slots=True)
class LabClock:
    """A clock that stands until it is set."""

    now: datetime = START

    def __call__(self) -> datetime:
        return self.now

    def advance(self, seconds: float) -> None:
        """Let some time pass."""
        self.now += timedelta(seconds=seconds)


@dataclass(frozen=True, slots=True)
class Given:
    """What a test gives: values of settings by their names in lower case, and secrets."""

    settings: Mapping[str, Any] | None = None
    secrets: Mapping[str, str] | None = None


@dataclass(frozen=True, slots=True)
class RunResult:
    """A run as it is stored. `events`: what happened to it, such as `retried`, in order."""

    id: UUID
    status: str
    stats: Mapping[str, Any]
    error_type: str | None
    error_message: str | None
    attempt: int
    not_before: datetime | None
    events: tuple[str, ...]


@dataclass(slots=True)
class Lab:
    """Runs one job. `clock` is the clock of everything that is decided and recorded."""

    job: Job
    context: WorkerContext
    clock: LabClock
    web: PretendWeb
    urls: ServerUrls
    _leases: Leases = field(init=False)

    def __post_init__(self) -> None:
        context = self.context
        seconds = context.config.lease_seconds
        self._leases = Leases(context.control, self.clock, seconds, context.hide)

    async def run(self, **params: Any) -> RunResult:
        """Execute a run that was asked for by hand, with these parameters."""
        return await self.execute(await self.request(**params))

    async def request(self, **params: Any) -> UUID:
        """Queue a run by hand, and do not execute it; returns its id."""
        run_id, config = uuid4(), self.context.config
        request = RunRequest(
            run_id, self.job.name, params, "test", config.max_attempts, config.job_timeout_seconds
        )
        await run_rows.request(self.context.pool, request, self.clock())
        return run_id

    async def tick(self, at: datetime) -> RunResult:
        """Set the clock to a tick of the job's schedule, and execute the run that it creates.

        Raises ValueError if `at` is not a tick, or its policies do not let it run.
        """
        return await self.execute(await self.decide(at))

    async def decide(self, at: datetime) -> UUID:
        """Decide the tick at `at`, and do not execute its run; returns the run's id."""
        declared = self.declared()
        if declared.schedule.next(at - INSTANT) != at:
            raise ValueError(f"{at} is not a tick of {self.job.name}: {declared.schedule.rule}")
        pool = self.context.pool
        await edit.register(pool, [declared], min(self.clock(), at - INSTANT))
        self.clock.now = max(self.clock.now, at)
        await decide_schedule(pool, declared.key, self.clock())
        run_id: UUID | None = await pool.fetchval(
            "SELECT run_id FROM ticks WHERE scheduled_for = $1", at
        )
        if run_id is None:
            raise ValueError(f"the policies of {self.job.name} do not let {at} run")
        return run_id

    async def execute(self, run_id: UUID) -> RunResult:
        """Execute a queued run; one that waits for a retry or a deferral is first waited for."""
        result = await self.read(run_id)
        if result.not_before is not None:
            self.clock.now = max(self.clock.now, result.not_before)
        ctx = {
            "context": self.context,
            "leases": self._leases,
            "redis": self.context.redis,
            "job_id": f"run:{run_id}:{result.attempt}",
        }
        await execute(ctx, self.job, str(run_id))
        return await self.read(run_id)

    async def read(self, run_id: UUID) -> RunResult:
        """The run as it is stored."""
        row = await run_rows.read_run(self.context.pool, run_id)
        if row is None:
            raise ValueError(f"there is no run {run_id}")
        events = await self.rows(
            "SELECT event FROM run_events WHERE execution_id = $1 ORDER BY id", run_id
        )
        return RunResult(
            run_id,
            row["status"],
            row["stats"],
            row["error_type"],
            row["error_message"],
            row["attempt"],
            row["not_before"],
            tuple(event["event"] for event in events),
        )

    async def rows(self, sql: str, *values: object) -> list[dict[str, Any]]:
        """What a query returns."""
        return [dict(row) for row in await self.context.pool.fetch(sql, *values)]

    async def items(self, source: str) -> dict[str, Any]:
        """The stored items of a source: their data by key."""
        rows = await self.rows("SELECT key, data FROM items WHERE source = $1 ORDER BY 1", source)
        return {row["key"]: row["data"] for row in rows}

    def declared(self) -> DeclaredSchedule:
        """The job's schedule. Raises ValueError if it has none."""
        declared = self.job.declared(self.context.config)
        if not declared:
            raise ValueError(f"{self.job.name} has no schedule: use `run`")
        return declared[0]


def job_of(declared: Any) -> Job:
    """The job that `@job` or `@source` declared. Raises TypeError for anything else."""
    job = declared if isinstance(declared, Job) else getattr(declared, JOB_OF_CLASS, None)
    if not isinstance(job, Job):
        raise TypeError(f"{declared!r} is neither a job nor a source")
    return job


@asynccontextmanager
async def lab(
    declared: Any,
    *,
    web: PretendWeb | None = None,
    now: datetime = START,
    servers: ServerUrls | None = None,
    settings: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
) -> AsyncGenerator[Lab]:
    """Open a lab for a job or a source, with an empty database.

    `servers`: a migrated database and a Redis to use instead of private ones. `settings`: other
    values of settings, by their names in lower case. `secrets`: those that the job declares; it
    gets no others. Raises ValueError if one is missing.
    """
    job, pages = job_of(declared), web or PretendWeb()
    async with AsyncExitStack() as stack:
        if servers is None:
            servers = await (await stack.enter_async_context(private_servers())).empty()
        yield await stack.enter_async_context(
            open_lab(job, servers, pages, now, Given(settings, secrets))
        )


class PrivateServers:
    """A private Postgres with a migrated database to copy, and a private Redis."""

    def __init__(self, database_url: str, redis_url: str) -> None:
        self._url, self._redis_url = database_url, redis_url
        self._made: list[str] = []

    async def empty(self) -> ServerUrls:
        """A new database with the schema and nothing in it, and Redis, which is emptied."""
        if not self._made:
            await asyncio.to_thread(migrations.upgrade, await self._create())
        url = await self._create(template=self._made[0])
        redis = redis_pool(self._redis_url)
        await redis.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
        await redis.aclose(close_connection_pool=True)
        return ServerUrls(url, self._redis_url)

    async def _create(self, template: str | None = None) -> str:
        name = f"lab_{uuid4().hex}"
        copied = "" if template is None else f' TEMPLATE "{template}"'
        await _execute(self._url, f'CREATE DATABASE "{name}"{copied}')
        self._made.append(name)
        return urlsplit(self._url)._replace(path=f"/{name}").geturl()

    async def close(self) -> None:
        """Drop the databases."""
        for name in self._made:
            # Autovacuum, which this role may not end, may be in it: then it goes with the servers.
            with suppress(asyncpg.InsufficientPrivilegeError):
                await _execute(self._url, f'DROP DATABASE "{name}" WITH (FORCE)')


@asynccontextmanager
async def private_servers() -> AsyncGenerator[PrivateServers]:
    """Servers of this process: started by the first lab, stopped and deleted when it ends."""
    folder = Path(tempfile.gettempdir()) / f"rollcall-lab-{os.getuid()}-{os.getpid()}"
    started = await asyncio.to_thread(embedded.start, folder, discard=True)
    servers = PrivateServers(started.database_url, started.redis_url)
    try:
        yield servers
    finally:
        await servers.close()


async def _execute(dsn: str, statement: str) -> None:
    connection = await asyncpg.connect(dsn)
    try:
        await connection.execute(statement)
    finally:
        await connection.close()


@asynccontextmanager
async def open_lab(
    job: Job, urls: ServerUrls, web: PretendWeb, now: datetime, given: Given
) -> AsyncGenerator[Lab]:
    """Open the worker context of a lab on these servers."""
    secrets = given.secrets or {}
    if missing := [name for name in job.secrets if name not in secrets]:
        raise ValueError(f"{job.name} declares {missing[0]}: give secrets={{{missing[0]!r}: …}}")
    values: dict[str, Any] = {
        "database_url": SecretStr(urls.database),
        "redis_url": SecretStr(urls.redis),
        "database_pool_size": 5,
    }
    config = Config(_env_file=None, **(values | dict(given.settings or {})))  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword
    redis = redis_pool(urls.redis)
    try:
        async with contexts.open_context(config, urls, redis, {}) as context:
            clock = LabClock(now)
            context.clock = cast("Clock", clock)
            context.give_secrets({name: SecretStr(value) for name, value in secrets.items()})
            await context.job_transport.aclose()
            context.job_transport = web.transport()
            _open_fetchers(job, context, web)
            await tables.create_missing(context.pool, job.tables)
            yield Lab(replace(job, limits=UNLIMITED), context, clock, web, urls)
    finally:
        await redis.aclose(close_connection_pool=True)


def _open_fetchers(job: Job, context: WorkerContext, web: PretendWeb) -> None:
    for source in () if job.group is None else job.group.every_source(context.config):
        client = SlimClient(web.transport(), headers={}, timeout=contexts.httpx.Timeout(5))
        context.fetchers[source.name] = Fetcher(
            client,
            context.limiter,
            source=source.name,
            limits=UNLIMITED,
            clock=context.clock,
            rng=lambda: 0.0,
        )
