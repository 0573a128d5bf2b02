"""Measures tick latency: ours, stock arq's cron and APScheduler 3.11, in turns.

Latency is the time from the scheduled instant to the first line of the run's own code. Ours takes
the whole path: trigger, decision in Postgres, queue, claim. Each contender is one process on
private servers, with the same instants; those of the first seconds are not counted. arq's own cron
jobs start at its next poll (its default, twice a second).

`ledger_cpu_ms_per_run` is what a run costs us beyond arq: the CPU (user and system) of the worker
and its decider per run, with the largest number of schedules, less that of the same worker with the
same cron entries but without ledger and context, each with an empty job. It includes the decision,
the second arq job (the run itself), claim, outcome and health, and all beats, dispatches and
sweeps. `postgres_cpu_ms_per_run` is the CPU of all processes of Postgres meanwhile.
`own_job_cpu_ms_per_run` is the same for own jobs, each with a typed parameter, one line of progress
and stats.
"""

import argparse
import asyncio
import json
import math
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import asyncpg
from redis import Redis
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from scripts.bench import rivals
from scripts.bench.spent import Spent, spent_by
from scripts.bench.timing import EARLY, Start, offset_us, period, read

NOTHING = Spent()
WARM = 2.0  # seconds after a contender's first start which are not counted
TAIL = 1.0  # seconds within which the last tick must start
READY = 90.0  # seconds within which the first tick must start
STOP = 20.0  # seconds within which a contender must end
QUICK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Round:
    """One turn of one contender: how late each tick was, and what a run cost."""

    late_ms: Sequence[float]
    never: int
    cpu_ms: float
    postgres_cpu_ms: float = 0.0
    wal_kb: float = 0.0


@dataclass(frozen=True, slots=True)
class Figures:
    """The medians of a contender's turns, in milliseconds."""

    p50_ms: float
    p99_ms: float
    most_ms: float
    cpu_ms: float
    postgres_cpu_ms: float
    wal_kb: float
    starts: int
    never: int

    @classmethod
    def of(cls, rounds: Sequence[Round]) -> "Figures":
        return cls(
            p50_ms=median(quantile(one.late_ms, 0.50) for one in rounds),
            p99_ms=median(quantile(one.late_ms, 0.99) for one in rounds),
            most_ms=max(max(one.late_ms, default=math.nan) for one in rounds),
            cpu_ms=median(one.cpu_ms for one in rounds),
            postgres_cpu_ms=median(one.postgres_cpu_ms for one in rounds),
            wal_kb=median(one.wal_kb for one in rounds),
            starts=sum(len(one.late_ms) for one in rounds),
            never=sum(one.never for one in rounds),
        )


def quantile(values: Sequence[float], share: float) -> float:
    """Return the nearest-rank quantile; nan for no values."""
    ranked = sorted(values)
    return ranked[max(math.ceil(share * len(ranked)) - 1, 0)] if ranked else math.nan


def evaluate(
    starts: Sequence[Start], count: int, begin: float, end: float, used: Spent = NOTHING
) -> Round:
    """Assign each start to its tick, and keep the ticks in [begin, end).

    `used`: what was spent between the two.
    """
    step = period(count)
    late: dict[tuple[int, int], float] = {}
    for start in starts:
        since = start.at - offset_us(start.number, count) / 1e6
        index = math.floor((since + EARLY) / step)
        late.setdefault((start.number, index), (since - index * step) * 1000)
    due = {
        (number, index)
        for number in range(count)
        for index in _indices(begin, end, offset_us(number, count) / 1e6, step)
    }
    inside = [start for start in starts if begin <= start.at < end]
    runs = max(len(inside), 1)
    found = [late[tick] for tick in due if tick in late]
    return Round(
        found,
        len(due) - len(found),
        used.cpu * 1000 / runs,
        used.postgres * 1000 / runs,
        used.wal_kb / runs,
    )


def _indices(begin: float, end: float, offset: float, step: int) -> range:
    return range(math.ceil((begin - offset) / step), math.ceil((end - offset) / step))


@dataclass(frozen=True, slots=True)
class Setup:
    """The servers, the compared libraries and the duration of a turn."""

    servers: embedded.Servers
    folder: Path
    apscheduler: Path
    seconds: float

    def turn(self, contender: str, count: int) -> Round:
        """Run one contender for `seconds`; returns its figures."""
        record = self.folder / "record"
        record.unlink(missing_ok=True)
        database = self._clean()
        command = self._command(contender, count, record, database)
        log = self.folder / f"{contender}-{count}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own contenders
                command, cwd=rivals.ROOT, stdout=output, stderr=output
            )
        try:
            begin = _first(record, process, log) + WARM
            end = begin + self.seconds
            _sleep_until(begin)
            before = asyncio.run(spent_by(database, process.pid))
            _sleep_until(end)
            used = asyncio.run(spent_by(database, process.pid)) - before
            _sleep_until(end + TAIL)
        finally:
            process.terminate()
            _end(process)
        return evaluate(read(record), count, begin, end, used)

    def _command(self, contender: str, count: int, record: Path, database: str) -> list[str]:
        common = ["--count", str(count), "--record", str(record)]
        if contender == "apscheduler":
            script = Path(__file__).with_name("ticks_apscheduler.py")
            return [str(self.apscheduler), str(script), *common]
        servers = ["--redis", self.servers.redis_url, "--postgres", database]
        return [sys.executable, "-m", f"scripts.bench.ticks_{contender}", *common, *servers]

    def _clean(self) -> str:
        """Empty Redis, and recreate the database with nothing but the schema."""
        with Redis.from_url(self.servers.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType] - bare kwargs
            redis.flushall()  # pyright: ignore[reportUnknownMemberType] - bare kwargs
        asyncio.run(_fresh(self.servers.database_url))
        return urlsplit(self.servers.database_url)._replace(path="/ticks").geturl()


