"""The watchdog of the event loop: logs what blocks it, and ends a worker that stays blocked."""

import asyncio
import faulthandler
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from time import monotonic  # which a job may have patched in its module, so that timers never fire
from types import CodeType, FrameType
from typing import Any, NoReturn, Self

from app.core import log
from app.core.event_loop import end_now

MAX_BLOCKED_SECONDS = 1.0
CHECK_SECONDS = 0.2
MAX_FRAMES = 12
EXIT_CODE = 70  # EX_SOFTWARE of sysexits.h
STANDARD_ERROR = 2
# CPU seconds beyond the limit after which the kernel ends a process whose interpreter is held.
HELD_SECONDS = 5.0

_log = log.logger(__name__)


class LoopWatchdog:
    """Watches the running event loop from a thread, from `async with` until its end.

    While the loop is blocked, nothing else runs in this worker: no heartbeat, no other job. One
    line is logged for each time, while it is still blocked. `jobs`: the names of the jobs by the
    code of their functions. `until`: when the process ends, in seconds of the loop's clock, if it
    is blocked since the given time, because no timeout can end what blocks it. The time for which
    it was suspended does not count.

    What holds the interpreter, such as a regular expression that backtracks without end, keeps the
    thread from watching: timers of the kernel, which it sets anew with each check, then end the
    process, by its CPU time. The first calls a handler, for which regular expressions and
    arithmetic look; the second writes the stacks to stderr and kills the process.
    """

    def __init__(
        self,
        jobs: Mapping[CodeType, str],
        until: Callable[[float], float],
        seconds: float = MAX_BLOCKED_SECONDS,
    ) -> None:
        self._jobs, self._until, self._seconds = jobs, until, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self._beat = monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._reported = False
        # Signals have handlers in the main thread only: elsewhere there are no timers.
        self._timed = threading.current_thread() is threading.main_thread()

    async def __aenter__(self) -> Self:
        self._loop, self._ident = asyncio.get_running_loop(), threading.get_ident()
        if self._timed:
            self._handler = signal.signal(signal.SIGPROF, self._end_held)
            faulthandler.register(signal.SIGVTALRM, file=STANDARD_ERROR, chain=True)
        self._tick()
        self._set_timers()
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()
        self._thread.join()
        if self._timed:
            for timer in (signal.ITIMER_PROF, signal.ITIMER_VIRTUAL):
                signal.setitimer(timer, 0)
            signal.signal(signal.SIGPROF, self._handler)
            faulthandler.unregister(signal.SIGVTALRM)

    def _tick(self) -> None:
        self._beat, self._reported = monotonic(), False
        self._timer = self._loop.call_later(CHECK_SECONDS, self._tick)

    def _watch(self) -> None:
        checked, suspended_seconds, beat = monotonic(), 0.0, self._beat
        while not self._stopped.wait(CHECK_SECONDS):
            self._set_timers()
            before, checked = checked, monotonic()
            # If this thread was late too, the process or the machine was suspended.
            suspended = checked - before > self._seconds
            if beat != self._beat:
                beat, suspended_seconds = self._beat, 0.0
            suspended_seconds += suspended * (checked - before)
            blocked = checked - beat
            if blocked <= self._seconds or suspended:
                continue
            frame = sys._current_frames().get(self._ident)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented, for debuggers
            if not self._reported:
                self._reported = True
                _log.warning("loop.blocked", **self._blocking(blocked, frame))
            if checked - suspended_seconds > self._until(beat):
                _log.error("worker.blocked", **self._blocking(blocked, frame))
                end_now(EXIT_CODE)

    def _set_timers(self) -> None:
        if not self._timed:
            return
        seconds = max(self._until(self._beat) - monotonic(), 0) + HELD_SECONDS
        signal.setitimer(signal.ITIMER_PROF, seconds)
        signal.setitimer(signal.ITIMER_VIRTUAL, seconds + HELD_SECONDS)

    def _end_held(self, _: int, frame: FrameType | None) -> NoReturn:
        _log.error("worker.blocked", **self._blocking(monotonic() - self._beat, frame))
        end_now(EXIT_CODE)

    def _blocking(self, seconds: float, frame: FrameType | None) -> dict[str, Any]:
        task = asyncio.current_task(self._loop)
        return {
            "job": self._job_of(frame),
            "task": task and task.get_name(),
            "seconds": round(seconds, 1),
            "stack": "".join(traceback.format_stack(frame)[-MAX_FRAMES:]),
            "fix": "await it, or run it with asyncio.to_thread",
        }

    def _job_of(self, frame: FrameType | None) -> str | None:
        while frame is not None:
            job = self._jobs.get(frame.f_code)
            if job is not None:
                return job
            frame = frame.f_back
        return None
