"""Measures ad-hoc jobs: from the enqueueing to the start, and how many a core executes.

Beside ours: arq, SAQ, taskiq and Celery on Redis, procrastinate and pgqueuer on Postgres, each with
its defaults, one worker process and an environment of its own, in turns, on the same servers. Each
job does nothing. Ours, procrastinate and pgqueuer keep a durable record of each job; arq, SAQ,
taskiq and Celery keep none.

Latency: jobs are enqueued one by one, about every `--gap` seconds, beside an idle worker. CPU:
`--jobs` wait in the queue when the worker starts; what it and all processes of Postgres spend from
its first job until all have started and a second more, per job. Redis is left out.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import asyncpg
from redis import Redis
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from scripts.bench import rivals
from scripts.bench.spent import spent_by
from scripts.bench.ticks import quantile
from scripts.bench.timing import Start, read

if TYPE_CHECKING:
    from collections.abc import Generator

RIVALS = {
    "arq": (f"arq=={version('arq')}",),
    "saq": ("saq[redis]==0.26.*", "typing-extensions"),
    "taskiq": ("taskiq==0.13.*", "taskiq-redis==1.2.*"),
    "celery": ("celery[redis]==5.7.*",),
    "procrastinate": ("procrastinate==3.10.*", "psycopg[binary]"),
    "pgqueuer": ("pgqueuer[asyncpg]==1.6.*",),
}
RECORDS = ("ours", "procrastinate", "pgqueuer")  # contenders that keep a record of each job
WARM = 20  # jobs before those that are counted
READY = 60.0  # seconds within which a worker must start a job
STOP = 20.0  # seconds within which a worker must end
REST = 1.0  # seconds after the last start in which outcomes are recorded
DURABLE = " (record)"
# What the contenders share is found without the project.
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parent)}  # noqa: TID251 - the child's


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one contender."""

    late_ms: Sequence[float]
    lost: int
    per_second: float
    cpu_ms: float
    postgres_ms: float


@dataclass(frozen=True, slots=True)
class Contender:
    """A contender with its servers; `python` is that of its environment."""

    name: str
    python: str
    servers: embedded.Servers
    folder: Path

    def turn(self, count: int, gap: float, jobs: int) -> Turn:
        """Enqueue `count` jobs beside a worker, then `jobs` before one starts."""
        database = self._clean()
        started, enqueued = self.folder / "started", self.folder / "enqueued"
        for record in (started, enqueued):
            record.unlink(missing_ok=True)
        self._run("prepare", database, enqueued)
        with self._worker(database, started) as process:
            self._run("producer", database, enqueued, 0, WARM)
            self._wait(lambda: len(_numbers(started)) >= WARM, process)
            time.sleep(REST)
            self._run("producer", database, enqueued, WARM, count, gap)
            self._wait(lambda: len(_numbers(started)) >= WARM + count, process)
        late, lost = latencies(read(enqueued), read(started), WARM)
        self._run("producer", database, enqueued, WARM + count, jobs)
        with self._worker(database, started) as process:
            self._wait(lambda: len(_numbers(started)) > WARM + count, process)
            before = asyncio.run(spent_by(self.servers.database_url, process.pid))
            done = len(_numbers(started))
            self._wait(lambda: len(_numbers(started)) >= WARM + count + jobs, process)
            time.sleep(REST)
            used = asyncio.run(spent_by(self.servers.database_url, process.pid)) - before
        instants = sorted(one.at for one in read(started) if one.number >= WARM + count)
        counted = max(WARM + count + jobs - done, 1)
        return Turn(
            late,
            lost,
            (len(instants) - 1) / max(instants[-1] - instants[0], 1e-6),
            used.cpu * 1000 / counted,
            used.postgres * 1000 / counted,
        )

    def _run(
        self, role: str, database: str, record: Path, first: int = 0, count: int = 0, gap: float = 0
    ) -> None:
        numbers = ["--first", str(first), "--count", str(count), "--gap", str(gap)]
        command = [*self._command(role, database, record), *numbers]
        done = subprocess.run(  # noqa: S603 - our own contenders
            command, cwd=rivals.ROOT, env=ENVIRONMENT, capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise SystemExit(f"{self.name}, {role}: {done.stderr[-2000:]}")

    @contextmanager
    def _worker(self, database: str, record: Path) -> "Generator[subprocess.Popen[bytes]]":
        with (self.folder / f"{self.name}.log").open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own contenders
                self._command("worker", database, record),
                cwd=rivals.ROOT,
                env=ENVIRONMENT,
                stdout=output,
                stderr=output,
            )
        try:
            yield process
        finally:
            process.terminate()
            try:
                process.wait(STOP)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def _command(self, role: str, database: str, record: Path) -> list[str]:
        peer = Path(__file__).parent / "peers" / f"with_{self.name}.py"
        code = ["-m", "scripts.bench.ad_hoc_ours"] if self.name == "ours" else [str(peer)]
        servers = ["--redis", self.servers.redis_url, "--postgres", database]
        return [self.python, *code, "--role", role, "--record", str(record), *servers]

    def _wait(self, done: Callable[[], bool], process: "subprocess.Popen[bytes]") -> None:
        """Wait until it is done, or for as long as nothing more is started."""
        deadline = time.monotonic() + READY
        while not done():
            if process.poll() is not None or time.monotonic() > deadline:
                log = (self.folder / f"{self.name}.log").read_text()
                raise SystemExit(f"{self.name} did not start all jobs:\n{log[-2000:]}")
            time.sleep(0.05)

    def _clean(self) -> str:
        """Empty Redis; make a database with our schema, or with none."""
        with Redis.from_url(self.servers.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType] - bare kwargs
            redis.flushall()  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        template = "rollcall" if self.name == "ours" else "template0"
        asyncio.run(_fresh(self.servers.database_url, template))
        return urlsplit(self.servers.database_url)._replace(path="/ad_hoc").geturl()


