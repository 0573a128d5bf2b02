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
from app.health.alerts.watcher import AlertWatcher
from app.orgs import one_time_login
from app.web.api import context as api
from app.web.api.context import Now, SourceCheck
from app.web.dashboard.context import WebContext, open_web_context
from app.web.dashboard.events import stop_on_signal
from app.web.health.metrics import scrape
from app.web.health.readiness import (
    Readiness,
    check,
    check_schema,
    close_postgres,
    open_postgres,
)
from app.web.health.snapshot import HealthSnapshot, open_redis, take_snapshot
from app.web.ttl_cache import TtlCache

# The web process checks for alerts too, so that they are sent when every worker is dead.
ALERT_CHECK_SECONDS = 3.0


@dataclass(frozen=True, slots=True)
class WebState:
    """Cached health responses, and the contexts of the dashboard and the API."""

    snapshot: TtlCache[HealthSnapshot]
    ready: TtlCache[Readiness]
    metrics: TtlCache[bytes]
    metrics_token: str | None
    dashboard: WebContext
    api: api.ApiContext


@asynccontextmanager
async def open_web_state(config: Config, check_: SourceCheck, now: Now) -> AsyncGenerator[WebState]:
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
        await check_schema(pool)
        watcher = AlertWatcher(config, pool, redis)
        stack.push_async_callback(watcher.close)
        watch = asyncio.create_task(watcher.run_forever(ALERT_CHECK_SECONDS))
        stack.push_async_callback(_cancel, watch)
        snapshot = TtlCache(partial(take_snapshot, redis, rules.rules_from_config(config)))
        desk = await stack.enter_async_context(open_web_context(config, redis, urls, snapshot))
        stack.enter_context(stop_on_signal(desk.stopping))
        if config.database_url is None:
            await one_time_login.print_login(redis, sys.argv)
        yield WebState(
            snapshot=snapshot,
            ready=TtlCache(partial(check, redis, pool)),
            metrics=TtlCache(partial(scrape, redis, pool, snapshot)),
            metrics_token=_secret_value(config.metrics_token),
            dashboard=desk,
            api=await stack.enter_async_context(api.open_api_context(config, urls, check_, now)),
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
