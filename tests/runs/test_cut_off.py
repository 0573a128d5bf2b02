"""A worker cut off from Postgres in the midst of a run: it is handed back, not failed."""

import asyncio
from pathlib import Path

import asyncpg
import pytest

from app.runs import attempts
from tests.runs.harness import Desk

GONE = [
    asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
    asyncpg.InternalClientError("cannot switch to state 15; another operation is in progress"),
    asyncpg.AdminShutdownError("terminating connection due to administrator command"),
]


@pytest.mark.parametrize("error", GONE, ids=[type(error).__name__ for error in GONE])
async def test_a_run_cut_off_from_postgres_is_handed_back(desk: Desk, error: Exception) -> None:
    claimed = await desk.begin()

    async with attempts.attempt(desk.leases(), claimed) as outcome:
        raise error

    row = await desk.row(claimed)
    assert (row["status"], row["attempt"], row["losses"]) == ("queued", 2, 0)
    assert outcome.requeued is not None


async def test_a_run_that_cannot_connect_to_postgres_is_handed_back(
    desk: Desk, tmp_path: Path
) -> None:
    claimed = await desk.begin()

    async with attempts.attempt(desk.leases(), claimed):
        await asyncpg.connect(host=str(tmp_path), user="nobody", timeout=5)

    row = await desk.row(claimed)
    assert (row["status"], row["attempt"], row["losses"]) == ("queued", 2, 0)


async def test_a_run_cut_off_again_and_again_fails_in_the_end(desk: Desk) -> None:
    run_id = await desk.ask()

    for _ in range(attempts.MAX_LOST_ATTEMPTS):
        async with attempts.attempt(desk.leases(), await desk.again(run_id)):
            raise GONE[0]

    row = await desk.row(run_id)
    assert (row["status"], row["error_type"]) == ("failure", "ConnectionDoesNotExistError")


async def test_a_run_that_cancels_itself_again_and_again_fails_in_the_end(desk: Desk) -> None:
    run_id = await desk.ask()

    for _ in range(attempts.MAX_LOST_ATTEMPTS):
        async with attempts.attempt(desk.leases(), await desk.again(run_id)):
            task = asyncio.current_task()
            assert task is not None
            task.cancel()
            await asyncio.sleep(1)

    row = await desk.row(run_id)
    assert (row["status"], row["error_type"]) == ("failure", "CancelledError")
    assert "either the job cancels its own task" in row["error_message"]
