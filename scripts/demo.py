"""Worker, web and servers in one terminal: `scripts/demo --help`, `scripts/dev --help`"""

import argparse
import asyncio
import json
import os
import signal
import socket
import sys
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from rich.console import Console, Group
from rich.live import Live
from rich.text import Text

from app import embedded
from app.core import config as settings
from app.core import log
from app.core.config import Config
from app.core.enums import Trigger
from app.core.errors import RollcallError
from app.embedded.place import ServerDirectories
from app.orgs import one_time_login
from app.queue.jobs import redis_pool
from app.store import db, servers
from app.store.db import Pool
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.schedules import heartbeats
from scripts.child_processes import Child, ChildEnvironment, child, last_lines
from scripts.run_table import Row, figures, table
from workers import registry

ROOT = Path(__file__).resolve().parents[1]
DEMO_DATA_DIR = ".rollcall/demo"  # keeps demo data out of a real .rollcall
INTERVAL, INTERVAL_ONCE = 15, 5  # seconds between the ticks of the demo
ROUND_TIMEOUT = 90.0  # seconds until every job has a finished run
READY_TIMEOUT = 30.0
SHUTDOWN_TIMEOUT = 8.0
SHOWN_RUNS = 12
SITES = {
    "SPORTYBET_URL": "/sportybet/factsCenter",
    "BETPAWA_URL": "/betpawa",
    "BET9JA_URL": "/bet9ja/PalimpsestAjax",
    "ASKNEWS_URL": "/asknews/v1",
}
ASKNEWS_SETTINGS = {
    "ASKNEWS_API_KEY": "standin-key",
    "TRACKED_ENTITIES": "OpenAI,AMD,Manchester United",
}

_ABOUT = """Starts private Postgres and Redis, worker and web, with four stand-in sites
(scripts/dev: with the real sites, for which you need permission). Ctrl-C stops everything."""
_EXAMPLES = """examples:
  scripts/demo
      scheduled scrapes every 15 s, changing prices, a live table, the dashboard
  scripts/demo --port 9000
      serve the dashboard there instead of on 8000
  scripts/demo --once
      one round of every job, printed as a table; exit code 0 if all are a success
  scripts/demo --once --json
      the same, with {"runs": [{"job", "status", "records", "new", "stats", …}]} as last line
  DATA_DIR=/tmp/try scripts/demo
      data and logs there; default: .rollcall/demo of this folder, kept between demos
  scripts/dev
      the real sites at the intervals of .env, data in .rollcall
"""


@dataclass(frozen=True, slots=True)
class Setup:
    """The settings of a demo. `env` and `folder` are those of the child processes."""

    asked: argparse.Namespace
    where: servers.ServerUrls
    data_dir: Path
    env: Mapping[str, str]
    folder: Path
    stop_timeout: float
    port: int
    sign_in: str = ""

    @property
    def environment(self) -> ChildEnvironment:
        return ChildEnvironment(self.env, self.folder, self.data_dir / "log", self.stop_timeout)


@dataclass(frozen=True, slots=True)
class Running:
    """A started demo. `begun` is an instant of the database's clock."""

    setup: Setup
    pool: Pool
    started_at: datetime
    worker: Child


def main() -> int:
    """Run the demo until it ends or is interrupted; returns the exit code."""
    asked = _parser().parse_args()
    os.chdir(ROOT)
    try:
        config = _config(asked)
        log.configure(config.log_format, "error")
        port = _port(asked)
        Console(stderr=True).print("Starting Postgres and Redis ...", highlight=False)
        setup = _setup(asked, config, servers.server_urls(config), port)
        try:
            return asyncio.run(_run(setup))
        finally:
            _stop_servers(config)
    except RollcallError as error:
        return _fail(str(error), 2)
    except KeyboardInterrupt:  # before the children were started
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--once", action="store_true", help="one finished run of every job, then stop")
    add("--json", action="store_true", help="with --once: the runs as JSON in the last line")
    add("--port", type=int, help="of the dashboard (default: 8000, or a free one if that is taken)")
    add("--real", action="store_true", help="use the real sites, as scripts/dev does")
    return parser


def _config(asked: argparse.Namespace) -> Config:
    if asked.real:
        return settings.load()
    # Neither .env nor the environment may direct stand-in prices to a real database.
    data_dir = os.environ.get("DATA_DIR") or DEMO_DATA_DIR  # noqa: TID251 - before there is a Config
    return settings.load(_env_file=None, data_dir=data_dir, database_url=None, redis_url=None)


