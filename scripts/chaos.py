"""Chaos test of private workers and servers, and a check of the ledger: scripts/chaos --help"""

import argparse
import asyncio
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rich.console import Console

from app.core import log
from app.core.errors import RollcallError
from app.sources.base import Source
from app.sources.sites.bet9ja import Bet9ja
from app.sources.sites.betpawa import BetPawa
from app.sources.sites.sportybet import SportyBet
from scripts.drill import judge, plan, report
from scripts.drill.report import Report
from scripts.drill.runner import ChaosRun
from scripts.drill.servers import Servers
from scripts.drill.web import StandInSites
from scripts.drill.worker_processes import WorkerPool

LEASE = 3.0
GRACE = 0.5
INTERVAL = 3.0
_EPILOG = """examples:
  scripts/chaos --seconds 60
  scripts/chaos --seconds 300 --seed 7 --workers 5 --json
  scripts/chaos --seed 7 --keep      keeps the workers' logs and both servers' data
Exit code 1 if a tick is unaccounted for or decided twice, a run is stuck, records differ, or
scripts/recount finds a fault or another number of ticks than `verify`.
"""


def main() -> int:
    """Run the disruptions, restore, check; returns the exit code."""
    asked = _parser().parse_args()
    console = Console(stderr=asked.json)
    log.configure("console", "warning")
    signal.signal(signal.SIGTERM, _interrupted)
    try:
        with _folder(console, keep=asked.keep) as folder, ExitStack() as stack:
            found = _run(_set_up(folder, asked, console, stack), asked, console)
            console.print(report.table(found))
            if asked.json:
                print(json.dumps({"seed": asked.seed, "seconds": asked.seconds} | found.as_json()))
            return 0 if found.sound else 1
    except RollcallError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


def _interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def _run(stage: ChaosRun, asked: argparse.Namespace, console: Console) -> Report:
    planned = plan.generate(asked.seed, asked.seconds, asked.workers, LEASE)
    console.print(
        f"{asked.workers} workers, {asked.seconds:g} s, seed {asked.seed}:"
        f" {len(planned)} disruptions"
    )
    stage.run(planned, asked.seconds)
    console.print(f"{asked.seconds:6.1f} s  disruptions end")
    stage.restore()
    undecided, drained_in = asyncio.run(judge.drain(stage.servers.database_url))
    stage.stop_workers()
    findings = asyncio.run(
        judge.inspect(stage.servers.database_url, _sources(stage.web.settings()))
    )
    findings.drained_in = drained_in
    outages = [*stage.servers.postgres.outages, *stage.servers.redis.outages]
    return Report(findings, stage.disruptions, stage.crew.processes, outages, undecided)


def _set_up(
    folder: Path, asked: argparse.Namespace, console: Console, stack: ExitStack
) -> ChaosRun:
    web = StandInSites(folder, asked.seed, asked.events)
    stack.callback(web.stop)
    servers = Servers(folder / "servers")
    stack.callback(servers.stop)
    servers.start()
    settings = _settings(servers) | web.settings()
    crew = WorkerPool(asked.workers, folder / "workers", settings)
    stack.callback(crew.kill_all)
    stage = ChaosRun(asked.seed, servers, web, crew, console.print)
    stage.start_workers()
    return stage


def _settings(servers: Servers) -> dict[str, str]:
    """Return a worker's whole environment: nothing is inherited from the caller."""
    return {
        "PATH": os.defpath,
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "SCRAPE_INTERVAL_MINUTES": str(INTERVAL / 60),
        "LEASE_SECONDS": str(LEASE),
        "SHUTDOWN_GRACE_SECONDS": str(GRACE),
        "MISFIRE_GRACE_SECONDS": "10",
        "JOB_TIMEOUT_SECONDS": "30",
        "LOG_FORMAT": "json",
    }


def _sources(settings: dict[str, str]) -> list[Source]:
    return [
        SportyBet(settings["SPORTYBET_URL"]),
        BetPawa(settings["BETPAWA_URL"], "v4", "betpawa-nigeria"),
        Bet9ja(settings["BET9JA_URL"]),
    ]


@contextmanager
def _folder(console: Console, *, keep: bool) -> Generator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="rollcall-chaos-"))
    try:
        yield folder
    finally:
        if keep:
            console.print(f"kept: {folder}")
        else:
            shutil.rmtree(folder, ignore_errors=True)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/chaos",
        description="Disrupt private workers and servers at random and check that no tick is lost.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add: Any = parser.add_argument
    add("--seconds", type=float, default=60, help="of disruptions (default: %(default)s)")
    add("--seed", type=int, default=1, help="of every disruption and price (default: %(default)s)")
    add("--workers", type=int, default=3, help="(default: %(default)s)")
    add("--events", type=int, default=16, help="on each site (default: %(default)s)")
    add("--json", action="store_true", help="last line: one JSON object; progress goes to stderr")
    add("--keep", action="store_true", help="keep the folder with logs and data")
    return parser


if __name__ == "__main__":
    sys.exit(main())
