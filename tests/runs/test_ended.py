"""An attempt that does not hold its run any more changes nothing of it."""

from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest

from app.core.enums import RunStatus
from app.store.runs import attempt_rows, run_rows
from app.store.runs.attempt_rows import ClaimedRun, Deferral, RunEnding
from tests import single_run
from tests.runs.harness import LEASE, Desk

Act = Callable[[Desk, ClaimedRun], Awaitable[object]]


async def finish(desk: Desk, claimed: ClaimedRun) -> bool:
    return await single_run.finish(
        desk.pool, claimed, RunEnding(RunStatus.SUCCESS, desk.clock(), {"pages": 1})
    )


async def hand_back(desk: Desk, claimed: ClaimedRun) -> object:
    return await attempt_rows.release(desk.pool, claimed, desk.clock(), "the worker stops")


async def defer(desk: Desk, claimed: ClaimedRun) -> object:
    until = desk.clock() + timedelta(minutes=1)
    return await attempt_rows.defer(
        desk.pool, claimed, desk.clock(), Deferral(until, (), "a pause")
    )


async def cancel(desk: Desk, claimed: ClaimedRun) -> object:
    return await run_rows.cancel_open(desk.pool, [claimed.run_id], desk.clock(), by="ada")


async def lose(desk: Desk, _claimed: ClaimedRun) -> object:
    desk.clock.pass_by(seconds=LEASE + 1)
    return await run_rows.requeue_expired(desk.pool, desk.clock())


@pytest.mark.parametrize("end", [finish, hand_back, defer, cancel, lose])
async def test_a_run_that_no_attempt_holds_has_no_lease_and_is_changed_by_none(
    desk: Desk, end: Act
) -> None:
    claimed = await desk.begin()
    await end(desk, claimed)
    ended, events = await desk.row(claimed), await desk.events(claimed)
    desk.clock.pass_by(seconds=1)
    failure = RunEnding(RunStatus.FAILURE, desk.clock(), {})

    held = await attempt_rows.renew(
        desk.pool, [(claimed.run_id, claimed.epoch)], desk.clock(), LEASE
    )

    assert held == set()
    assert not await single_run.finish(desk.pool, claimed, failure)
    assert await hand_back(desk, claimed) is None
    assert await defer(desk, claimed) is None
    assert ended["lease_expires_at"] is None
    assert await desk.row(claimed) == ended
    assert await desk.events(claimed) == events


@pytest.mark.parametrize("end", [finish, cancel])
async def test_a_run_that_has_ended_is_not_queued_cancelled_or_lost(desk: Desk, end: Act) -> None:
    claimed = await desk.begin()
    await end(desk, claimed)
    ended = await desk.row(claimed)
    desk.clock.pass_by(seconds=LEASE + 1)
    queued = [run_rows.QueuedRun(claimed.run_id, claimed.job, claimed.attempt)]

    assert await cancel(desk, claimed) == []
    assert await run_rows.requeue_expired(desk.pool, desk.clock()) == ([], [])
    assert await run_rows.requeue(desk.pool, queued, desk.clock()) == []
    assert await desk.row(claimed) == ended


async def test_a_clock_that_goes_back_makes_no_negative_duration(desk: Desk) -> None:
    finished, cancelled = await desk.begin(), await desk.begin()
    desk.clock.pass_by(seconds=-5)

    await finish(desk, finished)
    await cancel(desk, cancelled)

    assert (await desk.row(finished))["duration_seconds"] == 0
    assert (await desk.row(cancelled))["duration_seconds"] == 0
