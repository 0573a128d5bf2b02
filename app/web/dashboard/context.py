"""WebContext: the clients, session signer and caches that the dashboard pages share."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from secrets import token_bytes
from uuid import UUID

import asyncpg
from arq.connections import ArqRedis
from markupsafe import Markup
from redis.asyncio import Redis

from app.core import log
from app.core.config import Config
from app.orgs import tokens
from app.orgs.tokens import Principal
from app.queue.jobs import redis_pool
from app.store.db import OPERATOR_SESSION, UNAVAILABLE, Pool, register_json_codec
from app.store.reports import overview
from app.web.dashboard import rendering
from app.web.dashboard.job_rows import StripCache
from app.web.dashboard.jobs_table import BoardRows, JobsBoard, build_board, read_board
from app.web.dashboard.login_throttle import LoginThrottle
from app.web.dashboard.session import Session, SessionSigner
from app.web.dashboard.tick_cache import TickCache
from app.web.dashboard.tick_slots import SHOWN_TICKS
from app.web.health.snapshot import HealthSnapshot
from app.web.ttl_cache import TtlCache, with_deadline

TOKEN_CACHE_SECONDS = 2.0  # seconds for which a token lookup is cached
MAX_CACHED_TOKENS = 1000
CLOSE_TIMEOUT = 0.8
READ_TIMEOUT = 3.0  # seconds for which a page waits for Postgres

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class JobsTable:
    """The jobs table, as data and as rendered HTML."""

    board: JobsBoard
    html: Markup


@dataclass(slots=True)
class WebContext:
    """What a page may need. `redis` is the client that the health endpoints use as well."""

    config: Config
    pool: Pool
    redis: Redis
    queue: ArqRedis
    signer: SessionSigner
    login_throttle: LoginThrottle
    snapshot: TtlCache[HealthSnapshot]
    table: TtlCache[JobsTable]
    fingerprint: TtlCache[str]
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    stream_count: int = 0
    _trusted: dict[UUID, tuple[float, Principal]] = field(
        default_factory=dict[UUID, tuple[float, Principal]]
    )

    async def authenticate(self, session: Session) -> Principal:
        """The principal of a session whose token is still valid.

        Raises Unauthorized if it is not, and the errors of AWAY if Postgres does not answer.
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


@asynccontextmanager
async def open_web_context(
    config: Config, redis: Redis, urls: tuple[str, str], snapshot: TtlCache[HealthSnapshot]
) -> AsyncGenerator[WebContext]:
    """Open the context and close it at the end. `urls`: of Redis and Postgres, reachable or not."""
    redis_url, database_url = urls
    pool = await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=5,
        timeout=2,
        command_timeout=10,
        init=register_json_codec,
        server_settings=OPERATOR_SESSION | {"application_name": "rollcall web", "timezone": "UTC"},
    )
    queue = redis_pool(redis_url, ssl_cert_reqs=config.redis_ssl_cert_reqs, timeout=2)
    patience = timedelta(seconds=config.lease_seconds)
    context = WebContext(
        config=config,
        pool=pool,
        redis=redis,
        queue=queue,
        signer=SessionSigner(_secret(config)),
        login_throttle=LoginThrottle(redis),
        snapshot=snapshot,
        table=TtlCache(
            partial(
                _table,
                partial(_read_board, pool, patience, TickCache(SHOWN_TICKS)),
                snapshot,
                StripCache(),
            )
        ),
        fingerprint=TtlCache(partial(_pulse, pool, snapshot)),
    )
    try:
        yield context
    finally:
        context.stopping.set()
        await queue.aclose(close_connection_pool=True)
        await _close(pool)


async def _read_board(pool: Pool, patience: timedelta, memory: TickCache) -> BoardRows | None:
    try:
        return await with_deadline(READ_TIMEOUT, read_board(pool, patience, memory))
    except TimeoutError:
        return None


async def _table(
    read_rows: Callable[[], Awaitable[BoardRows | None]],
    snapshot: TtlCache[HealthSnapshot],
    drawings: StripCache,
) -> JobsTable:
    judged, rows = await asyncio.gather(snapshot.value(), read_rows())
    content = build_board(judged, rows, drawings)
    return JobsTable(content, rendering.table(content))


async def _pulse(pool: Pool, snapshot: TtlCache[HealthSnapshot]) -> str:
    """A text that changes whenever the content of a page changes."""
    current = await snapshot.value()
    try:
        database = await with_deadline(READ_TIMEOUT, overview.change_marker(pool))
    except UNAVAILABLE:
        database = None
    jobs = {key: (job.health.status, job.health.reason) for key, job in current.jobs.items()}
    return f"{database} {sorted(current.workers)} {current.reason} {jobs}"


async def _close(pool: Pool) -> None:
    try:
        await with_deadline(CLOSE_TIMEOUT, pool.close())
    except UNAVAILABLE:
        pool.terminate()


def _secret(config: Config) -> bytes:
    if config.session_secret is not None:
        return config.session_secret.get_secret_value().encode()
    if config.database_url is not None:
        _log.warning("session.secret_unset", hint="set SESSION_SECRET: a restart ends all sessions")
    return token_bytes(32)
