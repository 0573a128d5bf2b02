"""Requests of concurrent callers, executed together in one step."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

PATIENCE_SECONDS = 0.05  # that a step is waited for; a longer one waits for a lock, or for a server


class Batcher(Generic[Item, Result]):
    """Executes items that callers add at the same time by one `step`, such as an SQL statement.

    Items that are added while a step runs wait for its end, but no longer than PATIENCE_SECONDS,
    and go together in the next. A step that fails is repeated for each of its items alone, so that
    no item fails for another's sake; it must have changed nothing then. An error of `shared` fails
    all of them: it is not due to an item.
    """

    def __init__(
        self,
        step: Callable[[Sequence[Item]], Awaitable[Sequence[Result]]],
        *,
        shared: tuple[type[BaseException], ...],
    ) -> None:
        """`step` returns one result for each item, in their order."""
        self._step, self._shared = step, shared
        self._waiting: list[tuple[Item, asyncio.Future[Result]]] = []
        self._awaited: asyncio.Task[None] | None = None  # the task whose end starts the next step
        self._tasks = set[asyncio.Task[None]]()

    async def add(self, item: Item) -> Result:
        """The item's result. Raises what the step raises for it.

        A caller that is cancelled does not stop the step.
        """
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Result] = loop.create_future()
        self._waiting.append((item, result))
        if self._awaited is None and len(self._waiting) == 1:
            loop.call_soon(self._start, context=Context())  # nothing of this caller's
        return await result

    def _start(self) -> None:
        batch, self._waiting, self._awaited = self._waiting, [], None
        if batch:
            loop = asyncio.get_running_loop()
            self._awaited = task = loop.create_task(self._execute(batch))
            self._tasks.add(task)
            overdue = loop.call_later(PATIENCE_SECONDS, self._follow, task)
            task.add_done_callback(lambda _: overdue.cancel())
            task.add_done_callback(self._tasks.discard)
            task.add_done_callback(self._follow)

    def _follow(self, task: "asyncio.Task[None]") -> None:
        if self._awaited is task:
            self._start()

    async def _execute(self, batch: Sequence[tuple[Item, "asyncio.Future[Result]"]]) -> None:
        try:
            results = await self._step([item for item, _ in batch])
        except asyncio.CancelledError:
            _fail(batch, ConnectionAbortedError("the step was cancelled"))
            raise
        except self._shared as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - the callers'
            if len(batch) == 1:
                _fail(batch, error)
            else:
                await asyncio.gather(*(self._execute([one]) for one in batch))
        else:
            for (_, waiting), result in zip(batch, results, strict=True):
                if not waiting.done():
                    waiting.set_result(result)


def _fail(batch: Sequence[tuple[Item, "asyncio.Future[Result]"]], error: BaseException) -> None:
    for _, waiting in batch:
        if not waiting.done():
            waiting.set_exception(error)
