"""Measures the cost of the dashboard with 200 jobs and a million ticks, each with a run.

Pages are requested as by a browser, in this process, on private servers. Milliseconds from request
to last byte: `first_ms` of the first page of a new process, which knows nothing yet and connects
first; `ms` of a page that is read and drawn anew, by a process that keeps the ticks it has seen.
`cpu_ms` is what that costs this process in CPU, which a busy machine does not stretch, and
`first_cpu_ms` the same of the first page. `kept_ms`: of a page within the second for which the
table is kept. `sql_ms`: reading all of it from Postgres, as the first page does. `job_ms`: the page
of one job. Then each page as `scripts/bench/data` measures it, with ten million price changes too.
"""

import argparse
import asyncio
import json
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median
from typing import Any

import httpx
from pydantic import SecretStr
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from app.core.config import Config
from app.core.enums import Scope
from app.health import keys, publish
from app.health.facts import WorkerFacts
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.queue.jobs import redis_pool
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool, open_pool
from app.web import garbage
from app.web.application import create_app
from app.web.dashboard.jobs_table import read_board
from app.web.dashboard.tick_cache import TickCache
from app.web.dashboard.tick_slots import SHOWN_TICKS
from scripts.bench import dashboard_pages, data
from scripts.bench.data import PageFigures

EVERY = 300  # seconds between two ticks of a job
KEPT = 1.1  # seconds after which nothing read before is used again
BULK = timedelta(minutes=10)

FILL = (
    """
    INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,
                           evaluated_through, next_tick_at, due_at, created_at)
    SELECT name, name, $2, $3, '{}', 1,
           $4::timestamptz - $5 * interval '300 s', true, $4, $4 + interval '300 s',
           $4 + interval '300 s', $4
    FROM generate_series(1, $1::int) n
    CROSS JOIN LATERAL (SELECT 'job_' || lpad(n::text, greatest(3, length(n::text)), '0')) j (name)
    """,
    """
    INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
    SELECT id, 1, spec, policies, effective_from FROM schedules
    """,
    """
    INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status,
                      attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at,
                      started_at, completed_at, duration_seconds, stats, created_at)
    SELECT gen_random_uuid(), s.key, s.id, at, 'scheduled', '{}',
           CASE WHEN (t + s.id) % 17 = 0 THEN 'failure' ELSE 'success' END, 1, 0, 3, 240, 1, at,
           at + interval '30 ms', at + interval '3 s', 3 + random() * 4, '{}', at
    FROM generate_series(0, $1::int - 1) t CROSS JOIN schedules s
    CROSS JOIN LATERAL (SELECT $2::timestamptz - t * interval '300 s' AS at) a
    WHERE (t + s.id) % 23 <> 0
    """,
    """
    INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)
    SELECT schedule_id, scheduled_for, 1, 'ran', execution_id, scheduled_for FROM runs
    """,
    """
    INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)
    SELECT s.id, at, 1, 'missed', 'scheduler_down', at
    FROM generate_series(0, $1::int - 1) t CROSS JOIN schedules s
    CROSS JOIN LATERAL (SELECT $2::timestamptz - t * interval '300 s' AS at) a
    WHERE (t + s.id) % 23 = 0
    """,
)


@dataclass(frozen=True, slots=True)
class Figures:
    """Medians, in milliseconds; the page's size as it is sent."""

    jobs: int
    ticks: int
    first_ms: float
    ms: float
    most_ms: float
    cpu_ms: float
    first_cpu_ms: float
    kept_ms: float
    sql_ms: float
    job_ms: float
    kilobytes: float


def main() -> int:
    """Measure, and print a table."""
    asked = _asked()
    with tempfile.TemporaryDirectory(prefix="rc-") as folder:
        servers = embedded.start(Path(folder))
        try:
            migrations.upgrade(servers.database_url)
            figures, pages = asyncio.run(_measure(servers, asked))
        finally:
            servers.close()
    _show(figures)
    data.show(pages)
    if asked.json:
        named = {"dashboard": asdict(figures), "pages": [asdict(page) for page in pages]}
        print(json.dumps(named), flush=True)
    return 0 if all(page.ms < asked.limit for page in (figures, *pages)) else 1


def _asked() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/dashboard",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--jobs", type=int, default=200)
    parser.add_argument("--ticks", type=int, default=1_000_000, help="of all jobs together")
    parser.add_argument("--changes", type=int, default=10_000_000, help="of prices; 0 writes none")
    parser.add_argument("--items", type=int, default=1_000_000, help="with the changes of prices")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--limit", type=float, default=100, help="milliseconds; more exits with 1")
    parser.add_argument("--json", action="store_true", help="the figures as JSON in the last line")
    return parser.parse_args()


