"""Running an event loop that no code within it can end but the task it runs for."""

import asyncio
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NoReturn, TypeVar

from app.core import log

Result = TypeVar("Result")

THREAD_SECONDS = 2.0  # for threads to end after the event loop

_log = log.logger(__name__)


def run_past_exits(loop: asyncio.AbstractEventLoop, task: "asyncio.Task[Result]") -> Result:
    """Run the loop until the task is done; returns its result, or raises its exception.

    asyncio ends the loop when any task or callback raises SystemExit or KeyboardInterrupt, or stops
    it, and when the handler of a signal raises anything between two of them. What a job has started
    must not end what else runs there: it is logged. Ctrl-C, where no handler of the loop takes it,
    is raised.
    """
    task.add_done_callback(lambda _: loop.stop())
    while not task.done():
        try:
            loop.run_forever()
        except BaseException as error:
            lost = loop.is_closed() or (isinstance(error, OSError) and error.errno)
            if _is_interrupt(error) or lost:  # Ctrl-C, or a loop that would raise it for ever
                raise
            if not task.done():
                _log_exit(error)
    return task.result()


def _is_interrupt(error: BaseException) -> bool:
    default = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    return default and isinstance(error, KeyboardInterrupt)


def _log_exit(error: BaseException) -> None:
    _log.error(
        "loop.exit_ignored",
        error=repr(error),
        fix="a task, callback or signal handler of a job raised it: return, or raise an Exception",
        exc_info=error,
    )


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


def end_despite_threads() -> None:
    """End this process in a while if Python still waits for threads of jobs by then."""
    threading.Thread(target=_end_later, daemon=True).start()


def _end_later() -> None:
    time.sleep(THREAD_SECONDS)
    main = threading.main_thread()
    left = [one.name for one in threading.enumerate() if one is not main and not one.daemon]
    fix = "a job's threads end with it, or are daemons"
    _log.warning("process.threads_abandoned", threads=left, fix=fix)
    end_now()


def end_now(code: int = 0) -> NoReturn:
    """End this process as it would end by itself, but at once: nothing that runs is waited for."""
    logging.shutdown()
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # a job may have closed or replaced it
            stream.flush()
    os._exit(code)
