"""WebContext: the clients of Redis and Postgres, and the caches, of one web process."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_bytes
from typing import Any
from uuid import UUID

import asyncpg
from arq.connections import ArqRedis
from markupsafe import Markup
from redis.exceptions import RedisError
from starlette.requests import Request

from app.core import log
from app.core.config import Config
from app.core.tasks import cancel_all
from app.health import publish, rules
from app.health.alerts.watcher import AlertWatcher
from app.orgs import one_time_login, tokens
from app.orgs.steering import Steering
from app.orgs.tokens import Principal
from app.queue import enqueue
from app.queue.jobs import redis_pool
from app.scheduling.policies import Policies
from app.store import db, tenancy
from app.store.db import UNAVAILABLE, Connection, Pool
from app.store.reports import overview
from app.store.runs.run_rows import QueuedRun
from app.store.servers import ServerUrls, server_urls
from app.web.api.dry_run_pool import DryRunner, open_dry_runner
from app.web.dashboard.job_rows import StripCache
from app.web.dashboard.jobs_html import DrawnRows
from app.web.dashboard.jobs_table import BoardRows, JobsBoard, build_board, read_board
from app.web.dashboard.session import Session, SessionSigner
from app.web.dashboard.tick_cache import TickCache
from app.web.dashboard.tick_slots import SHOWN_TICKS
from app.web.health.metrics import scrape
from app.web.health.readiness import Readiness, check, check_schema
from app.web.health.snapshot import HealthSnapshot, take_snapshot
from app.web.open_streams import OpenStreams
from app.web.throttle import ChangeThrottle, FailureThrottle
from app.web.ttl_cache import TtlCache, with_deadline

# The web process checks for alerts too, so that they are sent when every worker is dead.
ALERT_CHECK_SECONDS = 3.0
POSTGRES_CONNECTIONS = 16
REDIS_CONNECTIONS = 24
CONNECT_SECONDS = 2.0
STATEMENT_SECONDS = 5.0
REDIS_SECONDS = 1.0
READ_TIMEOUT = 3.0  # seconds for which a page waits for Postgres
CLOSE_TIMEOUT = 0.8
ENQUEUE_SECONDS = 2.0
TOKEN_CACHE_SECONDS = 2.0  # seconds for which a token lookup is cached
MAX_CACHED_TOKENS = 1000
SIGN_IN_FAILURES = 10  # per client in five minutes
TOKEN_FAILURES = 30  # per client in a minute
RLS_BYPASSED = (
    "the role of DATABASE_URL bypasses row-level security, so organisations would not be isolated"
    " from each other: use a role that is not a superuser and does not have BYPASSRLS"
)

Sources = Sequence[Mapping[str, Any]]  # {"source": name, "params": {…}}
# Validates a preset's sources for an organisation; returns (field, message) for each fault.
SourceCheck = Callable[[Connection, UUID, Sources], Awaitable[Sequence[tuple[str, str]]]]
Now = Callable[[Pool], Awaitable[datetime]]


@dataclass(frozen=True, slots=True)
class DeclaredJobs:
    """What the web has to know of the declared jobs, which packages below it cannot import.

    `odds_max_age`: the age from which a price is stale. `json_params`: returns validated parameters
    of a task; it may import own jobs, which takes as long as they take. `default_policies`: of a
    job without a schedule.
    """

    check_sources: SourceCheck
    odds_max_age: Callable[[], timedelta]
    json_params: Callable[[str, dict[str, Any]], dict[str, Any]]
    default_policies: Policies


_log = log.logger(__name__)


@dataclass(slots=True)
class JobsTable:
    """The jobs table, as data and as HTML, which is rendered when it is first asked for."""

    board: JobsBoard
    drawn: DrawnRows
    _html: Markup | None = None

    @property
    def html(self) -> Markup:
        """All rows of the table as HTML."""
        if self._html is None:
            self._html = self.drawn.table(self.board)
        return self._html


@dataclass(slots=True)
class WebContext:
    """What a request handler may need. `now` is the clock of the API."""

    config: Config
    pool: Pool
    redis: ArqRedis
    signer: SessionSigner
    sign_in_failures: FailureThrottle
    token_failures: FailureThrottle
    changes: ChangeThrottle
    dry_runner: DryRunner
    declared: DeclaredJobs
    now: Now
    snapshot: TtlCache[HealthSnapshot]
    ready: TtlCache[Readiness]
    metrics: TtlCache[bytes]
    table: TtlCache[JobsTable]
    fingerprint: TtlCache[str]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    streams: OpenStreams = field(default_factory=lambda: OpenStreams(200, per_org=20))
    exports: OpenStreams = field(default_factory=lambda: OpenStreams(20, per_org=3))
    _isolation_enforced: bool = False
    _trusted: dict[UUID, tuple[float, Principal]] = field(
        default_factory=dict[UUID, tuple[float, Principal]]
    )

    async def isolation_enforced(self) -> bool:
        """Whether row-level security binds our role. Queried until it does, then cached."""
        if not self._isolation_enforced:
            self._isolation_enforced = await tenancy.rls_enforced(self.pool)
        return self._isolation_enforced

    async def authenticate(self, session: Session) -> Principal:
        """The principal of a session whose token is still valid.

        Raises Unauthorized if it is not, and the errors of UNAVAILABLE if Postgres does not answer.
        """
        now = asyncio.get_running_loop().time()
        cached = self._trusted.get(session.token_id)
        if cached is not None and now < cached[0]:
            return cached[1]
        self._trusted.pop(session.token_id, None)
        principal = await with_deadline(
            READ_TIMEOUT, tokens.revalidate(self.pool, session.token_id, datetime.now(UTC))
        )
        if len(self._trusted) >= MAX_CACHED_TOKENS:
            self._trusted.clear()
        self._trusted[session.token_id] = (now + TOKEN_CACHE_SECONDS, principal)
        return principal

    def forget_token(self, token_id: UUID) -> None:
        """Drop the cached lookup of a token."""
        self._trusted.pop(token_id, None)

    async def is_stopping_within(self, seconds: float) -> bool:
        """Wait for so long, or until the process stops; returns whether it does."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self.stopping.wait(), seconds)
        return self.stopping.is_set()

    @property
    def steering(self) -> Steering:
        """What acts on jobs and runs."""
        return Steering(self.pool, self.config, self.declared.default_policies)

    async def enqueue(self, queued: Iterable[QueuedRun], until: datetime | None = None) -> None:
        """Enqueue these runs in Redis, to start at `until` if it is given.

        Those that fail are enqueued later by a worker's sweep.
        """
        runs = list(queued)
        if not runs:
            return
        try:
            async with asyncio.timeout(ENQUEUE_SECONDS):
                await enqueue.enqueue_runs(self.pool, self.redis, runs, until)
        except (RedisError, *UNAVAILABLE) as error:
            _log.warning("runs.not_enqueued", runs=len(runs), error=repr(error))

    async def publish_job(self, key: str) -> None:
        """Publish the health of a job that was just changed, so that it shows at once."""
        try:
            async with asyncio.timeout(ENQUEUE_SECONDS):
                await publish.publish_job(self.pool, self.redis, key)
        except (RedisError, *UNAVAILABLE) as error:
            _log.warning("health.not_published", job=key, error=repr(error))
        self.snapshot.forget()
        self.table.forget()


