"""Running an event loop that no code within it can end but the task it runs for."""

import asyncio
import signal
from typing import TypeVar

from app.core import log

Result = TypeVar("Result")

_log = log.logger(__name__)


def run_past_exits(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Result]") -> Result:
    """Run the loop until the task is done; returns its result, or raises its exception.

    asyncio ends the loop when any task or callback raises SystemExit or KeyboardInterrupt, or stops
    it. One that a job has started must not end what else runs there: it is logged. Ctrl-C, where no
    handler of the loop takes it, is raised.
    """
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        try:
            loop.run_forever()
        except (SystemExit, KeyboardInterrupt) as error:
            interrupted = signal.getsignal(signal.SIGINT) is signal.default_int_handler
            if isinstance(error, KeyboardInterrupt) and interrupted:
                raise
            if not task.done():
                _log_exit(error)
    return task.result()


def _log_exit(error: BaseException) -> None:
    _log.error(
        "loop.exit_ignored",
        error=repr(error),
        fix="a task or callback of a job raised it: return from it, or raise an Exception",
        exc_info=error,
    )
