"""The API context: pools, settings and dry runs, opened once and passed to every handler."""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
from arq.connections import ArqRedis
from pydantic import BaseModel
from redis.exceptions import RedisError

from app.core import log
from app.core.config import Config
from app.orgs.tokens import Principal
from app.queue import enqueue
from app.queue.jobs import redis_pool
from app.store import tenancy
from app.store.db import OPERATOR_SESSION, UNAVAILABLE, Connection, Pool, register_json_codec
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats
from app.web.api import dry_run_pool
from app.web.api.dry_run_pool import DryRunner

CONNECTIONS = 8
STATEMENT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
REDIS_SECONDS = 1.0

Sources = Sequence[Mapping[str, Any]]  # {"source": name, "params": {…}}
# Validates a preset's sources for an organisation; returns (field, message) for each fault.
SourceCheck = Callable[[Connection, UUID, Sources], Awaitable[Sequence[tuple[str, str]]]]
Now = Callable[[Pool], Awaitable[datetime]]

_log = log.logger(__name__)


@dataclass(slots=True)
class ApiContext:
    """What every handler gets: settings, Postgres, Redis, source validation, dry runs, clock."""

    config: Config
    pool: Pool
    redis: ArqRedis
    check_sources: SourceCheck
    dry_runner: DryRunner
    now: Now = heartbeats.database_now
    _isolation_enforced: bool = field(default=False)

    async def isolation_enforced(self) -> bool:
        """Whether row-level security binds our role. Queried until it does, then cached."""
        if not self._isolation_enforced:
            self._isolation_enforced = await tenancy.rls_enforced(self.pool)
        return self._isolation_enforced

    async def enqueue(self, queued: Iterable[QueuedRun]) -> None:
        """Enqueue these runs in Redis. Those that fail are enqueued later by a worker's sweep."""
        runs = list(queued)
        if not runs:
            return
        try:
            await enqueue.enqueue_runs(self.pool, self.redis, runs)
        except (RedisError, *UNAVAILABLE) as error:
            _log.warning("collection.untold", runs=len(runs), error=repr(error))


@dataclass(frozen=True, slots=True)
class ApiRequest:
    """One validated API request: principal, time, path parameters, body, query and revision.

    `revision`: of If-Match; None if the request does not depend on one.
    """

    context: ApiContext
    principal: Principal
    now: datetime
    path: Mapping[str, Any]
    body: Any
    query: Any
    revision: int | None

    @property
    def org_id(self) -> UUID:
        """The organisation whose rows the request may see."""
        return self.principal.org_id


@dataclass(frozen=True, slots=True)
class ApiResponse:
    """What a handler returns: a body or none, and headers in addition to the standard ones."""

    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@asynccontextmanager
async def open_api_context(
    config: Config, urls: tuple[str, str], check: SourceCheck, now: Now = heartbeats.database_now
) -> AsyncGenerator[ApiContext]:
    """Yield the API context and close it afterwards.

    `urls`: of Redis and Postgres. Neither has to be reachable yet.
    """
    redis_url, database_url = urls
    redis = redis_pool(
        redis_url,
        ssl_cert_reqs=config.redis_ssl_cert_reqs,
        max_connections=4,
        timeout=REDIS_SECONDS,
    )
    pool = await asyncpg.create_pool(
        database_url,
        min_size=0,
        max_size=CONNECTIONS,
        timeout=CONNECT_SECONDS,
        command_timeout=STATEMENT_SECONDS,
        init=register_json_codec,
        server_settings=OPERATOR_SESSION | {"timezone": "UTC", "application_name": "rollcall api"},
    )
    try:
        async with dry_run_pool.open_dry_runner(config, redis_url) as dry_runs:
            context = ApiContext(config, pool, redis, check, dry_runs, now)
            with suppress(*UNAVAILABLE, asyncpg.PostgresError):
                if not await context.isolation_enforced():
                    _log.error("tenancy.bypassed", fix=RLS_BYPASSED)
            yield context
    finally:
        pool.terminate()
        await redis.aclose(close_connection_pool=True)


RLS_BYPASSED = (
    "the role of DATABASE_URL bypasses row-level security, so organisations would not be isolated"
    " from each other: use a role that is not a superuser and does not have BYPASSRLS"
)
