"""The commands as they are typed, on real servers, and a worker as it is started."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from typer.testing import Result

from scripts.standin.testing import Standin
from tests.typed_command import typed
from tests.wait import until

ROOT = Path(__file__).parents[2]
Rollcall = Callable[..., Awaitable[Result]]
RollcallJson = Callable[..., Awaitable[Any]]
Working = Callable[..., AbstractAsyncContextManager[asyncio.subprocess.Process]]


@pytest.fixture
def surroundings(
    monkeypatch: pytest.MonkeyPatch, dsn: str, redis_url: str, standin: Standin
) -> dict[str, str]:
    """The settings of a worker context on the stand-in, in the environment too."""
    found = {
        "DATABASE_URL": dsn,
        "DATABASE_POOL_SIZE": "4",
        "REDIS_URL": redis_url,
        "SPORTYBET_URL": standin.sportybet_url,
        "BETPAWA_URL": standin.betpawa_url,
        "BET9JA_URL": standin.bet9ja_url,
        "ASKNEWS_URL": standin.asknews_url,
        "ASKNEWS_TOKEN_URL": standin.token_url,
        "LEASE_SECONDS": "4",
        "LOG_LEVEL": "warning",
    }
    for name, value in found.items():
        monkeypatch.setenv(name, value)
    return found


@pytest.fixture
def rollcall(surroundings: dict[str, str], redis: ArqRedis) -> Rollcall:
    """Type a command; gives what it printed and its exit code."""
    del surroundings, redis
    return typed


@pytest.fixture
def rollcall_json(rollcall: Rollcall) -> RollcallJson:
    """Type a command with `--json`; gives what it printed, read."""

    async def read(*words: str, code: int = 0) -> Any:
        result = await rollcall(*words, "--json")
        assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
        return json.loads(result.stdout.splitlines()[-1])

    return read


@pytest.fixture
def working(surroundings: dict[str, str], redis: ArqRedis, tmp_path: Path) -> Working:
    """A worker process while the block lasts."""
    del redis  # emptied before, and afterwards

    @asynccontextmanager
    async def started(**changes: str) -> AsyncGenerator[asyncio.subprocess.Process]:
        log = tmp_path / "worker.log"
        env = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT)}  # noqa: TID251 - the child's
        with log.open("ab") as words:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "arq", "app.workers.Settings"),
                cwd=tmp_path,
                env=env | surroundings | {"LOG_LEVEL": "info"} | changes,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=words,
                stderr=words,
            )

        async def up() -> bool:
            assert process.returncode is None, log.read_text()
            return "worker.started" in log.read_text()

        try:
            await until(up, 50, "the worker")
            yield process
        finally:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)
            await asyncio.wait_for(process.wait(), 30)

    return started
