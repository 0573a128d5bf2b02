"""What the web holds open while it runs: Redis, Postgres, and what it read of them last."""

import asyncio
from collections.abc import AsyncGenerator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from pydantic import SecretStr

from app.api import desk
from app.api.desk import Check, Desk, Now
from app.config import Config
from app.web.fresh import Fresh
from app.web.health import Snapshot, open_redis, take
from app.web.ready import (
    Readiness,
    RecentRuns,
    check,
    close_postgres,
    open_postgres,
    recent_runs,
    refuse_wrong_schema,
)


@dataclass(frozen=True, slots=True)
class State:
    """The answers of the last second, and the desk of the API."""

    snapshot: Fresh[Snapshot]
    ready: Fresh[Readiness]
    runs: Fresh[list[Mapping[str, Any]] | None]
    api: Desk


@asynccontextmanager
async def open_state(
    config: Config, query: RecentRuns, check_: Check, now: Now
) -> AsyncGenerator[State]:
    """Open what the web needs, and close it. Neither server has to be up.

    Raises WrongSchema if Postgres is there and has another schema than this code wants.
    Raises ServersUnavailable if a URL is missing and no private servers can be started.
    """
    async with AsyncExitStack() as stack:
        urls = redis_url, database_url = await _urls(config, stack)
        redis = open_redis(config, redis_url)
        stack.push_async_callback(redis.aclose)
        pool = await open_postgres(database_url)
        stack.push_async_callback(close_postgres, pool)
        await refuse_wrong_schema(pool)
        yield State(
            snapshot=Fresh(partial(take, redis)),
            ready=Fresh(partial(check, redis, pool)),
            runs=Fresh(partial(recent_runs, pool, query)),
            api=await stack.enter_async_context(desk.opened(config, urls, check_, now)),
        )


async def _urls(config: Config, stack: AsyncExitStack) -> tuple[str, str]:
    redis, database = _plain(config.redis_url), _plain(config.database_url)
    if redis is not None and database is not None:
        return redis, database
    from app.embedded import start  # noqa: PLC0415  # production sets both and never opens that room

    servers = await asyncio.to_thread(start, config.data_dir)
    stack.push_async_callback(asyncio.to_thread, servers.close)
    return redis or servers.redis_url, database or servers.database_url


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
