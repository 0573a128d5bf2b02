"""What the API holds open while it runs, and is handed to every one of its addresses."""

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

from app import backlog, log, telling
from app.access import Principal
from app.api import bench
from app.api.bench import Bench
from app.config import Config
from app.ledger import Queued
from app.queue import redis_pool
from app.store import beats, tenancy
from app.store.db import AWAY, HOUSE, Connection, Pool, speak_json

CONNECTIONS = 8
STATEMENT_SECONDS = 5.0
CONNECT_SECONDS = 2.0
REDIS_SECONDS = 1.0

Sources = Sequence[Mapping[str, Any]]  # {"source": name, "params": {…}}
# What is wrong with a preset's sources, for this organisation: fields, and what is wrong with each.
Check = Callable[[Connection, UUID, Sources], Awaitable[Sequence[tuple[str, str]]]]
Now = Callable[[Pool], Awaitable[datetime]]

_log = log.logger(__name__)


@dataclass(slots=True)
class Desk:
    """Postgres, Redis, the settings, what may be chosen, where recipes are tried, and the time."""

    config: Config
    pool: Pool
    redis: ArqRedis
    check: Check
    bench: Bench
    now: Now = beats.database_now
    _kept_apart: bool = field(default=False)

    async def keeps_apart(self) -> bool:
        """Whether Postgres keeps organisations apart; asked until it does."""
        if not self._kept_apart:
            self._kept_apart = await tenancy.enforced(self.pool)
        return self._kept_apart

    async def tell(self, queued: Iterable[Queued]) -> None:
        """Tell Redis of queued runs. What it does not hear, a worker's sweep tells it again."""
        wanted = list(queued)
        if not wanted:
            return
        try:
            await telling.tell(self.pool, self.redis, wanted)
            await backlog.admit(self.redis)
        except (RedisError, *AWAY) as error:
            _log.warning("collection.untold", runs=len(wanted), error=repr(error))


@dataclass(frozen=True, slots=True)
class Asking:
    """One request, understood: who asks, when, and for what."""

    desk: Desk
    who: Principal
    now: datetime
    path: Mapping[str, Any]
    body: Any
    query: Any
    revision: int | None

    @property
    def org_id(self) -> UUID:
        """Whose rows they are."""
        return self.who.org_id


@dataclass(frozen=True, slots=True)
class Answer:
    """What is answered: a body or none, and headers beside the usual ones."""

    body: BaseModel | None = None
    headers: Mapping[str, str] = field(default_factory=dict[str, str])


@asynccontextmanager
async def opened(
    config: Config, urls: tuple[str, str], check: Check, now: Now = beats.database_now
) -> AsyncGenerator[Desk]:
    """Open what the API needs, Redis and Postgres at these addresses. Neither has to be up."""
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
        init=speak_json,
        server_settings=HOUSE | {"timezone": "UTC", "application_name": "rollcall api"},
    )
    try:
        async with bench.opened(config, redis_url) as tools:
            desk = Desk(config, pool, redis, check, tools, now)
            await _look(desk)
            yield desk
    finally:
        pool.terminate()
        await redis.aclose(close_connection_pool=True)


async def _look(desk: Desk) -> None:
    with suppress(*AWAY, asyncpg.PostgresError):
        if not await desk.keeps_apart():
            _log.error("tenancy.bypassed", mend=BYPASSED)


BYPASSED = (
    "the role of DATABASE_URL bypasses row-level security, so organisations would not be kept"
    " apart: use a role that is neither superuser nor has BYPASSRLS"
)
