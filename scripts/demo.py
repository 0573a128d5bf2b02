"""The whole house in one terminal: `scripts/demo --help`, `scripts/dev --help`"""

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

from app import config as settings
from app import embedded, log, once, resources
from app.config import Config
from app.embedded.place import Place
from app.errors import RollcallError
from app.queue import redis_pool
from app.store import beats, db, runs
from app.store.db import Pool
from app.words import Trigger
from scripts.children import Child, Surroundings, child, last_lines
from scripts.run_table import Row, figures, table
from workers import catalogue

ROOT = Path(__file__).resolve().parents[1]
PRETEND_DATA = ".rollcall/demo"  # so that a demo never touches a real .rollcall
SECONDS, SECONDS_ONCE = 15, 5  # between the ticks of the demo
ROUND_SECONDS = 90.0  # for the first round of every job
READY_SECONDS = 30.0
GONE_SECONDS = 8.0
SHOWN = 12
SITES = {
    "SPORTYBET_URL": "/sportybet/factsCenter",
    "BETPAWA_URL": "/betpawa",
    "BET9JA_URL": "/bet9ja/PalimpsestAjax",
    "ASKNEWS_URL": "/asknews/v1",
}
NEWSROOM = {"ASKNEWS_API_KEY": "standin-key", "TRACKED_ENTITIES": "OpenAI,AMD,Manchester United"}

_ABOUT = """Everything at once: private Postgres and Redis, worker and web, on four pretend sites
(with scripts/dev: on the real ones, which is yours to be permitted). Ctrl-C stops it all."""
_EXAMPLES = """examples:
  scripts/demo
      scheduled scrapes every 15 s, prices that move, a live table, health on a page
  scripts/demo --port 9000
      the page there instead of on 8000
  scripts/demo --once
      one round of every job, printed as a table; exit code 0 if all are a success
  scripts/demo --once --json
      the same, with {"runs": [{"job", "status", "records", "new", "stats", …}]} as last line
  DATA_DIR=/tmp/try scripts/demo
      data and logs there; else in .rollcall/demo of this folder, kept between demos
  scripts/dev
      the real sites at the intervals of .env, data in .rollcall
"""


@dataclass(frozen=True, slots=True)
class Stage:
    """Where it all happens. `env` and `folder` are what the children get."""

    asked: argparse.Namespace
    where: resources.Urls
    data_dir: Path
    env: Mapping[str, str]
    folder: Path
    patience: float
    port: int
    sign_in: str = ""

    @property
    def around(self) -> Surroundings:
        return Surroundings(self.env, self.folder, self.data_dir / "log", self.patience)


@dataclass(frozen=True, slots=True)
class Scene:
    """What is to be watched. `begun` is an instant of the database's clock."""

    stage: Stage
    pool: Pool
    begun: datetime
    worker: Child


def main() -> int:
    """Play until the end or until told to stop; returns the exit code."""
    asked = _parser().parse_args()
    os.chdir(ROOT)
    try:
        config = _config(asked)
        log.configure(config.log_format, "error")
        port = _port(asked)
        Console(stderr=True).print("Starting Postgres and Redis ...", highlight=False)
        stage = _stage(asked, config, resources.urls(config), port)
        try:
            return asyncio.run(_play(stage))
        finally:
            _leave(config)
    except RollcallError as error:
        return _sorry(str(error), 2)
    except KeyboardInterrupt:  # before the children were there
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/demo",
        description=_ABOUT,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--once", action="store_true", help="one round of every job, then stop")
    add("--json", action="store_true", help="with --once: the runs as JSON in the last line")
    add("--port", type=int, help="of the web page (default: 8000, or another if that is taken)")
    add("--real", action="store_true", help="the real sites, as scripts/dev does")
    return parser


def _config(asked: argparse.Namespace) -> Config:
    if asked.real:
        return settings.load()
    # Neither .env nor the environment may lead pretend prices into a real database.
    data_dir = os.environ.get("DATA_DIR") or PRETEND_DATA  # noqa: TID251 - before there is a Config
    return settings.load(_env_file=None, data_dir=data_dir, database_url=None, redis_url=None)