def web_context(request: Request) -> WebContext:
    """The context of the process that serves the request."""
    context: WebContext = request.state.web
    return context


@asynccontextmanager
async def open_web_context(
    config: Config, declared: DeclaredJobs, now: Now
) -> AsyncGenerator[WebContext]:
    """Open the context and close it at the end. Neither server has to be reachable.

    Raises WrongSchema if Postgres answers and its schema is not the one this version expects.
    Raises ServersUnavailable if a URL is missing and the embedded servers cannot be started.
    """
    async with AsyncExitStack() as stack:
        urls = await asyncio.to_thread(server_urls, config)
        redis, pool = await _open_servers(config, urls, stack)
        watcher = AlertWatcher(config, pool, redis)
        stack.push_async_callback(watcher.close)
        watch = asyncio.create_task(watcher.run_forever(ALERT_CHECK_SECONDS))
        stack.push_async_callback(cancel_all, [watch])
        snapshot = TtlCache(partial(take_snapshot, redis, rules.rules_from_config(config)))
        context = WebContext(
            config=config,
            pool=pool,
            redis=redis,
            signer=SessionSigner(_session_secret(config)),
            sign_in_failures=FailureThrottle(redis, "sign_in", SIGN_IN_FAILURES, 300),
            token_failures=FailureThrottle(redis, "api_refused", TOKEN_FAILURES, 60),
            changes=ChangeThrottle(redis),
            dry_runner=await stack.enter_async_context(open_dry_runner(config, redis, urls.redis)),
            declared=declared,
            now=now,
            snapshot=snapshot,
            ready=TtlCache(partial(check, redis, pool)),
            metrics=TtlCache(partial(scrape, redis, pool, snapshot, config.monthly_requests)),
            table=TtlCache(_jobs_table_reader(config, pool, snapshot)),
            fingerprint=TtlCache(partial(_fingerprint, pool, snapshot)),
        )
        stack.callback(context.stopping.set)
        with suppress(*UNAVAILABLE, asyncpg.PostgresError):
            if not await with_deadline(CONNECT_SECONDS, context.isolation_enforced()):
                _log.error("row_security.bypassed", fix=RLS_BYPASSED)
        if config.database_url is None:
            await one_time_login.print_login(redis, sys.argv)
        yield context


