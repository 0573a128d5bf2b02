"""The process of a crash test: executes a run, and kills or stops itself at a moment of it.

`python -m app.jobs.testing.victim` reads its order, as JSON, from standard input.
"""

import asyncio
import importlib
import json
import os
import signal
import sys
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from app.jobs.testing.lab import INSTANT, Given, job_of, open_lab
from app.jobs.testing.web import PretendWeb
from app.ledger import edit
from app.ledger.decide import decide_schedule
from app.queue import enqueue
from app.store import sessions
from app.store.runs import attempt_rows
from app.store.schedules import decisions
from app.store.servers import ServerUrls
from workers import discovery
from workers.job import Job
from workers.run import Run
from workers.source_writer import SourceWriter

STOPPED = 3  # the exit code of a worker that was stopped in the middle
STOP = "stopped_"  # before a moment: the worker is stopped as by SIGTERM, and not killed


class Moments:
    """Kills this process, or stops `task` as a worker does that ends, when the moment comes."""

    def __init__(self, wanted: str, task: "asyncio.Task[Any] | None") -> None:
        self._wanted = wanted
        self._task = task
        self._writes = 0
        self.stopped = False

    def come(self, moment: str) -> None:
        """The run has come to this moment."""
        if moment == self._wanted:
            os.kill(os.getpid(), signal.SIGKILL)
        if self._task is not None and STOP + moment == self._wanted:
            self.stopped = True
            self._task.cancel()

    def started(self) -> None:
        """The job's function begins: its first wait is a moment."""
        asyncio.get_running_loop().call_soon(self.come, "in_function")

    def written(self) -> None:
        """The job has committed something."""
        self._writes += 1
        self.come(f"after_write_{self._writes}")

    def watch(self) -> None:
        """Watch the steps of a run."""
        _wrap(decisions, "record", after=lambda: self.come("after_tick_insert"))
        _wrap(
            enqueue,
            "enqueue_runs",
            before=lambda: self.come("after_commit_before_enqueue"),
            after=lambda: self.come("after_enqueue"),
        )
        _wrap(attempt_rows, "claim_all", after=lambda: self.come("after_claim"))
        _wrap(Job, "execute", before=self.started)
        _wrap(Run, "store", after=self.written)
        _wrap(SourceWriter, "commit", after=self.written)
        _wrap(sessions.FencedSession, "commit", after=self.written)
        _wrap(
            attempt_rows,
            "finish_all",
            before=lambda: self.come("before_outcome"),
            after=lambda: self.come("after_outcome"),
        )


def _nothing() -> None:
    """Do nothing."""


def _wrap(
    owner: Any,
    name: str,
    *,
    before: Callable[[], None] = _nothing,
    after: Callable[[], None] = _nothing,
) -> None:
    step = getattr(owner, name)

    async def watched(*args: Any, **options: Any) -> Any:
        before()
        result = await step(*args, **options)
        after()
        return result

    setattr(owner, name, watched)


def _find_job(order: dict[str, Any]) -> Job:
    try:
        module = importlib.import_module(order["module"])
    except ModuleNotFoundError:
        module = discovery.import_file(Path(order["file"]))
    for value in vars(module).values():
        try:
            job = job_of(value)
        except TypeError:
            continue
        if job.name == order["job"]:
            return job
    raise SystemExit(f"{order['file']} has no job {order['job']!r} at its top level")


async def _run(order: dict[str, Any]) -> bool:
    """Execute the run; returns whether it was stopped in the middle."""
    job, tick = _find_job(order), datetime.fromisoformat(order["tick"])
    urls = ServerUrls(order["database"], order["redis"])
    web = PretendWeb.load(order["web"])
    moments = Moments(order["moment"], asyncio.current_task())
    given = Given(order["settings"], order["secrets"])
    async with open_lab(job, urls, web, tick, given) as opened:
        pool = opened.context.pool
        if order["scheduled"]:
            declared = opened.declared()
            await edit.register(pool, [declared], tick - INSTANT)
            moments.watch()
            queued = await decide_schedule(pool, declared.key, tick)
            await enqueue.enqueue_runs(pool, opened.context.redis, queued)
            run_id = queued[0].run_id
        else:
            run_id = await opened.request()
            moments.watch()
        await opened.execute(run_id)
    return moments.stopped


if __name__ == "__main__":
    sys.exit(STOPPED if asyncio.run(_run(json.load(sys.stdin))) else 0)
