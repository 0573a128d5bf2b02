"""An accelerated day: 288 rounds of odds, 96 of news, 24 of stories, through a real worker.

The worker is a process as production starts it, with private servers and the stand-in for the web,
each a process of its own. An interval of five minutes takes `--round` seconds, and one match in a
hundred moves its prices in between. Printed at the start (after the first rounds, when everything
has been opened) and at the end: memory of the worker, connections, size of the tables with their
indexes, dead tuples; then what a tick, a run, a page and a price cost. Exit code 1 if a tick has no
outcome or two by `verify` or by scripts/recount, the two differ, a run did not succeed, or memory
or connections grew.
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import urllib.request
from collections.abc import Mapping
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median
from typing import Any

import asyncpg
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from app.ledger import proof
from app.store.db import open_pool
from app.store.schedules import heartbeats
from scripts import recount
from scripts.child_processes import Child, ChildEnvironment, child
from scripts.drill import judge

ROOT = Path(__file__).resolve().parents[2]
DAY = 288
WARM_UP = 5  # rounds until everything has been opened once
MOVED = 0.01
POOL = 10  # connections that the worker may hold
NEWS, STORIES = 3, 12  # rounds of odds to one of these
PAGE_MB = os.sysconf("SC_PAGE_SIZE") / 1e6
TICKS = os.sysconf("SC_CLK_TCK")
MAX_GROWTH = 1.15  # of the last tenth's memory over the second tenth's

SIZES = """
SELECT count(*) FILTER (WHERE relkind = 'r') AS tables,
       sum(pg_table_size(c.oid)) FILTER (WHERE relkind = 'r') / 1e6 AS table_mb,
       sum(pg_indexes_size(c.oid)) FILTER (WHERE relkind = 'r') / 1e6 AS index_mb,
       (SELECT sum(n_dead_tup) FROM pg_stat_user_tables) AS dead_tuples,
       (SELECT count(*) FROM pg_stat_activity
        WHERE backend_type = 'client backend' AND application_name = 'rollcall') AS connections,
       pg_current_wal_lsn() - '0/0' AS wal_bytes
FROM pg_class c WHERE relnamespace = 'public'::regnamespace
"""
DONE = """
SELECT count(*) FILTER (WHERE job = 'scrape_all_platforms') AS odds,
       count(*) FILTER (WHERE job = 'poll_news') AS news,
       count(*) FILTER (WHERE job = 'poll_stories') AS stories,
       count(*) FILTER (WHERE status <> 'success') AS bad
FROM runs WHERE completed_at IS NOT NULL
"""
WORK = """
SELECT count(DISTINCT execution_id) AS runs, sum(pages) AS pages, sum(requests) AS requests,
       sum((counts ->> 'prices')::bigint) AS prices, sum(inserted + changed) AS written
FROM run_sources
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """Resource usage of worker and servers at one moment."""

    rss_mb: float
    connections: int
    table_mb: float
    index_mb: float
    dead_tuples: int
    redis_mb: float
    wal_mb: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Place:
    """The servers, the worker, the stand-in sites and a connection of one soak run."""

    servers: embedded.Servers
    worker: Child
    web: str
    connection: Any


