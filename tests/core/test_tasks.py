"""Cancelling until a task has ended, whatever swallows a cancellation."""

import asyncio
import time

import pytest

from app.core.tasks import SLICE_SECONDS, Slices, cancel_all

pytestmark = [pytest.mark.anyio, pytest.mark.timeout(20)]


async def stubborn(swallowed: list[int]) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            swallowed.append(1)
            if len(swallowed) > 2:
                raise


async def failing() -> None:
    try:
        await asyncio.sleep(60)
    finally:
        raise ValueError("at the end")


async def test_a_task_that_swallows_cancellations_is_cancelled_again() -> None:
    swallowed: list[int] = []
    tasks = [asyncio.create_task(stubborn(swallowed)), asyncio.create_task(failing())]
    await asyncio.sleep(0)

    await cancel_all(tasks)

    assert [task.done() for task in tasks] == [True, True]
    assert len(swallowed) == 3


async def test_tasks_that_have_ended_are_left_as_they_are() -> None:
    task = asyncio.create_task(asyncio.sleep(0, "a result"))
    await task

    await cancel_all([task])

    assert task.result() == "a result"


async def test_work_in_slices_lets_others_go_on() -> None:
    turns: list[int] = []

    async def others() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    task = asyncio.create_task(others())
    await asyncio.sleep(0)
    before, slices = len(turns), Slices()
    for _ in range(4):
        held = time.perf_counter()
        while time.perf_counter() - held <= SLICE_SECONDS:
            pass
        await slices.checkpoint()

    assert len(turns) - before == 4
    await cancel_all([task])


async def test_work_in_slices_rests_for_as_long_as_it_has_worked() -> None:
    slices, began = Slices(rest=1), time.perf_counter()
    while time.perf_counter() - began <= 10 * SLICE_SECONDS:
        pass

    worked = time.perf_counter()
    await slices.checkpoint()

    assert time.perf_counter() - worked >= 10 * SLICE_SECONDS
