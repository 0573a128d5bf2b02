"""Every worker killed: within twice the shortest interval the page and one message say so."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
from arq.connections import ArqRedis

from app.store.db import Pool
from scripts.bench.web import free_port
from scripts.child_processes import Child, ChildEnvironment, child
from scripts.standin.testing import Standin
from tests.alerts.receiver import Receiver, receiving
from tests.redis_process import redis_process
from tests.wait import until

ROOT = Path(__file__).parents[2]
INTERVAL = 12.0  # seconds

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(180)]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
def settings(dsn: str, redis_url: str, standin: Standin, receiver: Receiver) -> dict[str, str]:
    return {
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "BETPAWA_URL": standin.betpawa_url,
        "ODDS_PLATFORMS": "betpawa",
        "SCRAPE_INTERVAL_MINUTES": str(INTERVAL / 60),
        "LEASE_SECONDS": "4",
        "ALERT_URLS": receiver.url,
        "PATH": os.defpath,
    }


@pytest.fixture
def around(settings: dict[str, str], redis: ArqRedis, tmp_path: Path) -> ChildEnvironment:
    del redis  # empty, and emptied afterwards
    return ChildEnvironment(settings, ROOT, tmp_path, stop_timeout=20)


def _kill(worker: Child) -> None:
    os.killpg(worker.process.pid, signal.SIGKILL)


async def test_every_worker_killed_is_told_once_and_within_two_intervals(
    pool: Pool, around: ChildEnvironment, receiver: Receiver
) -> None:
    port = free_port()

    async with AsyncExitStack() as stack:
        start = stack.enter_async_context
        await start(child("web", ["uvicorn", "app.web:app", "--port", str(port)], around))
        client = await start(httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}"))

        async def says(path: str, words: str) -> bool:
            await asyncio.sleep(0.1)
            try:
                return words in (await client.get(path)).text
            except httpx.TransportError:
                return False

        async def sent() -> bool:
            return len(receiver.messages) > 0

        workers = [
            await start(child(f"worker{n}", ["arq", "app.workers.Settings"], around))
            for n in range(2)
        ]
        await until(lambda: says("/health", '"healthy":1'), 60, "a run")
        await until(lambda: says("/health", '"workers":2'), 60, "two workers")
        assert receiver.messages == []

        killed = time.monotonic()
        for worker in workers:
            _kill(worker)
        await until(sent, 2 * INTERVAL, "the message")
        await until(lambda: says("/health", "no_workers"), 1, "the health")
        assert time.monotonic() - killed < 2 * INTERVAL
        await until(lambda: says("/health/scheduler", "overdue"), 2 * INTERVAL, "the job's silence")
        assert receiver.titles == ["[rollcall] the scheduler is down: no live worker"]

    flips = await pool.fetch("SELECT key, after FROM health_flips ORDER BY at, key")
    assert ("scheduler", "unhealthy") in {tuple(row) for row in flips}


async def test_a_redis_that_takes_no_writes_is_told_by_a_worker_where_no_web_runs(
    settings: dict[str, str], standin: Standin, receiver: Receiver, tmp_path: Path
) -> None:
    del standin

    async def started() -> bool:
        return "worker.started" in (tmp_path / "worker.log").read_text()

    async def sent() -> bool:
        return bool(receiver.messages)

    with redis_process() as server:
        own = settings | {"REDIS_URL": server.url, "ALERT_GROUP_SECONDS": "0"}
        around = ChildEnvironment(own, ROOT, tmp_path, stop_timeout=20)
        async with child("worker", ["arq", "app.workers.Settings"], around):
            await until(started, 60, "the worker")
            await server.refuse_writes()
            await until(sent, 60, "the message")

    assert receiver.titles == ["[rollcall] Redis refuses writes"]
