"""Hostile tenants and sites against private processes, and what it costs: scripts/siege --help"""

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from statistics import quantiles
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

CALM = 8.0  # seconds before the attack, for the processes to start and run once
START_SECONDS = 60.0  # until the web process must answer
INTERVAL = 5.0  # seconds between two ticks of the built-in job
PROBE = 0.1  # seconds between two requests of /livez
MAX_LATE = 0.25  # seconds, of 99 of 100 ticks
MAX_MB = 512  # of each process
_EPILOG = """examples:
  scripts/siege --seconds 60
  scripts/siege --seconds 300 --seed 7 --tenants 5 --json
Exit code 1 if a built-in tick was decided more than 250 ms late (99 of 100), was skipped or missed,
or a built-in run was lost; if a process needed more than 512 MB; or if the ledger does not balance.
"""

LATENESS = """
SELECT extract(epoch FROM t.decided_at - t.scheduled_for)::float8 AS late, t.outcome, t.reason
FROM ticks t JOIN schedules s ON s.id = t.schedule_id
WHERE s.org_id IS NULL AND t.scheduled_for > $1
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

    ticks: int = 0
    late_p99: float = 0.0
    late_max: float = 0.0
    not_ran: dict[str, int] = field(default_factory=dict[str, int])
    built_in_runs: dict[str, int] = field(default_factory=dict[str, int])
    tenants_runs: dict[str, int] = field(default_factory=dict[str, int])
    livez_p99: float = 0.0
    livez_max: float = 0.0
    livez_failed: int = 0
    peak_mb: dict[str, float] = field(default_factory=dict[str, float])
    redis_bytes: int = 0
    redis_bytes_of_tenants: int = 0
    postgres_bytes: dict[str, int] = field(default_factory=dict[str, int])
    answers: dict[str, int] = field(default_factory=dict[str, int])
    faults: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class Probe:
    """Requests /livez all the time, and reads the memory of processes."""

    url: str
    processes: dict[str, int]
    took: list[float] = field(default_factory=list[float])
    failed: int = 0
    peak_mb: Counter[str] = field(default_factory=Counter[str])

    async def watch(self) -> None:
        """Measure until cancelled."""
        with httpx.Client(base_url=self.url, timeout=10, trust_env=False) as client:
            while True:
                await asyncio.to_thread(self._measure, client)
                await asyncio.sleep(PROBE)

    def _measure(self, client: httpx.Client) -> None:
        # In a thread: this process' event loop is busy with the tenants.
        began = time.monotonic()
        try:
            self.failed += client.get("/livez").is_error
        except httpx.HTTPError:
            self.failed += 1
        self.took.append(time.monotonic() - began)
        self._read_memory()

    def _read_memory(self) -> None:
        for name, pid in self.processes.items():
            for place, (child_pid, size) in enumerate(_family(pid)):
                label = name if child_pid == pid else f"{name}'s reader {place}"
                self.peak_mb[label] = max(self.peak_mb[label], round(size))


def _family(pid: int) -> list[tuple[int, float]]:
    """Return the process and its descendants, each with its resident megabytes."""
    found: list[tuple[int, float]] = []
    with suppress(OSError, ValueError):
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        found.append((pid, pages * os.sysconf("SC_PAGE_SIZE") / 1e6))
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        found += [one for each in children for one in _family(int(each))]
    return found


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
        await asyncio.sleep(CALM)
        began = datetime.now(UTC)
        probe = Probe(url, {"worker": _python(worker), "web": _python(web)})
        await _attack(attackers, probe, asked.seconds)
        ended = datetime.now(UTC)
        found = await _figures(pool, servers, probe, began)
        found.answers = dict(sum((one.answers for one in attackers), Counter[str]()))
        for one in (worker, web):
            if one.process.returncode is not None:
                found.faults.append(f"the {one.name} ended during the siege")
        await _check_ledger(pool, ended, found)
    _judge(found)
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
        "GUARD_ALLOW": "127.0.0.1",
        "COLLECTION_JITTER_SECONDS": "0",
        "ORG_MAX_MINUTES": "1",
        "LOG_FORMAT": "json",
    } | sites.settings()


async def _figures(pool: Pool, servers: Servers, probe: Probe, began: datetime) -> Figures:
    found = Figures()
    ticks = await pool.fetch(LATENESS, began)
    late = [row["late"] for row in ticks]
    found.ticks, found.late_p99, found.late_max = len(ticks), _p99(late), max(late, default=0.0)
    found.not_ran = dict(
        Counter(f"{row['outcome']} ({row['reason']})" for row in ticks if row["outcome"] != "ran")
    )
    for row in await pool.fetch(RUNS, began):
        runs = found.built_in_runs if row["built_in"] else found.tenants_runs
        runs[row["status"]] = row["runs"]
    found.livez_p99, found.livez_max = _p99(probe.took), max(probe.took, default=0.0)
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


def _judge(found: Figures) -> None:
    if not found.ticks:
        found.faults.append("no built-in tick was decided")
    if found.late_p99 > MAX_LATE:
        found.faults.append(f"99 of 100 ticks were decided within {found.late_p99:.3f} s only")
    found.faults += [f"{count} ticks {what}" for what, count in found.not_ran.items()]
    if lost := found.built_in_runs.get("lost"):
        found.faults.append(f"{lost} built-in runs were lost")
    found.faults += [
        f"{name} needed {size:.0f} MB" for name, size in found.peak_mb.items() if size > MAX_MB
    ]


def _p99(values: list[float]) -> float:
    return quantiles(values, n=100)[98] if len(values) > 1 else max(values, default=0.0)


def _table(found: Figures) -> Table:
    table = Table(title="Siege", show_header=False)
    ms = 1_000
    rows = {
        "built-in ticks": f"{found.ticks}, not ran: {found.not_ran or 'none'}",
        "decided late": f"p99 {found.late_p99 * ms:.0f} ms, max {found.late_max * ms:.0f} ms",
        "built-in runs": str(found.built_in_runs),
        "tenants' runs": str(found.tenants_runs),
        "/livez": f"p99 {found.livez_p99 * ms:.0f} ms, max {found.livez_max * ms:.0f} ms,"
        f" {found.livez_failed} failed",
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
    add("--json", action="store_true", help="last line: one JSON object; progress goes to stderr")
    add("--keep", action="store_true", help="keep the folder with logs and data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
