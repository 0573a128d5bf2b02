"""A job that blocks the event loop is named, with its stack, while it does."""

import asyncio
import time
from types import SimpleNamespace
from typing import Any

import pytest

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


def grind(seconds: float) -> None:
    time.sleep(seconds)  # what a job must not do


async def test_what_blocks_the_loop_is_named_once_with_its_stack(
    logged: list[dict[str, Any]],
) -> None:
    async with LoopWatchdog({grind.__code__: "grinder"}, seconds=0.4):
        grind(1.5)
        await until(lambda: bool(logged), 10, "the warning")

    (line,) = logged
    assert (line["event"], line["job"]) == ("loop.blocked", "grinder")
    assert line["seconds"] >= 0.4
    assert "in grind" in line["stack"]
    assert "test_what_blocks_the_loop" in line["stack"]


async def test_a_loop_that_waits_is_not_blocked(logged: list[dict[str, Any]]) -> None:
    async with LoopWatchdog({}, seconds=0.8):
        await asyncio.sleep(1.2)

    assert logged == []
