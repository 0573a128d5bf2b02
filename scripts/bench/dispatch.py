"""Measures how fast organisations' schedules that are due in the same minute are dispatched.

A schedule is dispatched when its tick is decided, its run's row is queued and the run is in Redis.
The workers are real processes on a private Postgres and Redis. They also scrape the stand-in every
few seconds; the latency of those runs is measured before and during the dispatch. No worker
executes the organisations' runs: they stay queued.

`idle_db_ms_per_s` is Postgres's own count of its time (`pg_stat_database.active_time`) while all
schedules are enabled and none is due, with one worker that runs heartbeats, sweeps and dispatches
but has nothing to scrape.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis import Redis
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from app.queue.org_queue import ORG_QUEUE
from app.store.db import OPERATOR_SESSION, Connection
from scripts.bench import dispatch_orgs, rivals
from scripts.standin.testing import Standin

START_TIMEOUT = 60.0  # seconds
STOP_TIMEOUT = 40.0
DISPATCH_TIMEOUT = 600.0
SETTLE = 2.0  # seconds after a start
INTERVAL_MINUTES = 0.05  # of each scrape job

LATENESS = """
SELECT extract(epoch FROM started_at - scheduled_for) * 1000 FROM runs
WHERE org_id IS NULL AND started_at IS NOT NULL AND scheduled_for BETWEEN $1 AND $2
"""
COUNTS = """
SELECT count(*), count(DISTINCT (schedule_id, scheduled_for)), count(DISTINCT worker)
FROM runs WHERE org_id IS NOT NULL
"""
ACTIVE = "SELECT active_time FROM pg_stat_database WHERE datname = current_database()"


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one dispatch; latency of the scrape jobs' runs in milliseconds."""

    due: int
    workers: int
    seconds: float
    duplicates: int
    missing: int
    scrape_p99_before_ms: float
    scrape_p99_during_ms: float
    scrapes_during: int


@dataclass(frozen=True, slots=True)
class Stage:
    """The servers, the stand-in sites, and the folder of the workers' logs."""

    servers: embedded.Servers
    web: Standin
    folder: Path

    @property
    def dsn(self) -> str:
        return urlsplit(self.servers.database_url)._replace(path="/dispatch").geturl()

    @contextmanager
    def worker(self, name: str, minutes: float) -> Generator[None]:
        """Run a worker process whose scrape jobs are due every `minutes`."""
        log = self.folder / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "arq", "scripts.bench.dispatch_worker.Settings"],
                cwd=rivals.ROOT,
                env=self._environment(minutes),
                stdout=output,
                stderr=output,
            )
        try:
            _wait_started(log, process)
            yield
        finally:
            process.terminate()
            _end(process)

    def _environment(self, minutes: float) -> dict[str, str]:
        names = ("SCRAPE", "NEWS", "STORIES")
        return {f"{name}_INTERVAL_MINUTES": str(minutes) for name in names} | {
            "DATABASE_URL": self.dsn,
            "REDIS_URL": self.servers.redis_url,
            "LOG_FORMAT": "json",
            "SPORTYBET_URL": self.web.sportybet_url,
            "BETPAWA_URL": self.web.betpawa_url,
            "BET9JA_URL": self.web.bet9ja_url,
            "ASKNEWS_URL": self.web.asknews_url,
            "ASKNEWS_TOKEN_URL": self.web.token_url,
            "ASKNEWS_API_KEY": "standin-key",
            "TRACKED_ENTITIES": "Ada Lovelace",
            "DATA_DIR": str(self.folder),
        }

    async def clean(self) -> None:
        """Empty Redis, and recreate the database with nothing but the schema."""
        with Redis.from_url(self.servers.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType] - bare kwargs
            redis.flushall()  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        maintenance = urlsplit(self.servers.database_url)._replace(path="/postgres").geturl()
        connection = await asyncpg.connect(maintenance)
        try:
            await connection.execute("DROP DATABASE IF EXISTS dispatch WITH (FORCE)")
            await connection.execute('CREATE DATABASE dispatch TEMPLATE "rollcall"')
        finally:
            await connection.close()


def _wait_started(log: Path, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while b"worker.started" not in log.read_bytes():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"a worker did not start:\n{log.read_text()[-2000:]}")
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP_TIMEOUT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


async def idle(stage: Stage, due: int, seconds: float) -> float:
    """Return the milliseconds of Postgres time per second while nothing is due."""
    await stage.clean()
    writer = await asyncpg.connect(
        stage.dsn, server_settings=OPERATOR_SESSION, command_timeout=DISPATCH_TIMEOUT
    )
    await dispatch_orgs.found(writer, due)
    await writer.close()  # its own time is counted from here on
    reader = await asyncpg.connect(stage.dsn)
    try:
        with stage.worker("idle", minutes=10_000):
            await asyncio.sleep(SETTLE * 3)  # excludes the start
            before, began = await reader.fetchval(ACTIVE), time.monotonic()
            await asyncio.sleep(seconds)
            after, ended = await reader.fetchval(ACTIVE), time.monotonic()
    finally:
        await reader.close()
    return (after - before) / (ended - began)


