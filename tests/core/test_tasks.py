"""Cancelling until a task has ended, whatever swallows a cancellation."""

import asyncio

import pytest

from app.core.tasks import cancel_all

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