def _stage(asked: argparse.Namespace, config: Config, where: resources.Urls, port: int) -> Stage:
    data_dir = config.data_dir.resolve()
    (data_dir / "log").mkdir(parents=True, exist_ok=True)
    env = {**os.environ, "PYTHONPATH": str(ROOT)}  # noqa: TID251 - handed on to the children
    stage = Stage(asked, where, data_dir, env, ROOT, config.shutdown_grace_seconds + 8, port)
    if asked.real:
        return stage
    for name in Config.model_fields.keys() - {"log_format", "log_level"}:
        env.pop(name.upper(), None)
    every = str((SECONDS_ONCE if asked.once else SECONDS) / 60)
    intervals = [name.upper() for name in Config.model_fields if name.endswith("_interval_minutes")]
    env |= dict.fromkeys(intervals, every) | {
        "DATABASE_URL": where.database,
        "REDIS_URL": where.redis,
        "DATA_DIR": str(data_dir),
        "SHUTDOWN_GRACE_SECONDS": "0",
        "NO_PROXY": "127.0.0.1",
        **NEWSROOM,
    }
    return replace(stage, folder=data_dir, patience=8)  # a folder without .env


def _port(asked: argparse.Namespace) -> int:
    if asked.port:
        return asked.port
    for port in (0,) if asked.once else (8000, 0):
        with socket.socket() as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                trial.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(trial.getsockname()[1])
    raise RollcallError("no free port")


async def _play(stage: Stage) -> int:
    stop = asyncio.Event()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    told = asyncio.create_task(stop.wait())
    async with _set(stage) as (scene, children):
        deaths = {asyncio.create_task(child.died()) for child in children}
        show = asyncio.create_task(_once(scene) if stage.asked.once else _watch(scene))
        await asyncio.wait({told, show, *deaths}, return_when=asyncio.FIRST_COMPLETED)
        # A death comes first: nothing that was shown is worth more.
        dead = [death.result() for death in deaths if death.done()]
        code = await _over(show, 130 if stage.asked.once else 0)
        for task in (told, *deaths):
            task.cancel()
        if not stage.asked.once:
            Console(stderr=True).print("Stopping ...", highlight=False)
    return _sorry("\n".join(dead), 1) if dead else code


async def _over(show: asyncio.Task[int], cut_short: int) -> int:
    if show.done():
        return show.result()
    show.cancel()
    await asyncio.wait({show})
    return cut_short


@asynccontextmanager
async def _set(stage: Stage) -> AsyncGenerator[tuple[Scene, list[Child]]]:
    """Start one after the other; they end in the opposite order: worker, web, sites."""
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        pool = await enter(await db.open_pool(stage.where.database, size=2))
        children: list[Child] = []
        env = dict(stage.env)
        if not stage.asked.real:
            sites, urls = await _sites(stack, stage)
            children.append(sites)
            env |= urls
        around = replace(stage.around, env=env)
        web = ["uvicorn", "app.web:app", "--port", str(stage.port), "--no-access-log"]
        children.append(
            await enter(child("web", [*web, "--timeout-graceful-shutdown", "2"], around))
        )
        if not stage.asked.once:
            stage = replace(stage, sign_in=await _sign_in(stage))
        begun = await beats.database_now(pool)
        worker = await enter(child("worker", ["arq", "app.workers.Settings"], around))
        yield Scene(stage, pool, begun, worker), [*children, worker]


async def _sign_in(stage: Stage) -> str:
    """An address that signs in once, for whoever sees this terminal."""
    redis = redis_pool(stage.where.redis)
    try:
        return f"http://127.0.0.1:{stage.port}{await once.mint(redis)}"
    finally:
        await redis.aclose(close_connection_pool=True)


async def _sites(stack: AsyncExitStack, stage: Stage) -> tuple[Child, dict[str, str]]:
    """The pretend sites, each on a port of its own: we are polite to each host and port."""
    ready = stage.data_dir / "sites.urls"
    ready.unlink(missing_ok=True)
    options = f"--port 0 --listeners {len(SITES)} --move-every 5 --move-share 0.02 --ready-file"
    module = ["scripts.standin", *options.split(), str(ready)]
    sites = await stack.enter_async_context(child("sites", module, stage.around))
    deadline = time.monotonic() + READY_SECONDS
    while not ready.exists():
        if sites.process.returncode is not None or time.monotonic() > deadline:
            raise RollcallError(f"The pretend sites did not start:\n{last_lines(sites.log)}")
        await asyncio.sleep(0.05)
    hosts = ready.read_text().split()
    return sites, {
        name: f"{host}{path}" for (name, path), host in zip(SITES.items(), hosts, strict=True)
    }


