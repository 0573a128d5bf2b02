"""The watchdog of the event loop: logs the stack of what blocks it for longer than a second."""

import asyncio
import sys
import threading
import time
import traceback
from collections.abc import Mapping
from types import CodeType, FrameType
from typing import Self

from app.core import log

MAX_BLOCKED_SECONDS = 1.0
CHECK_SECONDS = 0.2
MAX_FRAMES = 12

_log = log.logger(__name__)


class LoopWatchdog:
    """Watches the running event loop from a thread, from `async with` until its end.

    While the loop is blocked, nothing else runs in this worker: no heartbeat, no other job. One
    line is logged for each time, while it is still blocked. `jobs`: the names of the jobs by the
    code of their functions.
    """

    def __init__(self, jobs: Mapping[CodeType, str], seconds: float = MAX_BLOCKED_SECONDS) -> None:
        self._jobs, self._seconds = jobs, seconds
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        self._beat = time.monotonic()
        self._timer: asyncio.TimerHandle | None = None
        self._reported = False

    async def __aenter__(self) -> Self:
        self._loop, self._ident = asyncio.get_running_loop(), threading.get_ident()
        self._tick()
        self._thread.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stopped.set()
        if self._timer is not None:
            self._timer.cancel()

    def _tick(self) -> None:
        self._beat, self._reported = time.monotonic(), False
        self._timer = self._loop.call_later(CHECK_SECONDS, self._tick)

    def _watch(self) -> None:
        checked = time.monotonic()
        while not self._stopped.wait(CHECK_SECONDS):
            before, checked = checked, time.monotonic()
            # If this thread was late too, the process or the machine was suspended.
            suspended = checked - before > self._seconds
            blocked = checked - self._beat
            if blocked > self._seconds and not suspended and not self._reported:
                self._reported = True
                self._report(blocked)

    def _report(self, seconds: float) -> None:
        frame = sys._current_frames().get(self._ident)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - documented, for debuggers
        task = asyncio.current_task(self._loop)
        _log.warning(
            "loop.blocked",
            job=self._job_of(frame),
            task=task and task.get_name(),
            seconds=round(seconds, 1),
            stack="".join(traceback.format_stack(frame)[-MAX_FRAMES:]),
            fix="await it, or run it with asyncio.to_thread",
        )

    def _job_of(self, frame: FrameType | None) -> str | None:
        while frame is not None:
            job = self._jobs.get(frame.f_code)
            if job is not None:
                return job
            frame = frame.f_back
        return None
