"""Measures the cost of storing odds against other methods, and of the whole job against Scrapy.

A listing of 60,000 prices is stored for the first time, then with one price in a hundred changed,
with none changed, and with all changed; each contender on its own database, in turns, on the same
server, in pages of 100 events. Ours does everything that a run does for a page: events, prices,
history, counters, fenced by the lease epoch. The limit is one statement that copies the listing
from a table in the same database and keeps the history too. The others write the prices alone.

`rows_s` is prices per second, `cpu_s` the CPU of the client and of its server process,
`wal_bytes` the size of the WAL written. The ORM merges a sample of 1,000 prices.

The whole job lasts from the first request to the stand-in to the last commit, without rate limits:
one round over new data and some with one match in a hundred changed, in our worker's code and in
Scrapy with a pipeline that upserts through asyncpg.
"""

import argparse
import asyncio
import json
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import timedelta
from pathlib import Path
from statistics import median
from urllib.parse import urlsplit

import asyncpg
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from app.core.records import OddsEvent
from app.store import db
from scripts.bench import odds_board as source
from scripts.bench import odds_job, odds_plans
from scripts.bench.odds_ways import WAYS, Way

CASES = {"first": None, "moved_1pct": 0.01, "unmoved": 0.0, "all_moved": 1.0}
TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of one case of one contender. `prices` is the number stored."""

    rows_s: float
    cpu_s: float
    wal_bytes: int
    prices: int

    @classmethod
    def of(cls, turns: Sequence["Figures"]) -> "Figures":
        return cls(
            rows_s=round(median(one.rows_s for one in turns)),
            cpu_s=round(median(one.cpu_s for one in turns), 3),
            wal_bytes=round(median(one.wal_bytes for one in turns)),
            prices=turns[0].prices,
        )


Found = dict[str, dict[str, Figures]]


async def turn(server: str, name: str, boards: dict[str, list[OddsEvent]]) -> dict[str, Figures]:
    """Run one contender through all cases, on a new database."""
    dsn = await _fresh(server, name)
    pool = await db.open_pool(dsn, size=1)
    connection = await pool.acquire()
    way = Way(dsn, connection)
    if name != "ours":
        await way.events(boards["first"])
    try:
        return {
            case: await _case(way, name, boards[case], at) for at, case in enumerate(CASES, start=1)
        }
    finally:
        if way.engine is not None:
            await way.engine.dispose()
        pool.terminate()


async def _case(way: Way, name: str, events: list[OddsEvent], at: int) -> Figures:
    await way.connection.execute("VACUUM ANALYZE")
    step = await WAYS[name](way, events, source.START + timedelta(minutes=5 * at))
    wal, server = await _wal(way.connection), await _server_cpu(way)
    cpu, began = time.process_time(), time.perf_counter()
    prices = await step()
    seconds, cpu = time.perf_counter() - began, time.process_time() - cpu
    return Figures(
        rows_s=prices / seconds,
        cpu_s=cpu + await _server_cpu(way) - server,
        wal_bytes=await _wal(way.connection) - wal,
        prices=prices,
    )


async def _wal(connection: db.Connection) -> int:
    return int(await connection.fetchval("SELECT pg_current_wal_insert_lsn() - '0/0'::pg_lsn"))


async def _server_cpu(way: Way) -> float:
    """Return the seconds of CPU of all server processes of this database; 0 without /proc."""
    rows = await way.connection.fetch(
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database()"
    )
    stats = [Path(f"/proc/{row[0]}/stat") for row in rows]
    fields = [stat.read_text().rpartition(")")[2].split() for stat in stats if stat.exists()]
    return sum(int(each[11]) + int(each[12]) for each in fields) / TICKS


async def _fresh(server: str, name: str) -> str:
    maintenance = urlsplit(server)._replace(path="/postgres").geturl()
    connection = await asyncpg.connect(maintenance)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "odds_{name}"')
        await connection.execute(f'CREATE DATABASE "odds_{name}" TEMPLATE "rollcall"')
    finally:
        await connection.close()
    return urlsplit(server)._replace(path=f"/odds_{name}").geturl()


def measure(server: str, prices: int, rounds: int) -> Found:
    """Run every contender in turn, `rounds` times; returns the medians."""
    boards = {"first": source.board(prices)}
    last = boards["first"]
    for seed, (case, share) in enumerate(CASES.items()):
        if share is not None:
            last = boards[case] = source.moved(last, share, seed)
    turns: dict[str, list[dict[str, Figures]]] = {name: [] for name in WAYS}
    for number in range(rounds):
        names = list(WAYS) if number % 2 == 0 else list(reversed(WAYS))
        for name in names:
            turns[name].append(asyncio.run(turn(server, name, boards)))
    return {
        case: {name: Figures.of([each[case] for each in turns[name]]) for name in WAYS}
        for case in CASES
    }


def show(found: Found) -> None:
    """Print the figures as a table."""
    table = Table(title="Storing a board of odds (medians)")
    for name in ("case", "way", "prices/s", "CPU µs/price", "WAL bytes/1,000", "ours is"):
        table.add_column(name, justify="left" if name in ("case", "way") else "right")
    for case, ways in found.items():
        ours = ways["ours"]
        for name, one in ways.items():
            per = f"{one.cpu_s * 1e6 / one.prices:.1f}"
            wal = f"{one.wal_bytes * 1000 / one.prices:,.0f}"
            faster = f"{ours.rows_s / one.rows_s:.2f} x"
            table.add_row(case, name, f"{one.rows_s:,.0f}", per, wal, faster)
        table.add_section()
    Console().print(table)
    for line in verdicts(found):
        Console().print(line)


def verdicts(found: Found) -> list[str]:
    """Return the ratios, each with its target in parentheses."""
    one, none, all_ = (found[case] for case in ("moved_1pct", "unmoved", "all_moved"))
    wal = one["core"].wal_bytes / max(one["ours"].wal_bytes, 1)
    kilo = none["ours"].wal_bytes * 1000 / none["ours"].prices
    return [
        f"1 % moved: {one['ours'].rows_s / one['core'].rows_s:.1f} x Core's rows/s (10),"
        f" {wal:.1f} x less WAL (5)",
        f"nothing moved: {kilo:,.0f} bytes of WAL for 1,000 prices (1,024)",
        f"all moved: {all_['ours'].rows_s / all_['limit'].rows_s:.2f} of the limit (0.7)",
    ]


def main() -> None:
    """Measure and print."""
    asked = _parser().parse_args()
    rounds = 1 if asked.quick else asked.rounds
    prices = 12_000 if asked.quick else asked.prices
    plain: dict[str, object] = {}
    with tempfile.TemporaryDirectory(prefix="odds") as folder:
        servers = embedded.start(Path(folder) / "servers")
        try:
            migrations.upgrade(servers.database_url)
            if not asked.no_store:
                found = measure(servers.database_url, prices, rounds)
                show(found)
                plain = {
                    case: {name: asdict(one) for name, one in ways.items()}
                    for case, ways in found.items()
                }
            if not asked.no_job:
                plain["job"] = odds_job.measure(servers, Path(folder), quick=asked.quick)
            if asked.memory:
                plain["memory"] = odds_job.memory(servers, Path(folder), asked.memory)
            if asked.plans:
                plain["plans"] = asyncio.run(
                    odds_plans.measure(servers.database_url, asked.changes)
                )
        finally:
            servers.close()
    if asked.json:
        print(json.dumps(plain))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scripts/bench/odds",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--prices", type=int, default=60_000, help="of a board (default: %(default)s)")
    add("--rounds", type=int, default=3, help="turns of each contender (default: %(default)s)")
    add("--quick", action="store_true", help="one turn each, on a fifth of the prices")
    add("--no-job", action="store_true", help="leave out the whole job and Scrapy")
    add("--no-store", action="store_true", help="leave out the ways of storing")
    add("--memory", type=int, default=0, help="also the memory over so many rounds")
    add("--plans", action="store_true", help="also the plans of the comparison on generated moves")
    add("--changes", type=int, default=10_000_000, help="moves to generate for --plans")
    add("--json", action="store_true", help="print one JSON object as the last line")
    return parser


if __name__ == "__main__":
    main()