def main() -> int:
    """Run the day and print the figures; returns the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=DAY, help="of odds (default: 288, a day)")
    parser.add_argument("--round", type=float, default=2.0, help="seconds for one (default: 2)")
    parser.add_argument("--events", type=int, default=100, help="matches a site (default: 100)")
    parser.add_argument("--json", action="store_true", help="also one JSON object, the last line")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="soak") as folder:
        servers = embedded.start(Path(folder) / "data")
        try:
            migrations.upgrade(servers.database_url)
            found = asyncio.run(_day(asked, servers, Path(folder)))
        finally:
            servers.close()
    _show(found)
    if asked.json:
        print(json.dumps(found))
    return 0 if found["well"] else 1


async def _day(
    asked: argparse.Namespace, servers: embedded.Servers, folder: Path
) -> dict[str, Any]:
    async with AsyncExitStack() as stack:
        ready = folder / "web.url"
        around = ChildEnvironment(dict(os.environ), ROOT, folder, 5)  # noqa: TID251 - for the child
        options = ("--port", "0", "--events", str(asked.events), "--ready-file", str(ready))
        key = ("--asknews-key", "soak", "--asknews-rate", "0", "--move-share", str(MOVED))
        await stack.enter_async_context(child("web", ("scripts.standin", *options, *key), around))
        web = await _url(ready)
        env = {**around.env, **_settings(servers, web, asked.round)}
        worker = await stack.enter_async_context(
            child("worker", ("scripts.bench.soak_worker",), ChildEnvironment(env, ROOT, folder, 40))
        )
        connection = await asyncpg.connect(servers.database_url)
        stack.push_async_callback(connection.close)
        place = Place(servers, worker, web, connection)
        found = await _observe(place, asked)
        await worker.stop(40)
        return found | await _verify(servers.database_url, found)


def _settings(servers: embedded.Servers, web: str, seconds: float) -> Mapping[str, str]:
    return {
        "DATABASE_URL": servers.database_url,
        "REDIS_URL": servers.redis_url,
        "SPORTYBET_URL": f"{web}/sportybet/factsCenter",
        "BETPAWA_URL": f"{web}/betpawa",
        "BET9JA_URL": f"{web}/bet9ja/PalimpsestAjax",
        "ASKNEWS_URL": f"{web}/asknews/v1",
        "ASKNEWS_TOKEN_URL": f"{web}/asknews/oauth2/token",
        "ASKNEWS_API_KEY": "soak",
        "TRACKED_ENTITIES": "Arsenal,Chelsea,Liverpool",
        "SCRAPE_INTERVAL_MINUTES": str(seconds / 60),
        "NEWS_INTERVAL_MINUTES": str(seconds * NEWS / 60),
        "STORIES_INTERVAL_MINUTES": str(seconds * STORIES / 60),
        "DATABASE_POOL_SIZE": str(POOL),
        "LOG_LEVEL": "warning",
        "LOG_FORMAT": "json",
    }


async def _url(ready: Path) -> str:
    for _ in range(600):
        if await asyncio.to_thread(ready.exists):
            return (await asyncio.to_thread(ready.read_text)).split()[0]
        await asyncio.sleep(0.1)
    raise SystemExit("the stand-in did not start")


async def _observe(place: Place, asked: argparse.Namespace) -> dict[str, Any]:
    start: Usage | None = None
    before: dict[str, int] = {}
    held: list[float] = []
    seen = 0
    done: Any = None
    while seen < asked.rounds:
        _check_alive(place.worker)
        await asyncio.sleep(asked.round / 4)
        done = await place.connection.fetchrow(DONE)
        if done["odds"] == seen:
            continue
        seen = done["odds"]
        await asyncio.to_thread(_advance, place.web)
        held.append(_rss_mb(_python(place.worker)))
        _report(seen, asked.rounds, held[-1])
        if start is None and seen >= WARM_UP:
            start, before = await _usage(place), await _work(place)
    end, work = await _usage(place), await _work(place)
    return {
        "rounds": seen,
        "runs": {name: done[name] for name in ("odds", "news", "stories")},
        "bad": done["bad"],
        "start": asdict(start or end),
        "end": asdict(end),
        "held_mb": _tenths(held),
        "work": {name: count - before.get(name, 0) for name, count in work.items()},
    }


async def _work(place: Place) -> dict[str, int]:
    row = await place.connection.fetchrow(WORK)
    return {name: int(value or 0) for name, value in row.items()}


def _tenths(held: list[float]) -> dict[str, float]:
    tenth = max(1, len(held) // 10)
    early = held[tenth : 2 * tenth] or held
    return {"second_tenth": median(early), "last_tenth": median(held[-tenth:]), "peak": max(held)}


async def _verify(dsn: str, found: dict[str, Any]) -> dict[str, Any]:
    pool = await open_pool(dsn, size=2)
    try:
        accounts = await proof.verify(pool, await heartbeats.database_now(pool))
        ticks = sum(account.expected for account in accounts)
        recounted = judge.differences(accounts, await recount.recount(dsn))
    finally:
        await pool.close()
    unaccounted = sum(account.unaccounted for account in accounts)
    doubled = sum(account.duplicates + account.unexpected for account in accounts)
    held = found["held_mb"]
    flat = held["last_tenth"] <= held["second_tenth"] * MAX_GROWTH
    calm = found["end"]["connections"] <= POOL
    return {
        "ticks": ticks,
        "unaccounted": unaccounted,
        "duplicates": doubled,
        "recount_faults": recounted,
        "per": _costs(found),
        "well": flat and calm and not (unaccounted or doubled or recounted or found["bad"]),
    }


def _costs(found: dict[str, Any]) -> dict[str, float]:
    cpu_ms = (found["end"]["cpu_s"] - found["start"]["cpu_s"]) * 1000
    wal_kb = (found["end"]["wal_mb"] - found["start"]["wal_mb"]) * 1000
    work = found["work"]
    return {
        "cpu_ms_a_run": round(cpu_ms / max(1, work["runs"]), 2),
        "cpu_ms_a_page": round(cpu_ms / max(1, work["pages"]), 2),
        "cpu_us_a_price": round(cpu_ms * 1000 / max(1, work["prices"]), 2),
        "wal_kb_a_run": round(wal_kb / max(1, work["runs"]), 1),
        "wal_kb_a_page": round(wal_kb / max(1, work["pages"]), 2),
    }


async def _usage(place: Place) -> Usage:
    await place.connection.execute("SELECT pg_stat_force_next_flush()")
    row = await place.connection.fetchrow(SIZES)
    pid = _python(place.worker)
    return Usage(
        rss_mb=_rss_mb(pid),
        connections=row["connections"],
        table_mb=round(float(row["table_mb"]), 2),
        index_mb=round(float(row["index_mb"]), 2),
        dead_tuples=int(row["dead_tuples"] or 0),
        redis_mb=await _redis_mb(place.servers.redis_url),
        wal_mb=round(float(row["wal_bytes"]) / 1e6, 2),
        cpu_s=_cpu_s(pid),
    )


async def _redis_mb(url: str) -> float:
    from app.queue.jobs import redis_pool  # noqa: PLC0415 - only now is there a server

    redis: Any = redis_pool(url)
    try:
        info = await redis.info("memory")
    finally:
        await redis.aclose(close_connection_pool=True)
    return round(info["used_memory"] / 1e6, 2)


def _python(worker: Child) -> int:
    """Return the worker's process id, the child of its launcher."""
    pid = worker.process.pid
    below = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return int(below[0]) if below else pid


