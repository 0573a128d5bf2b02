"""The ledger in a test's words: one schedule, a clock that is set, and what was written down."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from app.core.enums import RunStatus
from app.ledger import decide
from app.ledger import edit as ledger
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.runs.attempt_rows import ClaimedRun, RunEnding
from app.store.runs.run_rows import QueuedRun
from app.store.schedules import heartbeats
from tests import single_run
from tests.clock import NOON, SettableClock

KEY = "scrape"
MINUTE = timedelta(minutes=1)

# Statements after which the stored schedule cannot be read.
BREAKAGES = (
    """UPDATE schedules SET spec = '{"cron": "0 9 * * *", "timezone": "Mars/Phobos"}'""",
    """UPDATE schedules SET spec = '{"cron": "61 * * * *"}'""",
    """UPDATE schedules SET spec = '[1]'""",
    """UPDATE schedules SET policies = '{"overlap": "maybe"}'""",
    """UPDATE schedules SET policies = '[1]'""",
    """UPDATE schedules SET policies = '{"exclude": {"timezone": "Mars/X", "rules": ["sun"]}}'""",
    """UPDATE schedules SET policies = '{"exclude": {"rules": ["someday"]}}'""",
)
VERSION_TOO = """
UPDATE schedule_versions v SET spec = s.spec, policies = s.policies
FROM schedules s WHERE s.id = v.schedule_id AND v.version = s.version
"""


def every(minutes: float, *, enabled: bool = True, **policies: Any) -> DeclaredSchedule:
    """A schedule of so many minutes, counted from noon."""
    schedule = Schedule.every(minutes * 60, anchor=NOON, name=KEY)
    return DeclaredSchedule(KEY, "job", schedule, Policies(**policies), enabled)


@dataclass(slots=True)
class Book:
    """Rings, edits and reads the one schedule `KEY`, at the clock's instant."""

    pool: Pool
    clock: SettableClock
    queued: list[QueuedRun] = field(default_factory=list[QueuedRun])

    async def open(self, declared: DeclaredSchedule) -> None:
        """Register the schedule."""
        await self._keep(ledger.register(self.pool, [declared], self.clock()))

    async def edit(self, declared: DeclaredSchedule) -> list[QueuedRun]:
        return await self._keep(ledger.edit(self.pool, declared, self.clock()))

    async def ring(self, *, after: timedelta = timedelta(0)) -> list[QueuedRun]:
        """Let time pass, then ring."""
        self.clock.now += after
        return await self._keep(decide.decide_schedule(self.pool, KEY, self.clock()))

    async def pause(self, by: str = "ada", note: str = "maintenance") -> None:
        await self._keep(ledger.pause(self.pool, KEY, self.clock(), by=by, note=note))

    async def resume(self) -> None:
        await self._keep(ledger.resume(self.pool, KEY, self.clock(), by="ada"))

    async def _keep(self, deciding: Any) -> list[QueuedRun]:
        queued: list[QueuedRun] = await deciding
        self.queued += queued
        return queued

    async def beating(self, since: datetime, until: datetime, *, jumped: bool = False) -> None:
        """Say that a worker was beating."""
        beat = await heartbeats.start_interval(self.pool, "worker", since, jumped=jumped)
        await heartbeats.extend_interval(self.pool, beat, until)

    async def claim(self, run: QueuedRun) -> ClaimedRun:
        claimed = await single_run.claim(self.pool, run.run_id, "worker", self.clock(), 15)
        assert claimed is not None
        return claimed

    async def finish(self, *queued: QueuedRun) -> None:
        """Do these runs, or all that were queued so far."""
        for run in queued or tuple(self.queued):
            claimed = await self.claim(run)
            assert await single_run.finish(
                self.pool, claimed, RunEnding(RunStatus.SUCCESS, self.clock(), {})
            )
        self.queued.clear()

    async def ring_each(self, times: int, every_: timedelta = MINUTE) -> None:
        """Ring on time, so many times, doing whatever was queued."""
        for _ in range(times):
            await self.finish(*await self.ring(after=every_))

    async def ticks(self) -> list[tuple[str, str]]:
        """Minute and what became of it, in order."""
        rows = await self.pool.fetch("SELECT * FROM ticks ORDER BY scheduled_for")
        return [(f"{row['scheduled_for']:%H:%M}", _what(row)) for row in rows]

    async def gaps(self) -> list[tuple[str, int]]:
        """What became of stretches of ticks, and how many there were in each, in order."""
        rows = await self.pool.fetch("SELECT * FROM tick_gaps ORDER BY first_tick")
        return [(_what(row), row["count"]) for row in rows]

    async def row(self) -> Any:
        """The schedule's row."""
        return await self.pool.fetchrow("SELECT * FROM schedules WHERE key = $1", KEY)

    async def run_ids(self) -> list[UUID]:
        rows = await self.pool.fetch("SELECT execution_id FROM runs ORDER BY scheduled_for")
        return [row["execution_id"] for row in rows]


def _what(row: Any) -> str:
    return row["outcome"] if row["reason"] is None else f"{row['outcome']}({row['reason']})"


def times(ticks: Iterable[tuple[str, str]], what: str) -> list[str]:
    """The minutes of the ticks that ended so."""
    return [minute for minute, ended in ticks if ended == what]
