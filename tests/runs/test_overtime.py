"""A run whose job suppresses the cancellation of its timeout has an outcome all the same."""

import asyncio
from contextlib import suppress

import pytest

from app.runs import attempts
from tests.runs.harness import Desk
from tests.wait import until


async def test_a_run_that_goes_on_after_its_timeout_is_recorded_as_timed_out(
    desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attempts, "OVERTIME_SECONDS", 0.1)
    leases, claimed, freed = desk.leases(), await desk.begin(timeout=0.1), asyncio.Event()

    async def go_on() -> attempts.AttemptOutcome:
        async with attempts.attempt(leases, claimed) as outcome:
            while not freed.is_set():
                with suppress(asyncio.CancelledError):
                    await freed.wait()
        return outcome

    async def ended() -> bool:
        return (await desk.row(claimed))["status"] == "timed_out"

    task = asyncio.create_task(go_on())
    await until(ended)
    assert not task.done()
    assert leases.held == {}
    freed.set()
    outcome = await task

    row = await desk.row(claimed)
    assert outcome.fenced
    assert (row["status"], row["error_type"]) == ("timed_out", "TimeoutError")
    assert row["error_message"] == (
        "took longer than 0.1 s; the job suppresses its cancellation and goes on"
    )
    assert [event for event, _ in await desk.events(claimed)].count("finished") == 1


async def test_a_run_that_cleans_up_after_its_timeout_is_left_to_end(desk: Desk) -> None:
    claimed = await desk.begin(timeout=0.05)

    async with attempts.attempt(desk.leases(), claimed):
        try:
            await asyncio.sleep(5)
        finally:
            await asyncio.sleep(0.2)
            assert (await desk.row(claimed))["status"] == "running"

    assert (await desk.row(claimed))["error_message"] == "took longer than 0.05 s"
