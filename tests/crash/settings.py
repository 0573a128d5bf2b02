"""arq's settings of the tests: those of production, but at one moment a process ends itself.

`arq tests.crash.settings.Settings`. The first process to reach the moment leaves a marker.
"""

import asyncio
import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, SettingsConfigDict

from app.core.messages import HostLimits
from app.ledger import decide
from app.queue import enqueue
from app.queue.cron import cron_entry
from app.scheduling.schedule import Schedule
from app.store.runs import attempt_rows
from app.store.schedules import decisions
from app.store.schedules.decisions import TickDecision
from app.workers import settings as front_door
from workers import execute, lifecycle
from workers.deciding import deciding_entries, triggers_of
from workers.source_writer import SourceWriter
from workers.sweep import sweep

Step = Callable[..., Awaitable[Any]]


class Drill(BaseSettings):
    """At which moment to die, how, and where to say so. `waits`: seconds to linger there then."""

    model_config = SettingsConfigDict(env_prefix="DRILL_")

    moment: str = ""
    signal: str = "SIGKILL"
    waits: float = 0
    marker: Path = Path("marker")


DRILL = Drill()
IN_TRANSACTION = "after_tick_insert"  # a punctual tick is decided without one


class Moments:
    """Counts how often each moment came, and ends the process at the right one, once."""

    def __init__(self) -> None:
        self.pages = 0
        self.run = ""

    async def come(self, moment: str) -> None:
        if moment == DRILL.moment and self._first():
            os.kill(os.getpid(), signal.Signals[DRILL.signal])
            await asyncio.sleep(DRILL.waits)

    def _first(self) -> bool:
        try:
            with DRILL.marker.open("x") as marker:
                json.dump({"pid": os.getpid(), "run": self.run}, marker)
        except FileExistsError:
            return False
        return True


MOMENTS = Moments()


def recording(step: Step) -> Step:
    async def record(connection: Any, made: Sequence[TickDecision], now: Any) -> None:
        await step(connection, made, now)
        runs = [str(tick.run_id) for one in made for tick in one.ticks if tick.run_id is not None]
        if runs:
            MOMENTS.run = runs[0]
            await MOMENTS.come(IN_TRANSACTION)

    return record


def recording_punctual(step: Step) -> Step:
    async def record_punctual(pool: Any, made: TickDecision, now: Any) -> Any:
        stamp = await step(pool, made, now)
        if stamp is not None:
            MOMENTS.run = str(made.ticks[0].run_id)
        return stamp

    return record_punctual


async def needs_the_lock(*_: Any) -> None:
    """Stands for the decision in one statement of a schedule that needs its lock."""


def telling(step: Step) -> Step:
    async def enqueue_runs(pool: Any, redis: Any, queued: Iterable[Any], *more: Any) -> None:
        queued = list(queued)
        new = [run for run in queued if run.attempt == 1]
        if new:
            await MOMENTS.come("after_commit_before_enqueue")
        await step(pool, redis, queued, *more)
        if new:
            await MOMENTS.come("after_enqueue")

    return enqueue_runs


def claiming(step: Step) -> Step:
    async def claim_all(*args: Any) -> Any:
        claimed = await step(*args)
        for run in filter(None, claimed):
            MOMENTS.run, MOMENTS.pages = str(run.run_id), 0
            await MOMENTS.come("after_claim")
        return claimed

    return claim_all


def committing(step: Step) -> Step:
    async def commit(*args: Any) -> None:
        await step(*args)
        MOMENTS.pages += 1
        await MOMENTS.come(f"after_page_{MOMENTS.pages}")

    return commit


def before(moment: str, step: Step) -> Step:
    async def stepping(*args: Any) -> Any:
        await MOMENTS.come(moment)
        return await step(*args)

    return stepping


def hurried(step: Any) -> Any:
    """The stand-in is requested as fast as possible: politeness is tested elsewhere."""

    def opened(
        config: Any, where: Any, redis: Any, sources: dict[str, HostLimits], *others: Any
    ) -> Any:
        fast = {name: replace(limits, rate=5_000, burst=500) for name, limits in sources.items()}
        return step(config, where, redis, fast, *others)

    return opened


def wrap(room: Any, name: str, wrapper: Callable[[Any], Any]) -> None:
    setattr(room, name, wrapper(getattr(room, name)))


wrap(decisions, "record", recording)
wrap(decisions, "record_punctual", recording_punctual)
if DRILL.moment == IN_TRANSACTION:
    wrap(decide, "_decide_punctual", lambda _: needs_the_lock)
wrap(enqueue, "enqueue_runs", telling)
wrap(attempt_rows, "claim_all", claiming)
wrap(SourceWriter, "commit", committing)
wrap(attempt_rows, "finish_all", lambda step: before("before_outcome", step))
wrap(execute, "_publish", lambda step: before("after_outcome_before_health", step))
wrap(lifecycle, "open_context", hurried)


def often(cron_jobs: Sequence[Any]) -> list[Any]:
    """The alarms, but a sweep every second: nobody has ten to wait."""
    others = [cron_job for cron_job in cron_jobs if cron_job.name != "sweep"]
    return [*others, cron_entry("sweep", sweep, Schedule.every(1))]


# Deciding happens in the process that is watched.
DECIDING = deciding_entries(triggers_of(front_door.JOBS.declared), front_door.CONFIG.lease_seconds)
Settings = type(
    "Settings",
    (),
    {
        **vars(front_door.Settings),
        "cron_jobs": often([*DECIDING, *front_door.Settings.cron_jobs]),
        "on_startup": staticmethod(
            lifecycle.startup(front_door.CONFIG, front_door.URLS, front_door.JOBS)
        ),
    },
)
