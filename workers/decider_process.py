"""The process that decides for a worker, as the worker sees it: started, watched, restarted.

What a site sends, a page holds or a job does can delay the worker's event loop; ticks are decided
in time all the same.
"""

import asyncio
import contextlib
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from app.core import frames, log
from app.core.tasks import cancel_all
from app.scheduling.schedule import Schedule

STOP_SECONDS = 2.0  # for decisions under way
RESTART_SECONDS = 1.0

_log = log.logger(__name__)


@dataclass(frozen=True, slots=True)
class DeciderOrder:
    """What the process reads from its standard input, whose end ends it.

    `worker`: the name under which it sends heartbeats. `known_jobs`: as in `trigger.known_jobs`.
    """

    database: str
    redis: str
    worker: str
    known_jobs: Sequence[str]
    triggers: Sequence[tuple[str, Schedule]]


class DeciderProcess:
    """Runs the process from `async with` until its end; restarts it if it ends before.

    It is started without an order, so that it is ready when `decide` gives it one.
    """

    def __init__(self, module: str = "workers.decider") -> None:
        self._module = module
        self._folder = Path.cwd()  # a job may change it, and the module is found there
        self._order: bytes | None = None
        self._process: asyncio.subprocess.Process | None = None
        self._watching: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._process = await self._started()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Let it finish what it decides, and end it."""
        if self._watching is not None:
            await cancel_all([self._watching])
        process = self._process
        if process is None:
            return
        if process.stdin is not None:
            process.stdin.close()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except (TimeoutError, asyncio.CancelledError):
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()

    def decide(self, order: DeciderOrder) -> None:
        """Have it decide from now on."""
        self._order = pickle.dumps(order)
        self._watching = asyncio.create_task(self._watch())

    async def _started(self) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=asyncio.subprocess.PIPE,
            cwd=self._folder,
            start_new_session=True,  # Ctrl-C must reach only the worker
        )

    async def _watch(self) -> None:
        while True:
            process = self._process = self._process or await self._started()
            if process.stdin is not None and self._order is not None:
                with contextlib.suppress(ConnectionError):  # it has ended already
                    frames.write(process.stdin, self._order)
                    await process.stdin.drain()
            code = await process.wait()
            self._process = None
            _log.error("decider.ended", exit_code=code, restart_s=RESTART_SECONDS)
            await asyncio.sleep(RESTART_SECONDS)


def read_order() -> DeciderOrder | None:
    """Return the order on standard input; None if the worker ended without one."""
    body = frames.read(sys.stdin.buffer)
    order = pickle.loads(body) if body else None  # noqa: S301 - from the worker that started us
    return order if isinstance(order, DeciderOrder) else None
