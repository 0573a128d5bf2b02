"""Runs whose worker has died before, each executed in a process of its own.

If the run is what kills its process, it takes no other run with it.
"""

import asyncio
import contextlib
import sys
from collections.abc import Awaitable
from pathlib import Path
from typing import cast
from uuid import UUID

import msgspec
from arq import Retry

from app.context import ServerUrls
from app.core import log
from app.core.errors import RollcallError

STOP_SECONDS = 4.0  # for a process to hand its run back after SIGTERM
BUSY_RETRY_SECONDS = 1.0

_log = log.logger(__name__)


class IsolatedRun(msgspec.Struct, frozen=True):
    """What the process reads from its standard input."""

    database: str
    redis: str
    task: str
    run_id: str
    job_id: str


class Isolation:
    """Executes runs in processes of their own, one at a time for each worker."""

    def __init__(self, where: ServerUrls, module: str = "workers.isolated") -> None:
        self._where = where
        self._module = module
        self._folder = Path.cwd()  # a job may change it, and the module is found there
        self._busy = asyncio.Lock()

    async def __call__(self, task: str, run_id: UUID, job_id: str) -> None:
        """Execute the run and return when its process has ended.

        The process claims the run, holds its lease and records its outcome. If it dies, the lease
        expires. Raises arq's Retry while another run is executed this way.
        """
        if self._busy.locked():
            raise Retry(defer=BUSY_RETRY_SECONDS)
        run = IsolatedRun(self._where.database, self._where.redis, task, str(run_id), job_id)
        async with self._busy:
            process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", self._module),
                stdin=asyncio.subprocess.PIPE,
                cwd=self._folder,
            )
            _log.info("run.isolated", execution_id=str(run_id), pid=process.pid)
            try:
                await process.communicate(msgspec.json.encode(run))
            except asyncio.CancelledError:
                await _stop(process)
                raise
        if process.returncode:
            _log.error(
                "run.killed_its_process", execution_id=str(run_id), exit_code=process.returncode
            )


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()


def read_run() -> IsolatedRun:
    """Return the run that this process is to execute. Raises RollcallError for anything else."""
    try:
        return msgspec.json.decode(sys.stdin.buffer.read(), type=IsolatedRun)
    except msgspec.DecodeError as error:
        raise RollcallError(f"standard input is not a run: {error}") from error


async def until_stopped(work: Awaitable[None], stopped: asyncio.Event) -> None:
    """Await `work`; cancel it as soon as `stopped` is set."""
    task = asyncio.ensure_future(work)
    signal = asyncio.ensure_future(stopped.wait())
    await asyncio.wait({task, signal}, return_when=asyncio.FIRST_COMPLETED)
    signal.cancel()
    if not task.done():
        task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await cast("Awaitable[None]", task)
