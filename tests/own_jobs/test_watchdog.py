"""A job that blocks the event loop is named, with its stack, while it does."""

import asyncio
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from tests.fresh_process import PROJECT
from tests.wait import until
from workers import watchdog
from workers.watchdog import LoopWatchdog


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What the watchdog has logged."""
    lines: list[dict[str, Any]] = []

    def warning(event: str, **fields: Any) -> None:
        lines.append({"event": event, **fields})

    monkeypatch.setattr(watchdog, "_log", SimpleNamespace(warning=warning))
    return lines


def never(since: float) -> float:
    return since + 1_000


def grind(seconds: float) -> None:
    time.sleep(seconds)  # what a job must not do


async def test_what_blocks_the_loop_is_named_once_with_its_stack(
    logged: list[dict[str, Any]],
) -> None:
    async with LoopWatchdog({grind.__code__: "grinder"}, never, seconds=0.4):
        grind(1.5)
        await until(lambda: bool(logged), 10, "the warning")

    (line,) = logged
    assert (line["event"], line["job"]) == ("loop.blocked", "grinder")
    assert line["seconds"] >= 0.4
    assert "in grind" in line["stack"]
    assert "test_what_blocks_the_loop" in line["stack"]


async def test_a_loop_that_waits_is_not_blocked(logged: list[dict[str, Any]]) -> None:
    async with LoopWatchdog({}, never, seconds=0.8):
        await asyncio.sleep(1.2)

    assert logged == []


GRINDING = """
import asyncio, itertools, re, threading, time
from workers import watchdog

watchdog.HELD_SECONDS = 0.2

def backtrack():
    re.match("(a+)+$", "a" * 60 + "b")

async def main():
    jobs = {{backtrack.__code__: "grinder"}}
    async with watchdog.LoopWatchdog(jobs, lambda since: since + {limit}, seconds=0.4):
        {what}

asyncio.run(main())
print("went on")
"""


def ground(what: str, limit: float = 0.5) -> subprocess.CompletedProcess[str]:
    """A process whose event loop does this, and may be blocked for so many seconds."""
    return subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", GRINDING.format(what=what, limit=limit)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=40,
    )


PATCHED = "time.monotonic = lambda: 0.0; await asyncio.sleep(60)"


@pytest.mark.parametrize("what", ["time.sleep(60)", "backtrack()", PATCHED])
def test_a_process_whose_loop_is_blocked_for_longer_than_its_limit_ends_with_the_reason(
    what: str,
) -> None:
    done = ground(what)

    assert done.returncode == 70, done.stderr
    assert "worker.blocked" in done.stdout
    assert ("grinder" in done.stdout) is (what == "backtrack()")


@pytest.mark.parametrize("where", ["{}()", "threading.Thread(target={}).start(); time.sleep(60)"])
@pytest.mark.parametrize("what", ["backtrack", "lambda: sum(itertools.repeat(1))"])
def test_a_process_ends_though_its_interpreter_is_held(what: str, where: str) -> None:
    done = ground(where.format(f"({what})"))

    assert done.returncode in {70, -signal.SIGVTALRM}, done.stderr
    assert ("most recent call first" in done.stderr) is (done.returncode != 70)


def test_a_process_whose_loop_is_blocked_for_less_than_its_limit_goes_on() -> None:
    done = ground("time.sleep(1); list(range(10_000_000))", limit=30)

    assert (done.returncode, done.stdout[-8:]) == (0, "went on\n")
    assert "worker.blocked" not in done.stdout


def test_the_loop_of_another_thread_is_watched_without_timers(
    logged: list[dict[str, Any]],
) -> None:
    async def main() -> None:
        async with LoopWatchdog({}, never, seconds=0.4):
            grind(1.5)
            await until(lambda: bool(logged), 10, "the warning")

    with ThreadPoolExecutor(1) as thread:
        thread.submit(asyncio.run, main()).result()

    assert [line["event"] for line in logged] == ["loop.blocked"]
