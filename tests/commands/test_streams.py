"""The standard streams of a command: closed ones, and readers that leave early."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from datetime import timedelta

import anyio.to_thread
import pytest
from arq.connections import ArqRedis

from app.store.db import Pool
from tests.commands.conftest import ROOT
from tests.commands.rows import declare, insert_run
from tests.wait import until

Shell = Callable[..., Awaitable["subprocess.CompletedProcess[str]"]]
# What a shell does with the command "$@".
CLOSED = 'exec "$@" >&-'
ALL_CLOSED = 'exec "$@" <&- >&- 2>&-'


@pytest.fixture
def shell(surroundings: dict[str, str], redis: ArqRedis) -> Shell:
    """Execute a command as the given script does; gives its exit code and output."""
    del redis

    async def executed(script: str, *words: str) -> "subprocess.CompletedProcess[str]":
        command = ["sh", "-c", script, "sh", sys.executable, "-m", "app", *words]
        env = {"PATH": os.environ["PATH"]} | surroundings  # noqa: TID251 - the child's

        def run() -> "subprocess.CompletedProcess[str]":
            return subprocess.run(  # noqa: S603 - ourselves
                command, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=60
            )

        return await anyio.to_thread.run_sync(run)

    return executed


@pytest.mark.parametrize(
    ("words", "code"),
    [(["runs"], 0), (["odds"], 0), (["--help"], 0), (["status"], 1)],
    ids=["runs", "odds", "help", "status"],
)
async def test_a_reader_that_leaves_early_changes_no_exit_code(
    surroundings: dict[str, str], redis: ArqRedis, words: list[str], code: int
) -> None:
    env = {"PATH": os.environ["PATH"]} | surroundings  # noqa: TID251 - the child's
    del redis

    def unread() -> tuple[int, bytes]:
        reading, writing = os.pipe()
        os.close(reading)
        with os.fdopen(writing, "wb") as pipe:
            done = subprocess.run(  # noqa: S603 - ourselves
                [sys.executable, "-m", "app", *words],
                cwd=ROOT, env=env, stdout=pipe, stderr=subprocess.PIPE, check=False, timeout=60,
            )  # fmt: skip
        return done.returncode, done.stderr

    assert await anyio.to_thread.run_sync(unread) == (code, b"")


async def test_a_follower_ends_when_nobody_reads_it(
    surroundings: dict[str, str], redis: ArqRedis, pool: Pool
) -> None:
    del redis
    process = await asyncio.create_subprocess_exec(
        *("sh", "-c", '"$@" | head -n 1', "sh", sys.executable, "-m", "app", "runs", "--follow"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | surroundings,  # noqa: TID251 - the child's
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )

    async def ended() -> bool:
        await insert_run(pool, timedelta(seconds=-1))
        return process.returncode is not None

    await until(ended, 50, "the follower")

    assert process.returncode == 0


@pytest.mark.parametrize("script", [CLOSED, ALL_CLOSED], ids=["stdout", "all"])
@pytest.mark.parametrize("words", [["runs"], ["--help"], ["export", "runs"]], ids=" ".join)
async def test_closed_streams_are_no_error(shell: Shell, script: str, words: list[str]) -> None:
    done = await shell(script, *words)

    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


async def test_a_character_that_the_output_cannot_encode_ends_no_command(
    shell: Shell, pool: Pool
) -> None:
    await declare(pool, timedelta())

    done = await shell('PYTHONIOENCODING=ascii exec "$@"', "pause", "scrape", "--note", "Müd — Nał")

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "scrape is paused: M\\xfcd \\u2014 Na\\u0142\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["jobs", "--nonsense"], "No such option"),
        (["runs", "--limit", "0"], "greater than or equal"),
        (["run", "abcdef"], "no run"),
        (["pause", "nothing", "--note", "x"], "no schedule"),
        (["source", "lint"], "Missing"),
        (["org", "usage", "nobody"], "no organisation"),
    ],
    ids=["option", "value", "run", "job", "argument", "organisation"],
)
async def test_a_command_that_cannot_be_executed_prints_its_error_as_json_too(
    shell: Shell, words: list[str], said: str
) -> None:
    done = await shell('exec "$@"', *words, "--json")

    (error,) = json.loads(done.stdout).items()
    assert done.returncode == 2
    assert error[0] == "error"
    assert said in error[1]
    assert said in done.stderr
