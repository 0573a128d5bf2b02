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
import structlog
from arq import Retry

from app.context import ServerUrls
from app.control import worker_name
from app.core import log
from app.core.errors import RollcallError
from app.runs import attempts
from app.runs.attempts import OVERTIME_SECONDS, AttemptOutcome
from app.runs.leases import Leases
from app.store.runs import attempt_rows, progress
from app.store.runs.attempt_rows import ClaimedRun
from workers.job import Job

STOP_SECONDS = 3.0  # for a process to hand its run back after SIGTERM
START_SECONDS = 30.0  # for a process to start, beside the time of the run
BUSY_RETRY_SECONDS = 1.0

_log = log.logger(__name__)


class IsolatedRun(msgspec.Struct, frozen=True):
    """What the process reads from its standard input."""

    database: str
    redis: str
    task: str
    job_id: str
    claimed: ClaimedRun


class Isolation:
    """Executes runs in processes of their own, one at a time for each worker.

    `extra_seconds`: after the run's own timeout, until a process that goes on is killed.
    """

    def __init__(
        self,
        where: ServerUrls,
        leases: Leases,
        module: str = "workers.isolated",
        extra_seconds: float = START_SECONDS + OVERTIME_SECONDS,
    ) -> None:
        self._where = where
        self._leases = leases
        self._module = module
        self._extra_seconds = extra_seconds
        self._folder = Path.cwd()  # a job may change it, and the module is found there
        self._busy = asyncio.Lock()

    async def __call__(self, job: Job, run_id: UUID, job_id: str) -> None:
        """Execute the run and return when its process has ended.

        The lease is renewed here too, where nothing that the run does can prevent it. The process
        records the outcome; if it dies, the lease expires. Raises arq's Retry while another run is
        executed this way.
        """
        if self._busy.locked():
            raise Retry(defer=BUSY_RETRY_SECONDS)
        async with self._busy:
            # A name of its own: the worker's other runs are no suspects if the process dies.
            claimed = await attempts.claim(self._leases, run_id, worker_name())
            if claimed is None:
                _log.info("run.not_claimed", execution_id=str(run_id))
                return
            self._leases.hold(claimed)
            fields = {"execution_id": str(run_id), "job": job.name, "attempt": claimed.attempt}
            try:
                with structlog.contextvars.bound_contextvars(**fields):
                    await self._execute(job, claimed, job_id)
            except asyncio.CancelledError:
                # A process that was not started yet, or too busy to hand it back.
                await attempt_rows.release(
                    self._leases.pool, claimed, self._leases.clock(), "worker stops"
                )
                raise
            finally:
                self._leases.release(claimed)

    async def _execute(self, job: Job, claimed: ClaimedRun, job_id: str) -> None:
        run = IsolatedRun(self._where.database, self._where.redis, job.name, job_id, claimed)
        seconds = claimed.timeout
        if job.timeout is not None and claimed.schedule_key is None:
            seconds = min(seconds, job.timeout)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", self._module), stdin=asyncio.subprocess.PIPE, cwd=self._folder
        )
        _log.info("run.isolated", execution_id=str(claimed.run_id), pid=process.pid)
        try:
            async with asyncio.timeout(seconds + self._extra_seconds):
                await process.communicate(msgspec.json.encode(run))
        except TimeoutError:
            await _stop(process)
            why = "its process was killed: the job blocks the event loop, or does not end"
            limit_error = ("TimeoutError", f"took longer than {seconds:g} s")
            outcome = AttemptOutcome(retry=job.retry, limit_error=limit_error)
            await attempts.record_timeout(self._leases, claimed, outcome, why)
            return
        except asyncio.CancelledError:
            await _stop(process)
            raise
        if process.returncode or await progress.holds(self._leases.pool, claimed):
            _log.error(
                "run.killed_its_process",
                execution_id=str(claimed.run_id),
                exit_code=process.returncode,
            )


async def _stop(process: asyncio.subprocess.Process) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.terminate()
        try:
            async with asyncio.timeout(STOP_SECONDS):
                await process.wait()
        except TimeoutError:
            process.kill()
            await process.wait()


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
