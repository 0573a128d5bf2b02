"""Counts what a tick, a run, a page and the periodic steps cost in Postgres and Redis.

Statements, round trips, bytes and write-ahead log, not time: the figures are the same on any
machine. `guard.json` holds those of the present code. Without options the command compares: exit
code 1 if a count differs, or if bytes grew. `--write` records the present figures instead.
"""

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from http import HTTPStatus
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

import asyncpg
import httpx
from arq import ArqRedis
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table
from starlette import types

from app import embedded, migrations
from app.context import WorkerContext, worker_context
from app.core.config import Config, load
from app.core.enums import RunStatus, Scope
from app.health.publish import publish_job
from app.health.publisher import HealthPublisher
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.queue import enqueue, jobs
from app.queue.cron_runner import CronRunner
from app.queue.worker import SurvivingWorker
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.content import partitions
from app.store.db import OPERATOR_SESSION, Connection
from app.store.runs import listing, run_rows
from app.store.runs.listing import RunFilter
from app.store.servers import ServerUrls
from app.web.application import create_app
from app.web.context import WebContext
from scripts.bench.wire import NAMES, Relayed, Traffic, relayed
from scripts.standin.testing import Standin
from workers import lifecycle, odds
from workers.dispatch import dispatch
from workers.execute import execute
from workers.job import Job, job
from workers.monitor import monitor
from workers.registry import JobRegistry
from workers.run import Run
from workers.sweep import publish_health, sweep
from workers.trigger import cron_entry_for

FIGURES = Path(__file__).with_suffix(".json")
COUNTS = ("postgres_statements", "postgres_trips", "redis_commands", "redis_trips")
GROWTH = 1.05  # of bytes, which differ by a few with the length of numbers
WAL_GROWTH = 1.25  # of the log, to which the server's own work adds
WARM = 3  # rounds before those that count: statements are prepared, scripts loaded
ROUNDS = 7
HOUR = timedelta(hours=1)
EVENTS, PAGES = 250, 3  # of the site that a run collects
JOBS = 20  # schedules that health is published for

