"""State of the web process: its clients of Redis and Postgres, and its caches."""

import asyncio
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr

from app.core.config import Config
from app.health import rules
from app.health.alerts.watcher import Watcher
from app.orgs import one_time_login
from app.web.api import context as api
from app.web.api.context import Check, Now
from app.web.dashboard.context import Desk, open_desk
from app.web.dashboard.events import told_to_stop
from app.web.health.metrics import scrape
from app.web.health.readiness import (
    Readiness,
    check,
    close_postgres,
    open_postgres,
    refuse_wrong_schema,
)
from app.web.health.snapshot import Snapshot, open_redis, take
from app.web.ttl_cache import Fresh

# The web process checks for alerts too, so that they are sent when every worker is dead.
ALERT_CHECK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class State:
    """Cached health responses, and the contexts of the dashboard and the API."""

    snapshot: Fresh[Snapshot]
    ready: Fresh[Readiness]
    metrics: Fresh[bytes]
    metrics_token: str | None
    desk: Desk
    api: api.Desk


@asynccontextmanager
async def open_state(config: Config, check_: Check, now: Now) -> AsyncGenerator[State]:
    """Open the state and close it at the end. Neither server has to be reachable.

    Raises WrongSchema if Postgres answers and its schema is not the one this version expects.
    Raises ServersUnavailable if a URL is missing and the embedded servers cannot be started.
    """
    async with AsyncExitStack() as stack:
        urls = redis_url, database_url = await _urls(config, stack)
        redis = open_redis(config, redis_url)
        stack.push_async_callback(redis.aclose)
        pool = await open_postgres(database_url)
        stack.push_async_callback(close_postgres, pool)
        await refuse_wrong_schema(pool)
        watcher = Watcher(config, pool, redis)
        stack.callback(watcher.close)
        watch = asyncio.create_task(watcher.keep_watch(ALERT_CHECK_SECONDS))
        stack.push_async_callback(_cancel, watch)
        snapshot = Fresh(partial(take, redis, rules.of(config)))
        desk = await stack.enter_async_context(open_desk(config, redis, urls, snapshot))
        stack.enter_context(told_to_stop(desk.ending))
        if config.database_url is None:
            await one_time_login.show(redis, sys.argv)
        yield State(
            snapshot=snapshot,
            ready=Fresh(partial(check, redis, pool)),
            metrics=Fresh(partial(scrape, redis, pool, snapshot)),
            metrics_token=_secret_value(config.metrics_token),
            desk=desk,
            api=await stack.enter_async_context(api.opened(config, urls, check_, now)),
        )


async def _cancel(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.wait({task})


async def _urls(config: Config, stack: AsyncExitStack) -> tuple[str, str]:
    redis, database = _secret_value(config.redis_url), _secret_value(config.database_url)
    if redis is not None and database is not None:
        return redis, database
    from app import embedded, migrations  # noqa: PLC0415  # not imported when both URLs are set

    servers = await asyncio.to_thread(embedded.start, config.data_dir)
    stack.push_async_callback(asyncio.to_thread, servers.close)
    if database is None:  # the embedded database may be new, and sign-in needs its tables
        await asyncio.to_thread(migrations.upgrade, servers.database_url)
    return redis or servers.redis_url, database or servers.database_url


def _secret_value(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