async def _fresh(dsn: str) -> None:
    maintenance = urlsplit(dsn)._replace(path="/postgres").geturl()
    connection = await asyncpg.connect(maintenance)
    try:
        await connection.execute("DROP DATABASE IF EXISTS ticks WITH (FORCE)")
        await connection.execute('CREATE DATABASE ticks TEMPLATE "rollcall"')
    finally:
        await connection.close()


def _sleep_until(instant: float) -> None:
    time.sleep(max(0.0, instant - time.time()))


def _first(record: Path, process: subprocess.Popen[bytes], log: Path) -> float:
    deadline = time.monotonic() + READY
    while time.monotonic() < deadline and process.poll() is None:
        starts = read(record)
        if starts:
            return starts[0].at
        time.sleep(0.05)
    raise SystemExit(f"a contender started no tick in {READY:.0f} s:\n{log.read_text()[-2000:]}")


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(STOP)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


CONTENDERS = ("worker", "arq", "apscheduler")
SHOWN = {"worker": "ours", "bare": "ours without the ledger", "own": "ours, own jobs"}


def measure(setup: Setup, counts: Sequence[int], rounds: int) -> dict[int, dict[str, Figures]]:
    """Run every contender in turn, `rounds` times, for every number of schedules."""
    found: dict[int, dict[str, Figures]] = {}
    for count in counts:
        names = (*CONTENDERS, "bare", "own") if count == max(counts) else CONTENDERS
        turns: dict[str, list[Round]] = {name: [] for name in names}
        for _ in range(rounds):
            for name in names:
                turns[name].append(setup.turn(name, count))
        found[count] = {name: Figures.of(turns[name]) for name in names}
    return found


def ledger_cpu_ms(found: dict[int, dict[str, Figures]]) -> float:
    """Return the CPU milliseconds of a run beyond arq's own."""
    figures = found[max(found)]
    return figures["worker"].cpu_ms - figures["bare"].cpu_ms


def own_job_cpu_ms(found: dict[int, dict[str, Figures]]) -> float:
    """Return the CPU milliseconds of a run of an own job beyond arq's own."""
    figures = found[max(found)]
    return figures["own"].cpu_ms - figures["bare"].cpu_ms


def show(found: dict[int, dict[str, Figures]]) -> None:
    """Print the figures as a table."""
    table = Table(title="Latency of ticks, and CPU of the process and of Postgres, per run (ms)")
    table.add_column("schedules", justify="right")
    table.add_column("contender")
    for name in ("p50", "p99", "most", "ticks", "never", "CPU", "Postgres", "kB of log"):
        table.add_column(name, justify="right")
    for count, figures in found.items():
        for name, one in figures.items():
            times = [f"{value:.1f}" for value in (one.p50_ms, one.p99_ms, one.most_ms)]
            numbers = [str(one.starts), str(one.never), f"{one.cpu_ms:.2f}"]
            numbers += [f"{one.postgres_cpu_ms:.2f}", f"{one.wal_kb:.1f}"]
            table.add_row(f"{count:,}", SHOWN.get(name, name), *times, *numbers)
        table.add_section()
    console = Console()
    console.print(table)
    figures = found[max(found)]
    console.print(
        f"ledger: {ledger_cpu_ms(found):.2f} ms of worker CPU per run beyond arq's own;"
        f" an own job with parameter, progress and stats {own_job_cpu_ms(found):.2f} ms;"
        f" p50 {figures['arq'].p50_ms / figures['worker'].p50_ms:.0f} times below stock arq's"
    )


def plain(found: dict[int, dict[str, Figures]]) -> dict[str, object]:
    """Return the figures under stable names."""
    figures: dict[str, object] = {
        str(count): {
            SHOWN.get(name, name): {"p50_ms": round(one.p50_ms, 2), "p99_ms": round(one.p99_ms, 2)}
            for name, one in contenders.items()
            if name in CONTENDERS
        }
        for count, contenders in found.items()
    }
    return figures | {
        "ledger_cpu_ms_per_run": round(ledger_cpu_ms(found), 3),
        "own_job_cpu_ms_per_run": round(own_job_cpu_ms(found), 3),
        "postgres_cpu_ms_per_run": round(found[max(found)]["worker"].postgres_cpu_ms, 3),
        "wal_kb_per_run": round(found[max(found)]["worker"].wal_kb, 2),
    }


def main() -> None:
    """Measure and print."""
    asked = _parser().parse_args()
    counts = sorted({int(count) for count in asked.schedules.split(",")})
    rounds = 1 if asked.quick else 2
    seconds = QUICK_SECONDS if asked.quick else asked.seconds / rounds
    apscheduler = rivals.environment("apscheduler", "apscheduler==3.11.*")
    with tempfile.TemporaryDirectory(prefix="ticks") as folder:
        servers = embedded.start(Path(folder) / "servers")
        migrations.upgrade(servers.database_url)
        setup = Setup(servers, Path(folder), apscheduler, seconds)
        try:
            found = measure(setup, counts[-1:] if asked.quick else counts, rounds)
        finally:
            servers.close()
    show(found)
    if asked.json:
        print(json.dumps(plain(found)))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/ticks",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--seconds", type=float, default=20, help="of each contender, in two turns (%(default)s)")
    add("--schedules", default="1,100,1000", help="how many, in turn (%(default)s)")
    add("--json", action="store_true", help="one JSON object as the last line")
    add("--quick", action="store_true", help="one short turn with the largest number only")
    return parser


if __name__ == "__main__":
    main()
