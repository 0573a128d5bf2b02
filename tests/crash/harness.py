"""One case of the crash matrix: workers as processes, a moment at which one dies, what is left."""

import asyncio
import json
import signal
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from app.ledger import proof
from app.ledger.proof import TickAccount
from app.store.db import Pool, open_pool
from scripts.standin.testing import Standin
from tests.wait import until

T = TypeVar("T")

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 3  # between two ticks
PATIENCE = 150.0

EVENTS = """
SELECT platform, platform_event_id, sportradar_id, country, competition, competition_id, home,
       away, kickoff FROM odds_events ORDER BY platform, platform_event_id
"""
PRICES = """
SELECT e.platform, e.platform_event_id, p.market, p.line, p.outcome, p.price, p.active
FROM {table} p JOIN odds_events e ON e.id = p.event_id ORDER BY 1, 2, 3, 4, 5, 6, 7
"""
FIRST_DONE = """
SELECT * FROM runs WHERE completed_at IS NOT NULL AND ($1::uuid IS NULL OR execution_id = $1)
ORDER BY scheduled_for LIMIT 1
"""


@dataclass(frozen=True, slots=True)
class Case:
    """Where one worker dies, and of what. `waits`: seconds it lingers there, to be cancelled."""

    moment: str
    signal: str
    waits: float = 0

    def __str__(self) -> str:
        return f"{self.moment}-{self.signal}"


@dataclass(slots=True)
class Worker:
    """A worker process and its log."""

    process: asyncio.subprocess.Process
    log: Path

    def words(self) -> str:
        return self.log.read_text(errors="replace")

    async def is_up(self) -> bool | None:
        """Has it started? Before that a signal ends it as any process."""
        return "worker.started" in self.words() or None

    async def end(self) -> int:
        """SIGTERM, if it lives; its exit code."""
        if self.process.returncode is None:
            self.process.terminate()
        return await asyncio.wait_for(self.process.wait(), 20)


@dataclass(slots=True)
class Left:
    """What a case left behind."""

    run: dict[str, Any]
    died: str = ""
    events: list[tuple[str, int]] = field(default_factory=list[tuple[str, int]])
    accounts: list[TickAccount] = field(default_factory=list[TickAccount])
    tables: dict[str, list[tuple[Any, ...]]] = field(
        default_factory=dict[str, list[tuple[Any, ...]]]
    )
    running: int = 0
    rejected: int = 0
    victim: int | None = None
    survivors: list[int] = field(default_factory=list[int])
    logs: str = ""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a case is played: a database, a Redis database and a folder of its own."""

    dsn: str
    redis_url: str
    web: Standin
    folder: Path

    @property
    def marker(self) -> Path:
        return self.folder / "marker"

    def settings(self, case: Case | None) -> Mapping[str, str]:
        """The environment of a worker."""
        drill = {}
        if case is not None:
            drill = {
                "DRILL_MOMENT": case.moment,
                "DRILL_SIGNAL": case.signal,
                "DRILL_WAITS": str(case.waits),
                "DRILL_MARKER": str(self.marker),
            }
        return drill | {
            "PYTHONPATH": str(ROOT),
            "DATABASE_URL": self.dsn,
            "DATABASE_POOL_SIZE": "3",
            "REDIS_URL": self.redis_url,
            "SPORTYBET_URL": self.web.sportybet_url,
            "BETPAWA_URL": self.web.betpawa_url,
            "BET9JA_URL": self.web.bet9ja_url,
            "SCRAPE_INTERVAL_MINUTES": str(SECONDS / 60),
            "LEASE_SECONDS": "4",
            "SHUTDOWN_GRACE_SECONDS": "0.2",
            "LOG_FORMAT": "json",
        }


async def play(stage: Stage, case: Case | None) -> Left:
    """Let a worker die at the case's moment and others go on until its run is done.

    A killed worker is followed by a new one; at a SIGTERM another lives already, as in a deploy.
    """
    stage.folder.mkdir()
    pool = await open_pool(stage.dsn, size=2)
    try:
        async with _working(stage, case) as workers:
            return await _played(stage, case, pool, workers)
    finally:
        pool.terminate()


async def _played(stage: Stage, case: Case | None, pool: Pool, workers: list[Worker]) -> Left:
    victim, run_id = None, None
    if case is not None:
        marked = await until(lambda: _marked(stage), PATIENCE, "the moment")
        victim = next(w for w in workers if w.process.pid == marked["pid"])
        await asyncio.wait_for(victim.process.wait(), 20)
        if case.signal == "SIGKILL":
            workers.append(await _start(stage, case, len(workers)))
        if case.moment != "after_tick_insert":  # there the run dies with its transaction
            run_id = UUID(marked["run"])
    done = await until(lambda: pool.fetchrow(FIRST_DONE, run_id), PATIENCE, "the run to end")
    others = [worker for worker in workers if worker is not victim]
    for worker in others:
        await until(worker.is_up, PATIENCE, "the other worker")
    codes = [await worker.end() for worker in others]
    left = await _left(pool, dict(done))
    left.survivors = codes
    left.victim = victim and victim.process.returncode
    left.logs = "\n".join(worker.words() for worker in workers)
    return left


async def _left(pool: Pool, run: dict[str, Any]) -> Left:
    events = await pool.fetch(
        "SELECT event, attempt FROM run_events WHERE execution_id = $1 ORDER BY id",
        run["execution_id"],
    )
    return Left(
        run=run,
        events=[tuple(row) for row in events],
        accounts=await proof.verify(pool, datetime.now(UTC)),
        tables={
            "odds_events": [tuple(row) for row in await pool.fetch(EVENTS)],
            "odds_prices": await _prices(pool, "odds_prices"),
            "odds_price_changes": await _prices(pool, "odds_price_changes"),
        },
        running=await pool.fetchval("SELECT count(*) FROM runs WHERE status = 'running'"),
        rejected=await pool.fetchval(
            "SELECT count(*) FROM rejected_records WHERE execution_id = $1", run["execution_id"]
        ),
    )


async def _prices(pool: Pool, table: str) -> list[tuple[Any, ...]]:
    return [tuple(row) for row in await pool.fetch(PRICES.format(table=table))]


async def _marked(stage: Stage) -> dict[str, Any] | None:
    text = stage.marker.read_text() if stage.marker.exists() else ""
    return json.loads(text) if text.endswith("}") else None


@asynccontextmanager
async def _working(stage: Stage, case: Case | None) -> AsyncGenerator[list[Worker]]:
    workers: list[Worker] = []
    try:
        for _ in range(2 if case is not None and case.signal == "SIGTERM" else 1):
            workers.append(await _start(stage, case, len(workers)))
        yield workers
    finally:
        for worker in workers:
            if worker.process.returncode is None:
                worker.process.send_signal(signal.SIGKILL)
                await worker.process.wait()


async def _start(stage: Stage, case: Case | None, number: int) -> Worker:
    log = stage.folder / f"worker-{number}.log"
    with log.open("wb") as words:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-W", "default", "-m", "arq", "tests.crash.settings.Settings"),
            cwd=stage.folder,
            env=dict(stage.settings(case)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=words,
            stderr=words,
        )
    return Worker(process, log)
