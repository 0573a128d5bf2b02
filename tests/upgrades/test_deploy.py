"""A deploy in the midst of a scrape: the new worker goes on with it, and nothing is doubled."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis

from app.ledger import proof
from app.store.db import Pool
from app.store.schedules import heartbeats
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.wait import until

ROOT = Path(__file__).parents[2]
RUNNING = """
SELECT execution_id FROM runs WHERE status = 'running' AND worker LIKE '%:' || $1 || ':%'
  AND EXISTS (SELECT FROM run_sources s WHERE s.execution_id = runs.execution_id AND s.pages > 0)
"""


@dataclass(slots=True)
class Worker:
    """A worker process and its log."""

    process: asyncio.subprocess.Process
    log: Path

    async def up(self) -> bool:
        assert self.process.returncode is None, self.log.read_text()
        return "worker.started" in self.log.read_text()


@pytest.fixture
def env(dsn: str, redis_url: str, redis: ArqRedis, standin: Standin) -> dict[str, str]:
    del redis
    return {
        "PATH": os.environ["PATH"],  # noqa: TID251 - the child's
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": dsn,
        "DATABASE_POOL_SIZE": "4",
        "REDIS_URL": redis_url,
        "SPORTYBET_URL": standin.sportybet_url,
        "BETPAWA_URL": standin.betpawa_url,
        "BET9JA_URL": standin.bet9ja_url,
        "ASKNEWS_URL": standin.asknews_url,
        "ASKNEWS_TOKEN_URL": standin.token_url,
        "SCRAPE_INTERVAL_MINUTES": "0.1",
        "LEASE_SECONDS": "4",
        "SHUTDOWN_GRACE_SECONDS": "0.3",
    }


@asynccontextmanager
async def worker(
    env: dict[str, str], folder: Path, name: str, **own: str
) -> AsyncGenerator[Worker]:
    log = folder / f"{name}.log"
    with log.open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "arq", "app.workers.Settings"),
            cwd=folder,
            env=env | own,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=words,
            stderr=words,
        )
    started = Worker(process, log)
    try:
        await until(started.up, 20, name)
        yield started
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)


async def test_a_run_under_way_is_handed_over_and_every_tick_has_one_run(
    env: dict[str, str], pool: Pool, standin: Standin, tmp_path: Path
) -> None:
    standin.fault("/", "delay", seconds=0.4)
    new_words = {
        "JOB_TIMEOUT_SECONDS": "200",
        "TRACKED_ENTITIES": "Arsenal",
        "ASKNEWS_API_KEY": "k",
    }
    async with (
        worker(env, tmp_path, "old") as old,
        worker(env, tmp_path, "new", **new_words) as new,
    ):

        async def caught() -> Any:
            return await pool.fetchval(RUNNING, str(old.process.pid))

        run_id = await until(caught, 90, "a scrape by the old worker")
        old.process.send_signal(signal.SIGTERM)
        assert await asyncio.wait_for(old.process.wait(), 20) == 0

        async def done() -> bool:
            return (await worker_harness.run_row(pool, run_id))["status"] == "success"

        await until(done, 30, "the new worker to finish it")
        assert new.process.returncode is None

    (account, *_) = [
        one
        for one in await proof.verify(pool, await heartbeats.database_now(pool))
        if one.key == "scrape_all_platforms"
    ]
    events = await pool.fetch(
        "SELECT event FROM run_events WHERE execution_id = $1 ORDER BY id", run_id
    )
    versions = await pool.fetchval("SELECT max(version) FROM schedules WHERE job LIKE 'scrape%'")
    assert account.consistent
    assert [row["event"] for row in events] == ["started", "cancelled", "started", "finished"]
    assert await pool.fetchval("SELECT count(*) FROM runs WHERE status = 'running'") == 0
    assert versions == 2