def _setup(
    asked: argparse.Namespace, config: Config, where: servers.ServerUrls, port: int
) -> Setup:
    data_dir = config.data_dir.resolve()
    (data_dir / "log").mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # noqa: TID251 - handed on to the children
    setup = Setup(asked, where, data_dir, env, ROOT, config.shutdown_grace_seconds + 8, port)
    if asked.real:
        return setup
    for name in Config.model_fields.keys() - {"log_format", "log_level"}:
        env.pop(name.upper(), None)
    interval = str((INTERVAL_ONCE if asked.once else INTERVAL) / 60)
    intervals = [name.upper() for name in Config.model_fields if name.endswith("_interval_minutes")]
    env |= dict.fromkeys(intervals, interval) | {
        "DATABASE_URL": where.database,
        "REDIS_URL": where.redis,
        "DATA_DIR": str(data_dir),
        "SHUTDOWN_GRACE_SECONDS": "0",
        "NO_PROXY": "127.0.0.1",
        **ASKNEWS_SETTINGS,
    }
    return replace(setup, folder=data_dir, stop_timeout=8)  # a folder without .env


def _port(asked: argparse.Namespace) -> int:
    if asked.port:
        return asked.port
    for port in (0,) if asked.once else (8000, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise RollcallError("no free port")


async def _run(setup: Setup) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    stopped = asyncio.create_task(stop.wait())
    async with _started(setup) as (running, children):
        exits = {asyncio.create_task(child.exited()) for child in children}
        show = asyncio.create_task(_once(running) if setup.asked.once else _watch(running))
        await asyncio.wait({stopped, show, *exits}, return_when=asyncio.FIRST_COMPLETED)
        # An exited child takes precedence over what was shown.
        errors = [exited.result() for exited in exits if exited.done()]
        code = await _result_or(show, 130 if setup.asked.once else 0)
        for task in (stopped, *exits):
            task.cancel()
        if not setup.asked.once:
            Console(stderr=True).print("Stopping ...", highlight=False)
    return _fail("\n".join(errors), 1) if errors else code


async def _result_or(show: asyncio.Task[int], default: int) -> int:
    if show.done():
        return show.result()
    show.cancel()
    await asyncio.wait({show})
    return default


@asynccontextmanager
async def _started(setup: Setup) -> AsyncGenerator[tuple[Running, list[Child]]]:
    """Start sites, web and worker, in this order; they are stopped in the opposite order."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        pool = await enter(await db.open_pool(setup.where.database, size=2))
        children: list[Child] = []
        env = dict(setup.env)
        if not setup.asked.real:
            sites, urls = await _sites(stack, setup)
            children.append(sites)
            env |= urls
        environment = replace(setup.environment, env=env)
        web = ["uvicorn", "app.web:app", "--port", str(setup.port), "--no-access-log"]
        children.append(
            await enter(child("web", [*web, "--timeout-graceful-shutdown", "2"], environment))
        )
        if not setup.asked.once:
            setup = replace(setup, sign_in=await _sign_in(setup))
        started_at = await heartbeats.database_now(pool)
        worker = await enter(child("worker", ["arq", "app.workers.Settings"], environment))
        yield Running(setup, pool, started_at, worker), [*children, worker]


async def _sign_in(setup: Setup) -> str:
    """Return a one-time sign-in address."""
    redis = redis_pool(setup.where.redis)
    try:
        return f"http://127.0.0.1:{setup.port}{await one_time_login.create_login(redis)}"
    finally:
        await redis.aclose(close_connection_pool=True)


async def _sites(stack: AsyncExitStack, setup: Setup) -> tuple[Child, dict[str, str]]:
    """Start the stand-in sites, each on its own port, as rate limits are per host and port.

    Returns the process and the settings that name the sites' base URLs.
    """
    ready = setup.data_dir / "sites.urls"
    ready.unlink(missing_ok=True)
    options = f"--port 0 --listeners {len(SITES)} --move-every 5 --move-share 0.02 --ready-file"
    module = ["scripts.standin", *options.split(), str(ready)]
    sites = await stack.enter_async_context(child("sites", module, setup.environment))
    deadline = time.monotonic() + READY_TIMEOUT
    while not ready.exists():
        if sites.process.returncode is not None or time.monotonic() > deadline:
            raise RollcallError(f"The stand-in sites did not start:\n{last_lines(sites.log)}")
        await asyncio.sleep(0.05)
    hosts = ready.read_text().split()
    return sites, {
        name: f"{host}{path}" for (name, path), host in zip(SITES.items(), hosts, strict=True)
    }


async def _once(running: Running) -> int:
    """Wait for the first finished scheduled run of each job, and print them."""
    names = [job.name for job in registry.SITES]
    first = await _first_round(running, names)
    rows = [first[name] for name in names if name in first]
    Console(width=None if sys.stdout.isatty() else 120, emoji=False).print(
        table(rows, "The first run of every job")
    )
    for row in rows:
        if row["error_message"]:
            _fail(f"{row['job']}: {row['error_message']}", 1)
    missing = [name for name in names if name not in first]
    if missing:
        _fail(f"No finished run within {ROUND_TIMEOUT:.0f} s: {', '.join(missing)}.", 1)
        _fail(f"The end of {running.worker.log}:\n{last_lines(running.worker.log)}", 1)
    results = [figures(row) for row in rows]
    if running.setup.asked.json:
        print(json.dumps({"runs": results}), flush=True)
    return 0 if not missing and all(run["status"] == "success" for run in results) else 1


async def _first_round(running: Running, names: Sequence[str]) -> dict[str, Row]:
    """Return the first finished scheduled run of each job that has one before the timeout."""
    deadline = time.monotonic() + ROUND_TIMEOUT
    first: dict[str, Row] = {}
    while len(first) < len(names) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        for row in await _finished(running):
            if _belongs(running, row):
                first.setdefault(row["job"], row)
    return first


async def _finished(running: Running) -> list[dict[str, Any]]:
    """Return the runs that have ended since the demo began, oldest first."""
    rows = reversed(await listing.runs(running.pool, RunFilter(), 50))
    return [
        row for row in rows if row["completed_at"] and row["completed_at"] >= running.started_at
    ]


def _belongs(running: Running, row: Row) -> bool:
    """Return whether the run was scheduled and started in this demo, not handed over by another."""
    return row["trigger"] == Trigger.SCHEDULED and row["started_at"] >= running.started_at


async def _watch(running: Running) -> int:
    """Show the latest runs until cancelled: as a live table, or as lines without a terminal."""
    console = Console(emoji=False)
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            await _every_second(partial(_draw, running, live))
    console.print(_footer(running.setup), soft_wrap=True)
    printed: set[object] = set()
    await _every_second(partial(_print_new, running, printed))
    return 0


async def _every_second(step: Any) -> None:
    while True:
        try:
            await step()
        except db.UNAVAILABLE as error:
            _fail(f"Postgres cannot be reached: {error}", 1)
        await asyncio.sleep(1)


async def _draw(running: Running, live: Live) -> None:
    rows = await listing.runs(running.pool, RunFilter(), SHOWN_RUNS)
    now = await heartbeats.database_now(running.pool)
    title = "The latest runs" if rows else "Waiting for the first tick ..."
    live.update(Group(table(rows, title, now), _footer(running.setup)), refresh=True)


async def _print_new(running: Running, printed: set[object]) -> None:
    for row in await _finished(running):
        if row["execution_id"] not in printed:
            printed.add(row["execution_id"])
            print(json.dumps(figures(row)), flush=True)


def _footer(setup: Setup) -> Text:
    web = f"http://127.0.0.1:{setup.port}"
    logs = setup.data_dir / "log"
    data = setup.data_dir
    if data.is_relative_to(ROOT):
        data = data.relative_to(ROOT)
    by_hand = f"DATA_DIR='{data}' scripts/enqueue.py scrape_all_platforms --wait"
    return Text(
        f"sign in  {setup.sign_in}\n"
        f"page     {web}/\nhealth   {web}/health/scheduler\nlogs     {logs}\n"
        f"by hand  {by_hand}\nCtrl-C stops everything.",
        no_wrap=True,
    )


def _stop_servers(config: Config) -> None:
    """Release the private servers and wait until they stop, unless another process uses them."""
    if config.database_url is not None and config.redis_url is not None:
        return
    embedded.start(config.data_dir).close()
    place = ServerDirectories(config.data_dir.resolve())
    deadline = time.monotonic() + SHUTDOWN_TIMEOUT
    while time.monotonic() < deadline:
        lock = place.try_lock()
        if lock is not None:
            os.close(lock)
            return
        time.sleep(0.1)


def _fail(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
