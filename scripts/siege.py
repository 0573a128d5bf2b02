"""Hostile tenants and sites against private processes, and what it costs: scripts/siege --help"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from math import ceil
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import httpx
from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from app.core import log
from app.core.enums import Scope
from app.core.errors import RollcallError
from app.ledger import proof
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.store.db import Pool, open_pool
from scripts.bench.web import free_port
from scripts.child_processes import Child, ChildEnvironment, child
from scripts.drill.servers import Servers
from scripts.drill.tenants import Tenant
from scripts.drill.web import StandInSites
from scripts.drill.worker_processes import ROOT

START = 4.0  # seconds for the processes to run once
QUIET = 12.0  # seconds, at most, that are measured before the attack
START_SECONDS = 60.0  # until the web process must answer
INTERVAL = 10.0  # seconds between two ticks of the odds job, whose rates take 3.3 s
PROBE = 0.1  # seconds between two readings of memory
MAX_LATE = 0.25  # seconds, of 99 of 100 ticks, if none is given
MAX_MB = 512  # of each process
UNHARMED = {"success", "running", "queued"}  # statuses of built-in runs
TIMES = (
    *("late_p50", "late_p99", "late_max", "livez_p50", "livez_p99", "livez_max"),
    *("odds_p50", "odds_p99", "odds_max"),
)
_EPILOG = """examples:
  scripts/siege --seconds 60
  scripts/siege --seconds 300 --seed 7 --tenants 5 --json
  scripts/siege --late 5    on a machine that does other work too
A job that is due every second makes the ticks. Up to 12 s before the attack are measured too.
Exit code 1 if a built-in tick was decided more than 250 ms late (99 of 100), was skipped or missed,
or a built-in run was lost or failed; if a process ended or needed more than 512 MB; if /livez did
not answer; or if the ledger does not balance.
"""

LATENESS = """
SELECT extract(epoch FROM t.decided_at - t.scheduled_for)::float8 AS late, t.outcome, t.reason
FROM ticks t JOIN schedules s ON s.id = t.schedule_id
WHERE s.org_id IS NULL AND s.enabled AND t.scheduled_for > $1 AND t.scheduled_for <= $2
"""
ODDS_RUNS = """
SELECT extract(epoch FROM completed_at - started_at)::float8 FROM runs
WHERE job = 'scrape_all_platforms' AND started_at > $1 AND completed_at IS NOT NULL
"""
RUNS = """
SELECT (org_id IS NULL) AS built_in, status, count(*) AS runs FROM runs
WHERE created_at > $1 GROUP BY 1, 2
"""
STORED = """
SELECT o.name, u.rows, u.bytes FROM org_usage u JOIN organizations o ON o.id = u.org_id
"""


@dataclass(slots=True)
class Figures:
    """What was measured. Seconds, bytes and megabytes as the names say."""

    load: float = 0.0
    ticks: int = 0
    late_p50: float = 0.0
    late_p99: float = 0.0
    late_max: float = 0.0
    not_ran: dict[str, int] = field(default_factory=dict[str, int])
    built_in_runs: dict[str, int] = field(default_factory=dict[str, int])
    tenants_runs: dict[str, int] = field(default_factory=dict[str, int])
    odds_p50: float = 0.0
    odds_p99: float = 0.0
    odds_max: float = 0.0
    livez_p50: float = 0.0
    livez_p99: float = 0.0
    livez_max: float = 0.0
    livez_failed: int = 0
    peak_mb: dict[str, float] = field(default_factory=dict[str, float])
    redis_bytes: int = 0
    redis_bytes_of_tenants: int = 0
    postgres_bytes: dict[str, int] = field(default_factory=dict[str, int])
    answers: dict[str, int] = field(default_factory=dict[str, int])
    quiet: dict[str, float] = field(default_factory=dict[str, float])
    faults: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Probe:
    """Requests /livez all the time, and reads the memory of processes."""

    port: int
    processes: dict[str, int]
    took: list[float] = field(default_factory=list[float])
    failed: int = 0
    peak_mb: Counter[str] = field(default_factory=Counter[str])

    async def watch(self) -> None:
        """Measure until cancelled."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scripts.drill.livez_probe", str(self.port)),
            cwd=ROOT,
            stdout=subprocess.PIPE,
        )
        try:
            await asyncio.gather(self._collect(process), self._watch_memory())
        finally:
            process.kill()
            await process.wait()

    async def _collect(self, process: asyncio.subprocess.Process) -> None:
        while process.stdout is not None and (line := await process.stdout.readline()):
            took = line.decode().strip()
            if took == "failed":
                self.failed += 1
            else:
                self.took.append(float(took))

    async def _watch_memory(self) -> None:
        while True:
            await asyncio.to_thread(self._read_memory)
            await asyncio.sleep(PROBE)

    def _read_memory(self) -> None:
        with suppress(OSError):  # a process has ended meanwhile
            self._read_sizes()

    def _read_sizes(self) -> None:
        for name, pid in self.processes.items():
            sizes = Counter[str]()
            for child_pid, size in _family(pid):
                label = name if child_pid == pid else f"{name}'s {_module(child_pid)}"
                sizes[label] = max(sizes[label], round(size))
            for label, size in sizes.items():
                self.peak_mb[label] = max(self.peak_mb[label], size)


