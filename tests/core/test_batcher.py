"""The batcher: requests of concurrent callers share a step, and nothing else."""

import asyncio
from collections.abc import Sequence
from contextvars import ContextVar

import pytest

from app.core import batcher
from app.core.batcher import Batcher
from tests.wait import until


class Steps:
    """A step that doubles numbers, and what it was called with.

    It waits for `gate`, fails on negative numbers, and on 13 by an error that is nobody's.
    """

    def __init__(self) -> None:
        self.calls: list[list[int]] = []
        self.gate = asyncio.Event()
        self.batcher = Batcher(self.double, shared=(OSError,))

    async def double(self, items: Sequence[int]) -> list[int]:
        self.calls.append(list(items))
        await self.gate.wait()
        if 13 in items:
            raise ConnectionError("away")
        if min(items) < 0:
            raise ValueError("negative")
        return [2 * item for item in items]

    async def add_all(self, *items: int) -> list[int | BaseException]:
        return await asyncio.gather(*map(self.batcher.add, items), return_exceptions=True)


async def test_callers_of_one_moment_share_a_step_and_each_gets_its_result() -> None:
    steps = Steps()
    steps.gate.set()

    assert await steps.add_all(3, 1, 2) == [6, 2, 4]
    assert steps.calls == [[3, 1, 2]]


async def test_callers_during_a_step_wait_for_its_end_and_share_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(batcher, "PATIENCE_SECONDS", 60.0)
    steps = Steps()
    first = asyncio.ensure_future(steps.batcher.add(1))
    await until(lambda: steps.calls == [[1]])
    later = [asyncio.ensure_future(steps.batcher.add(item)) for item in (2, 3)]
    await asyncio.sleep(0)
    steps.gate.set()

    assert await asyncio.gather(first, *later) == [2, 4, 6]
    assert steps.calls == [[1], [2, 3]]


async def test_a_step_that_takes_long_holds_up_nobody() -> None:
    steps = Steps()
    first = asyncio.ensure_future(steps.batcher.add(1))
    await until(lambda: steps.calls == [[1]])
    second = asyncio.ensure_future(steps.batcher.add(2))

    await until(lambda: steps.calls == [[1], [2]])
    steps.gate.set()

    assert await asyncio.gather(first, second) == [2, 4]


async def test_an_item_that_cannot_be_executed_fails_alone() -> None:
    steps = Steps()
    steps.gate.set()

    one, bad, two = await steps.add_all(1, -5, 2)

    assert (one, two) == (2, 4)
    assert isinstance(bad, ValueError)
    assert steps.calls == [[1, -5, 2], [1], [-5], [2]]


async def test_an_error_that_no_item_causes_fails_all_and_is_not_repeated() -> None:
    steps = Steps()
    steps.gate.set()

    results = await steps.add_all(1, 13)

    assert [type(result) for result in results] == [ConnectionError, ConnectionError]
    assert steps.calls == [[1, 13]]
    assert await steps.batcher.add(4) == 8


async def test_a_cancelled_caller_leaves_the_step_to_the_others() -> None:
    steps = Steps()
    leaving, staying = (asyncio.ensure_future(steps.batcher.add(item)) for item in (1, 2))
    await until(lambda: steps.calls == [[1, 2]])

    leaving.cancel()
    steps.gate.set()

    assert await staying == 4
    assert leaving.cancelled()


async def test_a_step_that_is_cancelled_fails_its_callers_and_the_next_is_executed() -> None:
    steps = Steps()
    before = asyncio.all_tasks()
    caller = asyncio.ensure_future(steps.batcher.add(1))
    await until(lambda: steps.calls == [[1]])

    for task in asyncio.all_tasks() - before - {caller}:
        task.cancel()

    with pytest.raises(ConnectionAbortedError):
        await caller
    steps.gate.set()
    assert await steps.batcher.add(2) == 4


async def test_a_step_sees_nothing_of_its_callers_context() -> None:
    variable = ContextVar("variable", default="nobody's")

    async def read(items: Sequence[int]) -> list[str]:
        return [variable.get() for _ in items]

    shared = Batcher(read, shared=())
    variable.set("a caller's")

    assert await shared.add(1) == "nobody's"
