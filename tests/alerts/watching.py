"""Facts of a job as workers publish them, and a watcher of them."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from arq.connections import ArqRedis
from pydantic import SecretStr

from app.core.config import Config
from app.core.enums import RunStatus
from app.health.alerts.watcher import AlertWatcher
from app.health.facts import JobFacts, WorkerFacts
from app.store.db import Pool
from tests.alerts.receiver import Receiver

BEAT = WorkerFacts(seen_at=datetime.now(UTC))


def facts(**changes: Any) -> JobFacts:
    now = datetime.now(UTC)
    good = JobFacts(
        job="poll",
        last_run=now,
        last_success=now,
        last_status=RunStatus.SUCCESS,
        next_run=now + timedelta(minutes=5),
        interval_seconds=300,
    )
    return replace(good, **changes)


def silent() -> JobFacts:
    return facts(last_run=datetime.now(UTC) - timedelta(hours=1), last_error="boom token=abc123")


def config(dsn: str, redis_url: str, receiver: Receiver, **changes: Any) -> Config:
    wanted: dict[str, Any] = {"alert_group_seconds": 0, **changes}
    return Config(
        database_url=SecretStr(dsn),
        redis_url=SecretStr(redis_url),
        alert_urls=SecretStr(receiver.url),
        **wanted,
    )


@asynccontextmanager
async def watcher(settings: Config, pool: Pool, redis: ArqRedis) -> AsyncGenerator[AlertWatcher]:
    opened = AlertWatcher(settings, pool, redis)
    try:
        yield opened
    finally:
        await opened.close()


async def step(watching: AlertWatcher) -> None:
    """One step of the watch, and then the end of the deliveries that it began."""
    await watching.step()
    await asyncio.wait_for(_deliveries(watching), 30)
    await watching._deliver()  # pyright: ignore[reportPrivateUsage] - publishes the end of them


async def _deliveries(watching: AlertWatcher) -> None:
    notifiers = watching._notifiers  # pyright: ignore[reportPrivateUsage] - waits, not asserts
    await asyncio.gather(*notifiers._tasks.values())  # pyright: ignore[reportPrivateUsage]