async def _open_servers(
    config: Config, urls: ServerUrls, stack: AsyncExitStack
) -> tuple[ArqRedis, Pool]:
    redis = redis_pool(
        urls.redis,
        ssl_cert_reqs=config.redis_ssl_cert_reqs,
        max_connections=REDIS_CONNECTIONS,
        timeout=REDIS_SECONDS,
    )
    stack.push_async_callback(redis.aclose, close_connection_pool=True)
    pool = await db.create_pool(
        urls.database,
        {"application_name": "rollcall web", "timezone": "UTC"},
        min_size=0,  # Postgres may be down
        max_size=POSTGRES_CONNECTIONS,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
    )
    stack.push_async_callback(_close_pool, pool)
    await check_schema(pool)
    return redis, pool


async def _close_pool(pool: Pool) -> None:
    try:
        await with_deadline(CLOSE_TIMEOUT, pool.close())
    except UNAVAILABLE:
        pool.terminate()


def _session_secret(config: Config) -> bytes:
    if config.session_secret is not None:
        return config.session_secret.get_secret_value().encode()
    if config.database_url is not None:
        _log.warning("session.secret_unset", hint="set SESSION_SECRET: a restart ends all sessions")
    return token_bytes(32)


def _jobs_table_reader(
    config: Config, pool: Pool, snapshot: TtlCache[HealthSnapshot]
) -> Callable[[], Any]:
    max_silence = timedelta(seconds=config.lease_seconds)
    ticks, strips, drawn = TickCache(SHOWN_TICKS), StripCache(), DrawnRows()

    async def read_rows() -> BoardRows | None:
        try:
            return await with_deadline(READ_TIMEOUT, read_board(pool, max_silence, ticks))
        except TimeoutError:
            return None

    async def read() -> JobsTable:
        judged, rows = await asyncio.gather(snapshot.value(), read_rows())
        board = build_board(judged, rows, strips)
        drawn.forget_others(board)
        return JobsTable(board, drawn)

    return read


async def _fingerprint(pool: Pool, snapshot: TtlCache[HealthSnapshot]) -> str:
    """A text that changes whenever the content of a page changes."""
    current = await snapshot.value()
    try:
        database = await with_deadline(READ_TIMEOUT, overview.change_marker(pool))
    except UNAVAILABLE:
        database = None
    jobs = {key: (job.health.status, job.health.reason_text) for key, job in current.jobs.items()}
    return f"{database} {sorted(current.workers)} {current.reason} {jobs}"
