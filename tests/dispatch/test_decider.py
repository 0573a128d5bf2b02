"""The process that decides for a worker: in time whatever the worker's event loop does."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis

from app.store.db import Pool
from tests.wait import until

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
JOBS = """
import time
from app.jobs import Run, job

@job(every=1)
async def prompt(run: Run) -> None:
    pass

@job(every=3600)
async def blocking(run: Run) -> None:
    time.sleep(6)
"""
BLOCKED = "SELECT 1 FROM runs WHERE job = 'blocking' AND status = 'running'"
LATE = """
SELECT count(*) FILTER (WHERE decided_at < r.started_at + interval '6 seconds')
FROM ticks t JOIN schedules s ON s.id = t.schedule_id, runs r
WHERE s.key = 'prompt' AND r.job = 'blocking' AND t.scheduled_for > r.started_at
"""
TICKS = """
SELECT count(*) FROM ticks t JOIN schedules s ON s.id = t.schedule_id
WHERE s.key = 'prompt' AND t.decided_at > now() - interval '1.5 seconds'
"""


@asynccontextmanager
async def worker(env: dict[str, str], folder: Path) -> AsyncGenerator[asyncio.subprocess.Process]:
    log = folder / "worker.log"
    with log.open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "arq", "app.workers.Settings"),
            cwd=folder,
            env=env,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=words,
            stderr=words,
        )
    try:
        await until(lambda: "decider.started" in log.read_text(), 30, "the decider")
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)


@pytest.fixture
def env(dsn: str, redis_url: str, redis: ArqRedis, tmp_path: Path) -> dict[str, str]:
    del redis
    (tmp_path / "own.py").write_text(JOBS)
    return {
        "PATH": os.environ["PATH"],  # noqa: TID251 - the child's
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": dsn,
        "REDIS_URL": redis_url,
        "JOBS": str(tmp_path / "own.py"),
        "SHUTDOWN_GRACE_SECONDS": "0.3",
    }


def deciders(worker: int) -> list[int]:
    children = Path(f"/proc/{worker}/task/{worker}/children").read_text().split()
    return [
        int(one)
        for one in children
        if b"workers.decider" in Path(f"/proc/{one}/cmdline").read_bytes()
    ]


async def test_ticks_are_decided_while_a_job_blocks_the_workers_event_loop(
    env: dict[str, str], pool: Pool, tmp_path: Path
) -> None:
    async with worker(env, tmp_path):
        await until(lambda: _decided(pool), 20, "a tick of the other job")
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "app", "trigger", "blocking"),
            cwd=tmp_path,
            env=env,
            stdout=asyncio.subprocess.DEVNULL,
        )
        assert await process.wait() == 0
        await until(lambda: pool.fetchval(BLOCKED), 20, "the job that blocks")

        async def decided() -> Any:
            return (await pool.fetchval(LATE)) >= 3

        await until(decided, 15, "ticks decided meanwhile")


async def test_a_decider_that_is_killed_is_started_again(
    env: dict[str, str], pool: Pool, tmp_path: Path
) -> None:
    async with worker(env, tmp_path) as process:
        (first,) = deciders(process.pid)
        os.kill(first, signal.SIGKILL)

        await until(lambda: {*deciders(process.pid)} - {first}, 20, "another decider")

        await until(lambda: _decided(pool), 20, "a tick decided by it")


async def test_a_decider_that_gets_sigterm_with_its_worker_ends_in_order(
    env: dict[str, str], tmp_path: Path
) -> None:
    async with worker(env, tmp_path) as process:
        (decider,) = deciders(process.pid)

        process.send_signal(signal.SIGTERM)
        os.kill(decider, signal.SIGTERM)
        await asyncio.wait_for(process.wait(), 20)

    assert "Fatal Python error" not in (tmp_path / "worker.log").read_text()


async def test_a_worker_that_meets_a_lock_when_it_starts_waits_for_it(
    env: dict[str, str], pool: Pool, tmp_path: Path
) -> None:
    log, locked = tmp_path / "worker.log", asyncio.Event()

    async def hold_until_it_waits() -> None:
        async with pool.acquire() as session, session.transaction():
            await session.execute("LOCK TABLE schedules IN EXCLUSIVE MODE")
            locked.set()
            await until(lambda: log.exists() and "worker.waits" in log.read_text(), 30, "a wait")

    holding = asyncio.create_task(hold_until_it_waits())
    await locked.wait()
    async with worker(env, tmp_path):
        await holding
        await until(lambda: _decided(pool), 20, "a tick")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_a_decider_ends_with_its_worker(
    env: dict[str, str], tmp_path: Path, how: signal.Signals
) -> None:
    async with worker(env, tmp_path) as process:
        (decider,) = deciders(process.pid)

        process.send_signal(how)

        await until(lambda: _is_gone(decider), 10, "the decider to end")


async def _decided(pool: Pool) -> bool:
    return bool(await pool.fetchval(TICKS))


def _is_gone(pid: int) -> bool:
    status = Path(f"/proc/{pid}/stat")
    try:
        return status.read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True