def _family(pid: int) -> list[tuple[int, float]]:
    """Return the process and its descendants, each with its resident megabytes."""
    found: list[tuple[int, float]] = []
    with suppress(OSError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found.append((pid, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += [one for each in children for one in _family(int(each))]
    return found


def _module(pid: int) -> str:
    """Return the last part of the module that the process executes."""
    words = Path(f"/proc/{pid}/cmdline").read_text().split("\0")
    return next((word.rpartition(".")[2] for word in words if "." in word and "/" not in word), "?")


def main() -> int:
    """Attack, measure, judge; returns the exit code."""
    asked = _parser().parse_args()
    console = Console(stderr=asked.json)
    sys.setswitchinterval(0.0005)  # so that the thread that measures is not held up
    log.configure("console", "error")
    folder = Path(tempfile.mkdtemp(prefix="rollcall-siege-"))
    servers = Servers(folder / "servers")
    sites = StandInSites(folder, asked.seed, 16)
    try:
        servers.start()
        found = asyncio.run(_siege(asked, folder, servers, sites))
        console.print(_table(found))
        if asked.json:
            print(json.dumps({"seed": asked.seed, "seconds": asked.seconds} | asdict(found)))
        return 1 if found.faults else 0
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130
    finally:
        sites.stop()
        servers.stop()
        if asked.keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


async def _siege(
    asked: argparse.Namespace, folder: Path, servers: Servers, sites: StandInSites
) -> Figures:
    (folder / "log").mkdir()
    environment = ChildEnvironment(_settings(servers, sites), folder, folder / "log", 10.0)
    port = free_port()
    async with AsyncExitStack() as stack:
        pool = await open_pool(servers.database_url, size=3)
        stack.push_async_callback(pool.close)
        site = await stack.enter_async_context(_hostile_site())
        worker = await stack.enter_async_context(
            child("worker", ("arq", "app.workers.Settings"), environment)
        )
        web = await stack.enter_async_context(
            child("web", ("uvicorn", "app.web:app", "--port", str(port)), environment)
        )
        url = f"http://127.0.0.1:{port}"
        attackers = await _tenants(asked, pool, url, site)
        await _answers(url)
        await asyncio.sleep(START)
        processes = {"worker": _python(worker), "web": _python(web)}
        quiet, began = Probe(port, processes), datetime.now(UTC)
        await _attack([], quiet, min(QUIET, asked.seconds))
        before = await _figures(pool, servers, quiet, (began, datetime.now(UTC)))
        probe, began = Probe(port, processes), datetime.now(UTC)
        await _attack(attackers, probe, asked.seconds)
        ended = datetime.now(UTC)
        found = await _figures(pool, servers, probe, (began, ended))
        found.load = os.getloadavg()[0]
        found.quiet = {name: value for name, value in asdict(before).items() if name in TIMES}
        found.answers = dict(sum((one.answers for one in attackers), Counter[str]()))
        for one in (worker, web):
            if one.process.returncode is not None:
                found.faults.append(f"the {one.name} ended during the siege")
        await _check_ledger(pool, ended, found)
    _judge(found, asked.late)
    return found


async def _attack(attackers: list[Tenant], probe: Probe, seconds: float) -> None:
    tasks = [asyncio.create_task(probe.watch())]
    tasks += [asyncio.create_task(attacker.attack()) for attacker in attackers]
    ended, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)
    for task in ended:
        task.result()


async def _answers(url: str) -> None:
    async with (
        asyncio.timeout(START_SECONDS),
        httpx.AsyncClient(base_url=url, trust_env=False) as client,
    ):
        while True:
            with suppress(httpx.HTTPError):
                if (await client.get("/livez")).is_success:
                    return
            await asyncio.sleep(0.1)


async def _tenants(asked: argparse.Namespace, pool: Pool, url: str, site: str) -> list[Tenant]:
    attackers: list[Tenant] = []
    for number in range(asked.tenants):
        now, name = datetime.now(UTC), f"tenant {number}"
        await tokens.create_org(pool, name, now)
        wish = TokenRequest(name, "attack", Scope.ADMIN, now + timedelta(days=1))
        token = await tokens.create_token(pool, wish, now, by="siege")
        rng = Random(f"siege {asked.seed} {number}")  # noqa: S311 - not a secret
        attackers.append(Tenant(url, site, token, rng))
    return attackers


@asynccontextmanager
async def _hostile_site() -> AsyncGenerator[str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "scripts.drill.hostile_sites", cwd=ROOT, stdout=subprocess.PIPE
    )
    try:
        if process.stdout is None:
            raise OSError("the hostile site has no output")
        yield (await process.stdout.readline()).decode().strip()
    finally:
        process.kill()
        await process.wait()


def _python(started: Child) -> int:
    """Return the process id of a child: the launcher replaces itself by it, or starts it."""
    family = _family(started.process.pid)
    return max(family, key=lambda one: one[1])[0]


def _settings(servers: Servers, sites: StandInSites) -> dict[str, str]:
    return {
        "PATH": os.defpath,
        "PYTHONPATH": str(ROOT),
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "SCRAPE_INTERVAL_MINUTES": str(INTERVAL / 60),
        # The news are disabled without a key: their ticks fall into every siege and do not count.
        "NEWS_INTERVAL_MINUTES": str(INTERVAL / 60),
        "GUARD_ALLOW": "127.0.0.1",
        "COLLECTION_JITTER_SECONDS": "0",
        "ORG_MAX_MINUTES": "1",
        "LOG_FORMAT": "json",
        "JOBS": "scripts.drill.prompt_job",
    } | sites.settings()


async def _figures(
    pool: Pool, servers: Servers, probe: Probe, span: tuple[datetime, datetime]
) -> Figures:
    began, ended = span
    found = Figures()
    ticks = await pool.fetch(LATENESS, began, ended - timedelta(seconds=1))  # others are not due
    late = [row["late"] for row in ticks]
    found.ticks = len(ticks)
    found.late_p50, found.late_p99, found.late_max = _spread(late)
    found.not_ran = dict(
        Counter(f"{row['outcome']} ({row['reason']})" for row in ticks if row["outcome"] != "ran")
    )
    for row in await pool.fetch(RUNS, began):
        runs = found.built_in_runs if row["built_in"] else found.tenants_runs
        runs[row["status"]] = row["runs"]
    took = [row[0] for row in await pool.fetch(ODDS_RUNS, began)]
    found.odds_p50, found.odds_p99, found.odds_max = _spread(took)
    found.livez_p50, found.livez_p99, found.livez_max = _spread(probe.took)
    found.livez_failed, found.peak_mb = probe.failed, dict(probe.peak_mb)
    async with Redis.from_url(servers.redis_url) as redis:  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
        any_: Any = redis
        found.redis_bytes = (await any_.info("memory"))["used_memory"]
        for pattern in ("rollcall:limit:*:of:*", "rollcall:limit:hosts:*", "rollcall:robots:*"):
            async for key in any_.scan_iter(pattern):
                found.redis_bytes_of_tenants += await any_.memory_usage(key) or 0
    found.postgres_bytes = {row["name"]: row["bytes"] for row in await pool.fetch(STORED)}
    return found


async def _check_ledger(pool: Pool, ended: datetime, found: Figures) -> None:
    for account in await proof.verify(pool, ended):
        if account.unaccounted or account.duplicates or account.unexpected:
            found.faults.append(f"{account.key}: the ledger does not balance")


def _judge(found: Figures, max_late: float) -> None:
    if not found.ticks:
        found.faults.append("no built-in tick was decided")
    if found.late_p99 > max_late:
        found.faults.append(f"99 of 100 ticks were decided within {found.late_p99:.3f} s only")
    found.faults += [f"{count} ticks {what}" for what, count in found.not_ran.items()]
    found.faults += [
        f"{count} built-in runs: {status}"
        for status, count in found.built_in_runs.items()
        if status not in UNHARMED
    ]
    if found.livez_failed:
        found.faults.append(f"/livez did not answer {found.livez_failed} times")
    found.faults += [
        f"{name} needed {size:.0f} MB" for name, size in found.peak_mb.items() if size > MAX_MB
    ]


def _spread(values: list[float]) -> tuple[float, float, float]:
    """Return the median, the 99th percentile and the maximum."""
    if not values:
        return 0.0, 0.0, 0.0
    ordered = sorted(values)
    return median(ordered), ordered[ceil(0.99 * len(ordered)) - 1], ordered[-1]


def _times(values: dict[str, Any], of: str) -> str:
    p50, p99, most = (values[f"{of}_{name}"] * 1_000 for name in ("p50", "p99", "max"))
    return f"p50 {p50:.0f} ms, p99 {p99:.0f} ms, max {most:.0f} ms"


def _table(found: Figures) -> Table:
    table = Table(title="Siege", show_header=False)
    figures = asdict(found)
    rows = {
        "load": f"{found.load:.1f} on {os.cpu_count()} processors, tenants and sites included",
        "built-in ticks": f"{found.ticks}, not ran: {found.not_ran or 'none'}",
        "decided late": _times(figures, "late"),
        "  before the attack": _times(found.quiet, "late"),
        "built-in runs": str(found.built_in_runs),
        "the odds job's took": _times(figures, "odds"),
        "  before the attack  ": _times(found.quiet, "odds"),
        "tenants' runs": str(found.tenants_runs),
        "/livez": f"{_times(figures, 'livez')}, {found.livez_failed} failed",
        "  before the attack ": _times(found.quiet, "livez"),
        "memory, MB": ", ".join(f"{n} {size:.0f}" for n, size in sorted(found.peak_mb.items())),
        "Redis, bytes": f"{found.redis_bytes:,}, of tenants {found.redis_bytes_of_tenants:,}",
        "Postgres, bytes": ", ".join(f"{n} {size:,}" for n, size in found.postgres_bytes.items()),
        "answers": ", ".join(f"{n} of {status}" for status, n in sorted(found.answers.items())),
        "faults": "\n".join(found.faults) or "none",
    }
    for name, value in rows.items():
        table.add_row(name, value)
    return table


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/siege",
        description="Let tenants and sites do harm, beside a built-in job, and measure its ticks.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("--seconds", type=float, default=60, help="of attacks (default: %(default)s)")
    add("--seed", type=int, default=1, help="of every choice (default: %(default)s)")
    add("--tenants", type=int, default=3, help="(default: %(default)s)")
    add(
        "--late",
        type=float,
        default=MAX_LATE,
        help="seconds that 99 of 100 ticks may be decided late (default: %(default)s)",
    )
    add("--json", action="store_true", help="last line: one JSON object; progress goes to stderr")
    add("--keep", action="store_true", help="keep the folder with logs and data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
