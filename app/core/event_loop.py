"""Running an event loop that no code within it can end but the task it runs for."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from asyncio.tasks import _unregister_task  # documented: "Extending asyncio"
from collections.abc import Callable, Coroutine, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from typing import Any, NoReturn, TypeVar, cast

from app.core import log

Result = TypeVar("Result")

THREAD_SECONDS = 2.0  # for threads to end after the event loop

_of_a_job: ContextVar[bool] = ContextVar("_of_a_job", default=False)
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


@contextmanager
def starting_tasks_of_a_job() -> Generator[None]:
    """The tasks that are started in the block are a job's, which `asyncio.all_tasks` names."""
    token = _of_a_job.set(True)
    try:
        yield
    finally:
        _of_a_job.reset(token)


def hide_own_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Let `asyncio.all_tasks` name only tasks of jobs: a job may cancel, or wait for, all it names.

    The worker's tasks, and those that execute other runs, must go on.
    """

    def create(
        loop: asyncio.AbstractEventLoop, coro: Coroutine[Any, Any, Any], **options: Any
    ) -> "asyncio.Task[Any]":
        task = asyncio.Task(coro, loop=loop, **options)
        if not _of_a_job.get():
            _unregister_task(task)
        return task

    loop.set_task_factory(cast("Any", create))


class StopSignals:
    """The signals that stop this process, kept from jobs that take them for themselves."""

    def __init__(self) -> None:
        self._own: object = None  # asyncio's handler, the same for every signal

    def keep(
        self, loop: asyncio.AbstractEventLoop, handler: Callable[[signal.Signals], None]
    ) -> None:
        """Handle them by `handler`; logs those that another handler had since the last call."""
        for signum in (signal.SIGTERM, signal.SIGINT):
            found = signal.getsignal(signum)
            loop.add_signal_handler(signum, partial(handler, signum))
            if self._own not in {None, found}:
                fix = "a job handles no signal of its worker: it is cancelled when that stops"
                _log.warning("signal.taken_back", signal=signum.name, fix=fix)
            self._own = signal.getsignal(signum)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGTERM, signal.SIGINT))
        if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # else no process has an exit code


def end_despite_threads(seconds: float = THREAD_SECONDS) -> None:
    """End this process in so many seconds if Python still waits for threads of jobs by then."""
    threading.Thread(target=_end_later, args=(seconds,), daemon=True).start()


def _end_later(seconds: float) -> None:
    time.sleep(seconds)
    main = threading.main_thread()
    left = [one.name for one in threading.enumerate() if one is not main and not one.daemon]
    fix = "a job's threads end with it, or are daemons"
    _log.warning("process.threads_abandoned", threads=left, fix=fix)
    end_now()


def end_now(code: int = 0) -> NoReturn:
    """End this process as it would end by itself, but at once: nothing that runs is waited for."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)