Figures = dict[str, dict[str, float]]
Step = Callable[[], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Guard:
    """A worker and the triggers of its decider, whose steps are taken one at a time.

    `observer` and `redis`: connections that are not relayed.
    """

    worker: SurvivingWorker
    decider: CronRunner
    context: WorkerContext
    wire: Relayed
    observer: Connection
    redis: ArqRedis

    @property
    def ctx(self) -> dict[str, Any]:
        """What arq hands to a task."""
        return self.worker.ctx

    async def cost(self, step: Step, before: Step | None = None) -> dict[str, float]:
        """Return the least of ROUNDS rounds of `step`, each after `before`.

        What else goes on meanwhile, such as the web's look at the servers every few seconds, adds.
        """
        found: list[Traffic] = []
        logs: list[float] = []
        for number in range(WARM + ROUNDS):
            if before is not None:
                await before()
            wal, passed = await self._wal(), self.wire.traffic.copy()
            await step()
            if number >= WARM:
                found.append(self.wire.traffic - passed)
                logs.append(await self._wal() - wal)
        figures = {name: min(getattr(one, name) for one in found) for name in NAMES}
        return figures | {"wal": min(logs)}

    async def expect(self, count: str) -> None:
        """Exit unless each round did what its scenario is named for."""
        found = await self.observer.fetchval(count)
        if found != WARM + ROUNDS:
            raise SystemExit(f"{found} instead of {WARM + ROUNDS}: {count}")

    async def _wal(self) -> float:
        value = await self.observer.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn")
        return float(value)

    async def pass_an_hour(self) -> None:
        """Set the worker's clock an hour ahead: one tick of each schedule is due."""
        self.context.clock.offset += HOUR

    async def work(self) -> None:
        """Do what a worker and its decider do until nothing is due and the queue is empty."""
        worker = cast("Any", self.worker)
        await self.decider.claim_due()
        await self.decider.finish(60)
        while True:
            await worker._poll_once()  # noqa: SLF001 - one step of ours
            await asyncio.gather(*worker.tasks.values())
            if not await self.redis.zcard(self.worker.queue_name):
                return


def _declared(key: str, job: str) -> DeclaredSchedule:
    schedule = Schedule.every(3600, anchor=datetime.now(UTC), name=key)
    return DeclaredSchedule(key, job, schedule, Policies(misfire_grace=timedelta(minutes=30)))


def _no_op_schedules(_: Config, name: str) -> list[DeclaredSchedule]:
    return [_declared(name, name)]


@job(name="no_op", schedules=_no_op_schedules)
async def no_op(run: Run) -> None:
    """Do nothing."""
    del run


@asynccontextmanager
async def opened(config: Config, direct: ServerUrls, wire: Relayed) -> AsyncGenerator[Guard]:
    """Open a worker, not started, with one schedule whose runs do nothing."""
    where = ServerUrls(wire.database_url, wire.redis_url)
    own: tuple[Job, ...] = (no_op, odds.scrape_all_platforms)
    (schedule,) = no_op.declared(config)
    found = JobRegistry(own, (schedule,), ())
    worker = SurvivingWorker(
        functions=found.tasks(),
        redis_pool=lifecycle.open_queue(config, where),
        job_serializer=jobs.dumps,
        job_deserializer=jobs.loads,
        keep_result=0,
        health_check_interval=86_400,
        handle_signals=False,
    )
    observer = await asyncpg.connect(direct.database, server_settings=OPERATOR_SESSION)
    redis = jobs.redis_pool(direct.redis)
    worker.ctx["redis"] = worker.pool
    try:
        await lifecycle.startup(config, where, found)(worker.ctx)
        context = worker_context(worker.ctx)
        entries = [cron_entry_for(schedule.key, schedule.schedule)]
        decider = CronRunner(context.redis, entries, worker.ctx, 64, worker.ctx["heartbeat"], 60)
        guard = Guard(worker, decider, context, wire, observer, redis)
        # Only the first run publishes its job: how many share a publication depends on the time.
        worker.ctx["health"] = HealthPublisher(
            context.control, context.redis, context.worker, pause=86_400
        )
        await guard.work()
        yield guard
    finally:
        if health := worker.ctx.get("health"):
            await health.close()
        await observer.close()
        await redis.aclose(close_connection_pool=True)
        await lifecycle.shutdown(worker.ctx)
        await worker.pool.aclose(close_connection_pool=True)


async def measure(direct: ServerUrls, folder: Path) -> Figures:
    """Return the figures of every scenario, on servers with an empty, migrated database."""
    with Standin.start(events=EVENTS, move_share=1.0) as web:
        async with relayed(direct.database, direct.redis, folder) as wire:
            config = load(
                _env_file=None,
                database_url=SecretStr(wire.database_url),
                database_pool_size=2,
                redis_url=SecretStr(wire.redis_url),
                sportybet_url=web.sportybet_url,
                lease_seconds=300,  # the worker's key outlives the measuring
                log_level="error",
            )
            async with opened(config, direct, wire) as guard:
                return await _scenarios(guard, web) | await _requests(guard, config)


async def _scenarios(guard: Guard, web: Standin) -> Figures:
    ctx, context = guard.ctx, guard.context
    found: Figures = {}
    found["heartbeat of a worker"] = await guard.cost(ctx["heartbeat"])
    found["dispatch, nothing due"] = await guard.cost(lambda: dispatch(ctx))
    found["sweep, nothing lost"] = await guard.cost(lambda: sweep(ctx))
    found["watch, nothing to tell"] = await guard.cost(lambda: monitor(ctx))
    found["poll of the queue, nothing due"] = await guard.cost(guard.work)
    found["run by hand that does nothing"] = await guard.cost(lambda: _by_hand(guard))
    found["job from a script that does nothing"] = await guard.cost(
        guard.work, before=lambda: _from_script(guard)
    )
    await guard.expect(
        "SELECT count(*) FROM runs WHERE requested_by = 'queue' AND status = 'success'"
    )
    found["tick that runs, and its run"] = await guard.cost(guard.work, before=guard.pass_an_hour)
    await guard.expect(
        "SELECT count(*) FROM ticks JOIN runs ON run_id = execution_id"
        " WHERE outcome = 'ran' AND status = 'success'"
    )
    await _add_schedules(guard)
    found["health of a job, after its runs of a second"] = await guard.cost(
        lambda: publish_job(context.control, context.redis, "no_op")
    )
    found[f"health of {JOBS} jobs, unchanged"] = await guard.cost(lambda: publish_health(ctx))
    await edit.pause(context.pool, "no_op", context.clock(), by="guard", note="")
    found["tick that is skipped"] = await guard.cost(guard.work, before=guard.pass_an_hour)
    await guard.expect("SELECT count(*) FROM ticks WHERE reason = 'paused'")
    found |= await _runs_of_odds(guard, web)
    return found


PAGES_OF_WEB = ("/health/scheduler", "/metrics", "/", "/jobs/no_op", "/runs", "/ticks", "/workers")


async def _requests(guard: Guard, config: Config) -> Figures:
    """The cost of requests of a signed-in operator; what the web caches has expired."""
    context = guard.context
    request = TokenRequest(None, "guard", Scope.READ, context.clock() + timedelta(days=1))
    token = await tokens.create_token(context.pool, request, context.clock(), by="guard")
    app = create_app(config, now=lambda _: asyncio.sleep(0, context.clock()))
    async with app.router.lifespan_context(app) as state:
        web = cast("WebContext", cast("dict[str, object]", state)["web"])

        async def served(scope: types.Scope, receive: types.Receive, send: types.Send) -> None:
            await app({**scope, "state": state}, receive, send)

        async def expire() -> None:
            for cache in (web.snapshot, web.ready, web.metrics, web.table, web.fingerprint):
                cache.forget()

        async def get(path: str) -> None:
            answer = await client.get(path)
            # Without a living worker the scheduler is not healthy.
            if answer.status_code not in (HTTPStatus.OK, HTTPStatus.SERVICE_UNAVAILABLE):
                raise SystemExit(f"GET {path}: {answer.status_code}")

        transport = httpx.ASGITransport(served)
        accept = {"accept": "text/html"}
        async with httpx.AsyncClient(
            transport=transport, base_url="http://web", headers=accept
        ) as client:
            await client.post("/login", data={"token": token})
            # A day without ticks: how many the present one has depends on the time of day.
            ticks = f"/ticks?day={context.clock() + timedelta(days=2):%Y-%m-%d}"
            return {
                f"GET {path}": await guard.cost(
                    partial(get, ticks if path == "/ticks" else path), before=expire
                )
                for path in PAGES_OF_WEB
            }


async def _from_script(guard: Guard) -> None:
    # arq rounds the present to a millisecond: enqueued now, the job may be due only in the next.
    due = guard.context.clock() - timedelta(milliseconds=1)
    await guard.redis.enqueue_job("no_op", _defer_until=due)


async def _by_hand(guard: Guard) -> None:
    run_id = uuid4()
    request = run_rows.RunRequest(run_id, "no_op", {}, "guard", 3, 60)
    await run_rows.request(guard.context.pool, request, guard.context.clock())
    queued = run_rows.QueuedRun(run_id, "no_op")
    await enqueue.enqueue_runs(guard.context.pool, guard.context.redis, [queued])
    await guard.work()


async def _add_schedules(guard: Guard) -> None:
    more = [_declared(f"more_{number}", "no_op") for number in range(JOBS - 1)]
    await edit.register(guard.context.pool, more, guard.context.clock())


async def _runs_of_odds(guard: Guard, web: Standin) -> Figures:
    """The cost of a run that collects one site: all of whose pages changed, or none."""
    context, ctx = guard.context, guard.ctx
    await partitions.create_upcoming(context.pool, context.clock())

    async def scrape() -> None:
        await execute(
            ctx | {"job_id": uuid4().hex},
            odds.scrape_all_platforms,
            None,
            {"platforms": ["sportybet"]},
        )
        (run,) = await listing.runs(context.pool, RunFilter(), 1)
        (source,) = await listing.sources(context.pool, run["execution_id"])
        if (run["status"], source["pages"]) != (RunStatus.SUCCESS.value, PAGES):
            raise SystemExit(f"{source['pages']} pages; the run is {run['status']}")

    async def move() -> None:
        await asyncio.to_thread(web.world.advance)

    found = {
        f"run of odds, {PAGES} pages that changed": await guard.cost(scrape, before=move),
        f"run of odds, {PAGES} unchanged pages": await guard.cost(scrape),
    }
    # How often a request asks the rate limiter depends on how long the others take.
    return {
        name: {of: value for of, value in figures.items() if not of.startswith("redis")}
        for name, figures in found.items()
    }


def differences(found: Figures, known: Figures) -> list[str]:
    """Return a line for each figure that is not as recorded, or grew beyond its tolerance."""
    said: list[str] = []
    for scenario in sorted(found.keys() | known.keys()):
        mine, theirs = found.get(scenario), known.get(scenario)
        if mine is None or theirs is None:
            said.append(f"{scenario}: {'not measured' if mine is None else 'not recorded'}")
            continue
        for name, value in mine.items():
            recorded = theirs.get(name, 0.0)
            growth = 1.0 if name in COUNTS else WAL_GROWTH if name == "wal" else GROWTH
            if value > recorded * growth + (0 if name in COUNTS else 64):
                said.append(f"{scenario}: {name} grew from {recorded:g} to {value:g}")
            elif name in COUNTS and value < recorded:
                said.append(f"{scenario}: {name} fell from {recorded:g} to {value:g}: --write")
    return said


def show(found: Figures) -> None:
    """Print the figures as a table."""
    table = Table("", *(name.replace("_", " ") for name in (*NAMES, "wal")), box=None)
    for scenario, figures in found.items():
        table.add_row(
            scenario,
            *(f"{figures[name]:,.0f}" if name in figures else "" for name in (*NAMES, "wal")),
        )
    Console(width=160).print(table)


def main() -> None:
    """Measure, then compare or write."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/guard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--write", action="store_true", help="record the present figures")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="g") as folder:
        servers = embedded.start(Path(folder) / "s")
        try:
            migrations.upgrade(servers.database_url)
            asyncio.run(_without_page_images(servers.database_url))
            direct = ServerUrls(servers.database_url, servers.redis_url)
            found = asyncio.run(measure(direct, Path(folder)))
        finally:
            servers.close()
    show(found)
    if asked.write:
        FIGURES.write_text(json.dumps(found, indent=2) + "\n")
        return
    said = differences(found, json.loads(FIGURES.read_text()))
    sys.stderr.writelines(f"{line}\n" for line in said)
    sys.exit(bool(said))


async def _without_page_images(dsn: str) -> None:
    """Let a page's first change after a checkpoint log the change only, not the page."""
    connection = await asyncpg.connect(dsn.replace("//rollcall@", "//postgres@", 1))
    try:
        for setting in ("full_page_writes = off", "autovacuum = off", "synchronous_commit = off"):
            await connection.execute(f"ALTER SYSTEM SET {setting}")
        await connection.execute("SELECT pg_reload_conf()")
    finally:
        await connection.close()


if __name__ == "__main__":
    main()