def _rss_mb(pid: int) -> float:
    return round(int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * PAGE_MB, 1)


def _cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _check_alive(worker: Child) -> None:
    if worker.process.returncode is not None:
        raise SystemExit(f"the worker ended; see {worker.log}:\n{worker.log.read_text()[-2000:]}")


def _advance(web: str) -> None:
    body = json.dumps({"ticks": 1, "share": MOVED}).encode()
    request = urllib.request.Request(f"{web}/control/advance", body, method="POST")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310 - our own stand-in


def _report(done: int, of: int, rss: float) -> None:
    if done % 24 == 0 or done == of:
        Console(stderr=True).print(f"{done} of {of} rounds, {rss:.0f} MB", highlight=False)


def _show(found: dict[str, Any]) -> None:
    table = Table("", "start", "end", title="an accelerated day", title_justify="left")
    for name in found["start"]:
        table.add_row(name, *(f"{found[when][name]:,}" for when in ("start", "end")))
    console = Console(highlight=False)
    console.print(table)
    console.print(f"runs: {found['runs']}, not a success: {found['bad']}")
    console.print(f"memory: {found['held_mb']}")
    console.print(f"work: {found['work']}")
    console.print(f"costs: {found['per']}")
    console.print(
        f"ticks: {found['ticks']}, unaccounted: {found['unaccounted']},"
        f" duplicates: {found['duplicates']}; faults by the recount:"
        f" {found['recount_faults'] or 'none'}"
    )


if __name__ == "__main__":
    sys.exit(main())
