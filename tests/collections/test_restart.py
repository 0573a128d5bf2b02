"""A real worker: collections load by themselves after it died, and its run is gone on with."""

import asyncio
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis

from app.context import WorkerContext
from app.ledger import proof
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.collections import harness
from tests.collections.harness import Client
from tests.wait import until

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 90.0
ENDED = """
SELECT count(*) FROM runs WHERE org_id = $1 AND status = 'success' AND started_at > $2
"""

Start = Callable[[], Awaitable[asyncio.subprocess.Process]]


@pytest.fixture
async def worker(
    dsn: str, redis_url: str, redis: ArqRedis, standin: Standin, tmp_path: Path
) -> AsyncGenerator[Start]:
    """Starts workers that ask the pretend web as fast as they can; ends those that live."""
    del redis  # emptied before, looked over after
    async with _workers(_settings(dsn, redis_url, standin), tmp_path) as start:
        yield start


@asynccontextmanager
async def _workers(settings: dict[str, str], folder: Path) -> AsyncGenerator[Start]:
    started: list[asyncio.subprocess.Process] = []

    async def start() -> asyncio.subprocess.Process:
        with (folder / f"worker-{len(started)}.log").open("wb") as words:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "arq", "tests.crash.settings.Settings"),
                cwd=folder,
                env=settings,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )
        started.append(process)
        return process

    try:
        yield start
    finally:
        for process in started:
            if process.returncode is None:
                process.terminate()
                await asyncio.wait_for(process.wait(), 20)


def _settings(dsn: str, redis_url: str, web: Standin) -> dict[str, str]:
    return {
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": dsn,
        "DATABASE_POOL_SIZE": "4",
        "REDIS_URL": redis_url,
        "SPORTYBET_URL": web.sportybet_url,
        "BETPAWA_URL": web.betpawa_url,
        "BET9JA_URL": web.bet9ja_url,
        "SCRAPE_INTERVAL_MINUTES": "600",
        "LEASE_SECONDS": "3",
        "SHUTDOWN_GRACE_SECONDS": "0.2",
    }


async def _died(process: asyncio.subprocess.Process) -> None:
    process.kill()
    await process.wait()


async def _runs_ended(pool: Pool, one: Client, since: datetime) -> int:
    return await pool.fetchval(ENDED, one.org_id, since)


async def test_a_worker_that_starts_again_runs_what_is_due_by_itself(
    context: WorkerContext, worker: Start
) -> None:
    acme = await harness.client(context, schedule=Schedule.every(2))
    begun = context.clock()
    first = await worker()
    await until(lambda: _runs_ended(context.pool, acme, begun), PATIENCE, "a run")
    await _died(first)

    restarted = context.clock()
    await worker()
    await until(lambda: _runs_ended(context.pool, acme, restarted), PATIENCE, "another run")

    accounts = await proof.verify(context.pool, datetime.now(UTC))
    assert [account for account in accounts if not account.consistent] == []
    assert len(await acme.items()) == 90


async def test_a_run_whose_worker_was_killed_is_gone_on_with_and_leaves_the_same_items(
    context: WorkerContext, worker: Start, standin: Standin
) -> None:
    calm = await harness.client(context, "Calm")
    await calm.run()
    acme = await harness.client(context, schedule=Schedule.every(3))
    standin.fault("/bet9ja", "delay", seconds=60, match="GROUPID", times=1)
    first = await worker()

    async def half_done() -> Any:
        return await context.pool.fetchrow(
            "SELECT execution_id FROM runs WHERE org_id = $1 AND status = 'running'"
            " AND (stats ->> 'pages')::int > 3",
            acme.org_id,
        )

    run_id = (await until(half_done, PATIENCE, "some pages"))[0]
    await _died(first)
    await worker()

    async def ended() -> bool:
        return (await worker_harness.run_row(context.pool, run_id))["completed_at"] is not None

    await until(ended, PATIENCE, "the run to end")
    run = await acme.run_row(run_id)
    theirs = {key: row["data"] for key, row in (await acme.items()).items()}
    ours = {key: row["data"] for key, row in (await calm.items()).items()}
    assert (run["status"], run["attempt"], run["losses"]) == ("success", 2, 1)
    assert run["stats"]["inserted"] == run["stats"]["records"] == 90
    assert theirs == ours
