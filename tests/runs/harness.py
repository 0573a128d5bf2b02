"""Runs in a test's words: asked for, claimed, and what was written down of them."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import asyncpg

from app.core.enums import RunStatus
from app.runs.leases import Leases
from app.store.db import Pool
from app.store.runs import progress, run_rows
from app.store.runs.attempt_rows import ClaimedRun, RunEnding
from app.store.runs.progress import Counts, SourceProgress
from app.store.runs.run_rows import RunRequest
from tests import single_run
from tests.clock import SettableClock
from tests.worker_harness import run_row

LEASE = 15.0


@dataclass(slots=True)
class UnheardPool:
    """A pool whose connection is cut after the next statement, of which the answer is lost."""

    pool: Pool
    cuts: int = 1

    def __getattr__(self, name: str) -> Any:
        step = getattr(self.pool, name)

        async def call(*args: Any) -> Any:
            answer = await step(*args)
            self.cuts -= 1
            if self.cuts >= 0:
                raise asyncpg.ConnectionDoesNotExistError("connection was closed")
            return answer

        return call


@dataclass(slots=True)
class Desk:
    """Runs of one database, at the clock's instant."""

    pool: Pool
    clock: SettableClock

    async def ask(self, *, max_attempts: int = 3, timeout: float = 240) -> UUID:  # noqa: ASYNC109 - the run's
        """Queue a run."""
        run_id = uuid4()
        wanted = RunRequest(run_id, "job", {}, "test", max_attempts, timeout)
        await run_rows.request(self.pool, wanted, self.clock())
        return run_id

    async def claim(self, run_id: UUID, worker: str = "w1") -> ClaimedRun | None:
        return await single_run.claim(self.pool, run_id, worker, self.clock(), LEASE)

    async def begin(self, **wanted: Any) -> ClaimedRun:
        """Ask for a run and claim it."""
        return await self.again(await self.ask(**wanted))

    async def again(self, run_id: UUID, worker: str = "w1") -> ClaimedRun:
        """Claim a run that must be free."""
        claimed = await self.claim(run_id, worker)
        assert claimed is not None
        return claimed

    def leases(self) -> Leases:
        """The leases of one worker."""
        return Leases(self.pool, self.clock, LEASE)

    async def row(self, run: ClaimedRun | UUID) -> dict[str, Any]:
        return await run_row(self.pool, run if isinstance(run, UUID) else run.run_id)

    async def events(self, run: ClaimedRun | UUID) -> list[tuple[str, int]]:
        """What happened to the run, and to which attempt."""
        run_id = run if isinstance(run, UUID) else run.run_id
        rows = await self.pool.fetch(
            "SELECT event, attempt FROM run_events WHERE execution_id = $1 ORDER BY id", run_id
        )
        return [(row["event"], row["attempt"]) for row in rows]


async def ended(
    desk: Desk, seconds: float, status: RunStatus = RunStatus.SUCCESS, source: str = "bet9ja"
) -> UUID:
    """A run of `job` that took so long, with one source."""
    claimed = await desk.begin()
    row = SourceProgress(
        (await progress.begin(desk.pool, claimed, source)).source,
        status=status,
        counts=Counts(records=30, prices=90, inserted=2, changed=3),
        requests=5,
        bytes=4_000,
        classes={"2xx": 3, "3xx": 1, "429": 1},
        duration_seconds=seconds,
    )
    async with desk.pool.acquire() as connection, connection.transaction():
        await progress.write(connection, claimed, row, {})
    desk.clock.now += timedelta(seconds=seconds)
    await single_run.finish(desk.pool, claimed, RunEnding(status, desk.clock()))
    return claimed.run_id