async def _measure(
    servers: embedded.Servers, asked: argparse.Namespace
) -> tuple[Figures, list[PageFigures]]:
    pool = await open_pool(servers.database_url, size=4)
    redis = redis_pool(servers.redis_url)
    try:
        each = max(asked.ticks // asked.jobs, 1)
        Console(stderr=True).print(f"Writing {each * asked.jobs:,} ticks ...", highlight=False)
        await _fill(pool, asked.jobs, each)
        if asked.changes:
            await data.fill(pool, asked.changes, asked.items)
        await dashboard_pages.fill(pool, asked.jobs)
        await publish.write(pool, redis, None, await publish.declared_jobs(redis))
        await keys.write_worker(redis, "w", 3600, WorkerFacts(seen_at=datetime.now(UTC)))
        return await _ask(servers, pool, asked, each)
    finally:
        pool.terminate()
        await redis.aclose(close_connection_pool=True)


async def _fill(pool: Pool, jobs: int, each: int) -> None:
    now = datetime.now(UTC).replace(microsecond=0)
    last = now  # so that nothing falls due while it is measured
    spec, policies = Schedule.every(EVERY, anchor=last).to_spec(), Policies().to_spec()
    values: tuple[tuple[Any, ...], ...] = (
        (jobs, spec, policies, last, each),
        (),
        (each, last),
        (),
        (each, last),
    )
    for statement, row in zip(FILL, values, strict=True):
        await pool.execute(statement, *row, timeout=BULK.total_seconds())
    await pool.execute(
        "INSERT INTO worker_beats (worker, since, until, jumped)"
        " SELECT 'w', $1::timestamptz - (n + 1) * interval '1 h', $1 - n * interval '1 h', false"
        " FROM generate_series(-1, 1500) n",
        now,
    )
    await pool.execute("VACUUM ANALYZE", timeout=BULK.total_seconds())


async def _ask(
    servers: embedded.Servers, pool: Pool, asked: argparse.Namespace, each: int
) -> tuple[Figures, list[PageFigures]]:
    config = Config(
        database_url=SecretStr(servers.database_url), redis_url=SecretStr(servers.redis_url)
    )
    now = datetime.now(UTC)
    token = await tokens.create_token(pool, TokenRequest(None, "b", Scope.READ), now, by="bench")
    app = create_app(config, importing=garbage.importing)  # as the web process does
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": state}, receive, send)

        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            answer = await client.post("/login", data={"token": token})
            if not answer.is_redirect:
                raise SystemExit(answer.text)
            figures = await _rounds(client, pool, asked, each)
            full = bool(asked.changes)
            return figures, await dashboard_pages.measure(client, pool, asked.rounds, full=full)


async def _rounds(
    client: httpx.AsyncClient, pool: Pool, asked: argparse.Namespace, each: int
) -> Figures:
    cold: list[float] = []
    cpu: list[float] = []
    kept: list[float] = []
    sql: list[float] = []
    job: list[float] = []
    spent = time.process_time()
    first = await _ms(lambda: client.get("/"))
    first_cpu = (time.process_time() - spent) * 1000
    page = await client.get("/")
    for _ in range(asked.rounds):
        await asyncio.sleep(KEPT)
        spent = time.process_time()
        cold.append(await _ms(lambda: client.get("/")))
        cpu.append((time.process_time() - spent) * 1000)
        kept.append(await _ms(lambda: client.get("/")))
        sql.append(
            await _ms(lambda: read_board(pool, timedelta(seconds=15), TickCache(SHOWN_TICKS)))
        )
        job.append(await _ms(lambda: client.get("/jobs/job_001")))
    size = len(page.content) / 1000
    if page.text.count("<tr") < asked.jobs:
        raise SystemExit(page.text[:500])
    return Figures(
        jobs=asked.jobs,
        ticks=each * asked.jobs,
        first_ms=round(first, 1),
        ms=round(median(cold), 1),
        most_ms=round(max(cold), 1),
        cpu_ms=round(median(cpu), 1),
        first_cpu_ms=round(first_cpu, 1),
        kept_ms=round(median(kept), 1),
        sql_ms=round(median(sql), 1),
        job_ms=round(median(job), 1),
        kilobytes=round(size, 1),
    )


async def _ms(ask: Callable[[], Awaitable[object]]) -> float:
    started = time.perf_counter()
    await ask()
    return (time.perf_counter() - started) * 1000


def _show(figures: Figures) -> None:
    table = Table(title=f"The dashboard: {figures.jobs} jobs, {figures.ticks:,} ticks")
    for name in ("first ms", "page ms", "most", "kept ms", "statements ms", "one job ms", "kB"):
        table.add_column(name, justify="right")
    table.add_row(
        f"{figures.first_ms}",
        f"{figures.ms}",
        f"{figures.most_ms}",
        f"{figures.kept_ms}",
        f"{figures.sql_ms}",
        f"{figures.job_ms}",
        f"{figures.kilobytes}",
    )
    Console().print(table)


if __name__ == "__main__":
    sys.exit(main())