def _numbers(record: Path) -> set[int]:
    return {one.number for one in read(record)}


def latencies(
    enqueued: Sequence[Start], started: Sequence[Start], first: int
) -> tuple[list[float], int]:
    """Return the milliseconds from enqueueing to start of the jobs from `first`, and those lost."""
    at = {one.number: one.at for one in reversed(started)}
    due = [one for one in enqueued if one.number >= first]
    late = [(at[one.number] - one.at) * 1000 for one in due if one.number in at]
    return late, len(due) - len(late)


async def _fresh(dsn: str, template: str) -> None:
    connection = await asyncpg.connect(urlsplit(dsn)._replace(path="/postgres").geturl())
    try:
        await connection.execute("DROP DATABASE IF EXISTS ad_hoc WITH (FORCE)")
        await connection.execute(f'CREATE DATABASE ad_hoc TEMPLATE "{template}"')
    finally:
        await connection.close()


def figures(turns: Sequence[Turn]) -> dict[str, float]:
    """Return the medians of a contender's turns under stable names."""
    whole = [one.cpu_ms + one.postgres_ms for one in turns]
    return {
        "p50_ms": round(median(quantile(one.late_ms, 0.5) for one in turns), 2),
        "p99_ms": round(median(quantile(one.late_ms, 0.99) for one in turns), 2),
        "lost": sum(one.lost for one in turns),
        "jobs_per_second": round(median(one.per_second for one in turns), 1),
        "worker_cpu_ms": round(median(one.cpu_ms for one in turns), 3),
        "postgres_cpu_ms": round(median(one.postgres_ms for one in turns), 3),
        "jobs_per_core_second": round(1000 / max(median(whole), 1e-6), 1),
    }


def show(found: dict[str, dict[str, float]]) -> None:
    """Print the figures as a table."""
    table = Table(title="Ad-hoc jobs: from enqueueing to start (ms), and CPU per job (ms)")
    table.add_column("contender")
    for name in ("p50", "p99", "lost", "jobs/s", "worker", "Postgres", "jobs per core-second"):
        table.add_column(name, justify="right")
    for name, one in found.items():
        table.add_row(
            name + DURABLE * (name in RECORDS), *(f"{value:,.2f}" for value in one.values())
        )
    Console().print(table)


def main() -> None:
    """Measure and print."""
    asked = _parser().parse_args()
    names = [name for name in ("ours", *RIVALS) if not asked.only or name in asked.only.split(",")]
    pythons = {
        name: str(rivals.environment(f"ad_hoc_{name}", *RIVALS[name]))
        if name in RIVALS
        else sys.executable
        for name in names
    }
    with tempfile.TemporaryDirectory(prefix="ad_hoc") as folder:
        servers = embedded.start(Path(folder) / "servers")
        migrations.upgrade(servers.database_url)
        turns: dict[str, list[Turn]] = {name: [] for name in names}
        try:
            for _ in range(asked.rounds):
                for name in names:
                    one = Contender(name, pythons[name], servers, Path(folder))
                    turns[name].append(one.turn(asked.count, asked.gap, asked.jobs))
        finally:
            servers.close()
    found = {name: figures(turns[name]) for name in names}
    show(found)
    if asked.json:
        print(json.dumps(found))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/ad_hoc",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--count", type=int, default=200, help="jobs whose latency is measured (%(default)s)")
    add("--gap", type=float, default=0.05, help="seconds between two of them (%(default)s)")
    add("--jobs", type=int, default=1000, help="jobs whose CPU is measured (%(default)s)")
    add("--rounds", type=int, default=2, help="turns of each contender (%(default)s)")
    add("--only", default="", help="contenders, separated by commas (all)")
    add("--json", action="store_true", help="one JSON object as the last line")
    return parser


if __name__ == "__main__":
    main()