async def _once(scene: Scene) -> int:
    """Wait for the first finished scheduled run of each job, and print them."""
    names = [job.name for job in catalogue.JOBS]
    first = await _first_round(scene, names)
    rows = [first[name] for name in names if name in first]
    Console(width=None if sys.stdout.isatty() else 120).print(table(rows, "One round of every job"))
    for row in rows:
        if row["error_message"]:
            _sorry(f"{row['job']}: {row['error_message']}", 1)
    missing = [name for name in names if name not in first]
    if missing:
        _sorry(f"No finished run within {ROUND_SECONDS:.0f} s: {', '.join(missing)}.", 1)
        _sorry(f"The end of {scene.worker.log}:\n{last_lines(scene.worker.log)}", 1)
    told = [figures(row) for row in rows]
    if scene.stage.asked.json:
        print(json.dumps({"runs": told}), flush=True)
    return 0 if not missing and all(run["status"] == "success" for run in told) else 1


async def _first_round(scene: Scene, names: Sequence[str]) -> dict[str, Row]:
    """The first finished scheduled run of each job, as far as there is one in time."""
    deadline = time.monotonic() + ROUND_SECONDS
    first: dict[str, Row] = {}
    while len(first) < len(names) and time.monotonic() < deadline:
        await asyncio.sleep(0.2)
        for row in await _finished(scene):
            if _whole_round(scene, row):
                first.setdefault(row["job"], row)
    return first


async def _finished(scene: Scene) -> list[dict[str, Any]]:
    """Runs that have ended since the demo began, oldest first."""
    rows = reversed(await runs.recent(scene.pool, 50))
    return [row for row in rows if row["completed_at"] and row["completed_at"] >= scene.begun]


def _whole_round(scene: Scene, row: Row) -> bool:
    """Was it scheduled and begun here, and not handed over by a demo that was cut short?"""
    return row["trigger"] == Trigger.SCHEDULED and row["started_at"] >= scene.begun


async def _watch(scene: Scene) -> int:
    """Show the last runs until cancelled: as a live table, or line by line without a terminal."""
    console = Console()
    if console.is_terminal:
        with Live(console=console, auto_refresh=False) as live:
            await _every_second(partial(_draw, scene, live))
    console.print(_where(scene.stage), soft_wrap=True)
    told: set[object] = set()
    await _every_second(partial(_tell, scene, told))
    return 0


async def _every_second(step: Any) -> None:
    while True:
        try:
            await step()
        except db.AWAY as error:
            _sorry(f"Postgres is away: {error}", 1)
        await asyncio.sleep(1)


async def _draw(scene: Scene, live: Live) -> None:
    rows = await runs.recent(scene.pool, SHOWN)
    now = await beats.database_now(scene.pool)
    title = "The last runs" if rows else "Waiting for the first tick ..."
    live.update(Group(table(rows, title, now), _where(scene.stage)), refresh=True)


async def _tell(scene: Scene, told: set[object]) -> None:
    for row in await _finished(scene):
        if row["execution_id"] not in told:
            told.add(row["execution_id"])
            print(json.dumps(figures(row)), flush=True)


def _where(stage: Stage) -> Text:
    web = f"http://127.0.0.1:{stage.port}"
    logs = stage.data_dir / "log"
    data = stage.data_dir
    if data.is_relative_to(ROOT):
        data = data.relative_to(ROOT)
    by_hand = f"DATA_DIR='{data}' scripts/enqueue.py scrape_all_platforms --wait"
    return Text(
        f"sign in  {stage.sign_in}\n"
        f"page     {web}/\nhealth   {web}/health/scheduler\nlogs     {logs}\n"
        f"by hand  {by_hand}\nCtrl-C stops everything.",
        no_wrap=True,
    )


def _leave(config: Config) -> None:
    """Let go of the private servers and see them off, unless somebody else still needs them."""
    if config.database_url is not None and config.redis_url is not None:
        return
    embedded.start(config.data_dir).close()
    place = Place(config.data_dir.resolve())
    deadline = time.monotonic() + GONE_SECONDS
    while time.monotonic() < deadline:
        lock = place.try_lock()
        if lock is not None:
            os.close(lock)
            return
        time.sleep(0.1)


def _sorry(message: str, code: int) -> int:
    sys.stderr.write(f"{message}\n")
    return code


if __name__ == "__main__":
    sys.exit(main())