async def dispatched(stage: Stage, due: int, workers: int, calm: float) -> Figures:
    """Make all schedules due at once and measure their dispatch."""
    await stage.clean()
    connection = await asyncpg.connect(
        stage.dsn, server_settings=OPERATOR_SESSION, command_timeout=DISPATCH_TIMEOUT
    )
    try:
        await dispatch_orgs.found(connection, due)
        with ExitStack() as stack:
            for number in range(workers):
                stack.enter_context(stage.worker(f"{workers}-{number}", INTERVAL_MINUTES))
            began = datetime.now(UTC) + timedelta(seconds=SETTLE)
            await asyncio.sleep(SETTLE + calm)
            quiet = datetime.now(UTC)
            at = quiet + timedelta(seconds=1 + due / 8_000)
            await dispatch_orgs.fall_due(connection, at)
            seconds = _wait_dispatched(stage, due, at)
            done = datetime.now(UTC)
            await asyncio.sleep(1)  # what was due at the end has started
        return await _figures(connection, (due, workers, seconds), (began, quiet), (at, done))
    finally:
        await connection.close()


def _wait_dispatched(stage: Stage, due: int, at: datetime) -> float:
    with Redis.from_url(stage.servers.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        deadline = time.monotonic() + DISPATCH_TIMEOUT
        while (waiting := int(str(redis.zcard(ORG_QUEUE)))) < due:
            if time.monotonic() > deadline:
                raise SystemExit(f"only {waiting:,} of {due:,} were dispatched: {stage.folder}")
            time.sleep(0.02)
    return (datetime.now(UTC) - at).total_seconds()


async def _figures(
    connection: Connection,
    figures: tuple[int, int, float],
    calm: tuple[datetime, datetime],
    busy: tuple[datetime, datetime],
) -> Figures:
    due, workers, seconds = figures
    runs, distinct, _ = await connection.fetchrow(COUNTS) or (0, 0, 0)
    before = [float(row[0]) for row in await connection.fetch(LATENESS, *calm)]
    during = [float(row[0]) for row in await connection.fetch(LATENESS, *busy)]
    return Figures(
        due=due,
        workers=workers,
        seconds=round(seconds, 2),
        duplicates=runs - distinct + max(0, distinct - due),
        missing=max(0, due - distinct),
        scrape_p99_before_ms=_p99(before),
        scrape_p99_during_ms=_p99(during),
        scrapes_during=len(during),
    )


def _p99(values: Sequence[float]) -> float:
    ranked = sorted(values)
    return round(ranked[max(math.ceil(0.99 * len(ranked)) - 1, 0)], 1) if ranked else -1.0


async def measure(stage: Stage, asked: argparse.Namespace) -> tuple[list[Figures], float]:
    """Measure the idle load, then the dispatch with each number of workers."""
    idle_ms = await idle(stage, asked.due, asked.idle_seconds)
    counts = [int(count) for count in asked.workers.split(",")]
    return [await dispatched(stage, asked.due, n, asked.calm_seconds) for n in counts], idle_ms


def show(found: Sequence[Figures], idle_ms: float) -> None:
    """Print the figures as a table."""
    table = Table(title="Schedules due at the same minute")
    names = ("due", "workers", "seconds", "duplicates", "missing", "scrapes during")
    for name in (*names, "late p99 before (ms)", "during (ms)"):
        table.add_column(name, justify="right")
    for one in found:
        table.add_row(
            f"{one.due:,}",
            str(one.workers),
            f"{one.seconds:.2f}",
            str(one.duplicates),
            str(one.missing),
            str(one.scrapes_during),
            f"{one.scrape_p99_before_ms:.1f}",
            f"{one.scrape_p99_during_ms:.1f}",
        )
    console = Console()
    console.print(table)
    console.print(f"none due: {idle_ms:.2f} ms of Postgres's time per second")


def plain(found: Sequence[Figures], idle_ms: float) -> dict[str, object]:
    """Return the figures under stable names: of the first count of workers, then of each."""
    names = ("due", "workers", "seconds", "duplicates")
    each = [asdict(one) for one in found]
    first: dict[str, object] = {name: each[0][name] for name in names}
    return {**first, "idle_db_ms_per_s": round(idle_ms, 2), "each": each}


def main() -> None:
    """Measure and print."""
    asked = _parser().parse_args()
    with tempfile.TemporaryDirectory(prefix="dispatch") as folder:
        servers = embedded.start(Path(folder) / "servers")
        try:
            migrations.upgrade(servers.database_url)
            with Standin.start(events=30, move_share=0.2) as web:
                stage = Stage(servers, web, Path(folder))
                found, idle_ms = asyncio.run(measure(stage, asked))
        finally:
            servers.close()
    show(found, idle_ms)
    if asked.json:
        print(json.dumps(plain(found, idle_ms)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/dispatch",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--due", type=int, default=100_000, help="how many schedules (%(default)s)")
    add("--workers", default="1,2", help="how many workers, in turn (%(default)s)")
    add("--idle-seconds", type=float, default=20, help="with none due (%(default)s)")
    add("--calm-seconds", type=float, default=15, help="before they fall due (%(default)s)")
    add("--json", action="store_true", help="one JSON object as the last line")
    return parser


if __name__ == "__main__":
    main()
