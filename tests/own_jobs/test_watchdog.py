"""A job that blocks the event loop is named, with its stack, while it does."""

import asyncio
import math
import subprocess
import sys
import time
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


def never(_: float) -> float:
    return math.inf


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
import asyncio, time
from workers.watchdog import LoopWatchdog

async def main():
    async with LoopWatchdog({{}}, lambda since: since + 2, seconds=0.4):
        time.sleep({seconds})

asyncio.run(main())
print("went on")
"""


@pytest.mark.parametrize(("seconds", "code", "said"), [(60, 70, ""), (1, 0, "went on\n")])
def test_a_process_whose_loop_is_blocked_for_longer_than_its_limit_ends_with_the_reason(
    seconds: float, code: int, said: str
) -> None:
    done = subprocess.run(  # noqa: S603 - ourselves
        [sys.executable, "-c", GRINDING.format(seconds=seconds)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )

    assert done.returncode == code, done.stderr
    assert done.stdout.endswith(said)
    assert ("worker.blocked" in done.stdout) is (code == 70)
