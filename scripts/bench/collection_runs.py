"""Executes collections of many organisations that are due at once, against a pretend site.

Each small organisation has one collection, each large one many; all become due at the same instant.
The site has many hosts: all organisations together may request one of them five times a second.
The workers are processes as production starts them, and collect a list of the pretend site for each
run. Printed: runs a second, CPU of the workers and of Postgres per run, log written, memory,
and how long the runs of small and of large organisations waited to start. Exit code 1 if a run did
not succeed, or if a tick has no outcome or two.
"""

import argparse
import asyncio
import json
import re
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from statistics import quantiles
from typing import Any

from app.ledger import proof
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.schedules.heartbeats import database_now
from scripts.bench.dispatch_orgs import fall_due
from scripts.bench.spent import cpu_seconds, memory_mb, spent, tree
from scripts.bench.worker_servers import WORKER, worker_servers
from scripts.child_processes import Child, child
from scripts.tcp_server import tcp_server

START_SECONDS = 10.0  # until the workers are idle
RECIPE = """name = "wares"
kind = "json"
url = "http://{host}:{port}/wares"
[limits]
rate = 50
burst = 50
[extract]
records = "items"
[extract.fields]
id = "id"
name = "name"
[store]
key = "id"
"""
INSERT = """
WITH orgs AS (
  INSERT INTO organizations (id, name)
  SELECT ('00000000-0000-4000-9000-' || lpad(to_hex(n), 12, '0'))::uuid,
         CASE WHEN n <= $2 THEN 'large ' ELSE 'small ' END || n
  FROM generate_series(1, $1::int) AS n RETURNING id, name
), presets AS (
  INSERT INTO collection_presets (id, org_id, name, sources, revision)
  SELECT id, id, 'wares', '[{"source": "recipe:wares", "params": {}}]', 1 FROM orgs
), sources AS (
  INSERT INTO org_sources (org_id, name, recipe, revision)
  SELECT id, 'wares', replace($4, '{host}', '127.0.' || host / 250 || '.' || host % 250 + 1), 1
  FROM (SELECT id, row_number() OVER (ORDER BY id) % $8::int AS host FROM orgs) AS numbered
), fresh AS (
  INSERT INTO schedules (key, job, org_id, preset_id, spec, policies, params, effective_from,
                         evaluated_through, next_tick_at, due_at, enabled, version)
  SELECT 'collection:' || id || CASE WHEN k > 1 THEN ':c' || k ELSE '' END, 'collection', id, id,
         $5::jsonb, $6::jsonb, '{}', $7::timestamptz - interval '1 minute',
         $7::timestamptz - interval '1 minute', $7, $7::timestamptz + interval '1 day', true, 1
  FROM orgs CROSS JOIN LATERAL
    generate_series(1, CASE WHEN name LIKE 'large%' THEN $3::int ELSE 1 END) AS k
  RETURNING id, spec, policies, effective_from
)
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM fresh
"""
ENDED = """
SELECT count(*) FILTER (WHERE completed_at IS NOT NULL) AS ended,
       count(*) FILTER (WHERE completed_at IS NOT NULL AND status <> 'success') AS bad
FROM runs WHERE org_id IS NOT NULL
"""
WAITED = """
SELECT o.name LIKE 'large%' AS large, extract(epoch FROM r.started_at - $1)::float8 AS seconds
FROM runs r JOIN organizations o ON o.id = r.org_id WHERE r.started_at IS NOT NULL
"""
SPAN = """
SELECT extract(epoch FROM max(completed_at) - $1)::float8 FROM runs WHERE org_id IS NOT NULL
"""


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is measured: small and large organisations, and how they are executed."""

    organizations: int
    large: int
    per_large: int
    workers: int
    items: int
    hosts: int
    timeout: float

    @property
    def collections(self) -> int:
        """How many collections there are."""
        return self.organizations - self.large + self.large * self.per_large


@dataclass(slots=True)
class Probe:
    """The workers, and the most memory that one of them with its children has needed."""

    workers: list[Child]
    peak_mb: float = 0.0

    def look(self) -> None:
        """Note the memory, and fail if a worker has ended."""
        for worker in self.workers:
            if worker.process.returncode is not None:
                raise SystemExit(f"a worker ended; see {worker.log}")
            used = sum(memory_mb(pid) for pid in tree(worker.process.pid))
            self.peak_mb = max(self.peak_mb, round(used, 1))

    def cpu_seconds(self) -> float:
        """CPU seconds of the workers and of all that they have started."""
        return sum(cpu_seconds(one.process.pid) for one in self.workers)


@dataclass(slots=True)
class Site:
    """Serve the pretend site, whose every page is a list of items, another on each host."""

    items: int
    port: int = 0
    requests: int = 0

    def _answer(self, head: bytes) -> bytes:
        host = re.search(rb"(?i)host: ([\d.]+)", head)
        name = host[1].decode() if host else ""
        found = [{"id": str(n), "name": f"Ware {n} of {name}"} for n in range(self.items)]
        body = json.dumps({"items": found}).encode()
        kind = "content-type: application/json"
        return f"HTTP/1.1 200 OK\r\n{kind}\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Answer the requests of one connection."""
        while head := await reader.readuntil(b"\r\n\r\n"):
            self.requests += 1
            writer.write(self._answer(head))
            await writer.drain()


@asynccontextmanager
async def serving(items: int) -> AsyncGenerator[Site]:
    """Serve the site on a port of its own."""
    site = Site(items)
    # On all addresses, of which those of the loopback are the hosts.
    async with tcp_server(site.serve, "0.0.0.0", backlog=1000) as site.port:  # noqa: S104
        yield site


async def measure(wanted: Wanted) -> dict[str, Any]:
    """Return the figures."""
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(
            worker_servers(2, 20.0, GUARD_ALLOW="127.0.0.0/8")
        )
        pool = servers.pool
        site = await stack.enter_async_context(serving(wanted.items))
        await _insert(pool, wanted, site.port)
        workers = [
            await stack.enter_async_context(child(f"worker-{n}", WORKER, servers.environment))
            for n in range(wanted.workers)
        ]
        await asyncio.sleep(START_SECONDS)
        found = await _observe(pool, wanted, Probe(workers))
        return found | {"requests": site.requests} | await _verify(pool)


async def _insert(pool: Pool, wanted: Wanted, port: int) -> None:
    tick = datetime.now(UTC).replace(second=0, microsecond=0)
    # Once a year: it must not be due again before the end.
    expression = f"{tick.minute} {tick.hour} {tick.day} {tick.month} *"
    spec = Schedule.cron(expression, "UTC").to_spec()
    policies = Policies(misfire_grace=timedelta(hours=6), timeout=900).to_spec()
    recipe = RECIPE.replace("{port}", str(port))
    values = (wanted.organizations, wanted.large, wanted.per_large)
    async with pool.acquire() as connection:
        await connection.execute(
            INSERT, *values, recipe, spec, policies, tick, wanted.hosts, timeout=600
        )
        await connection.execute("VACUUM ANALYZE", timeout=600)


async def _observe(pool: Pool, wanted: Wanted, probe: Probe) -> dict[str, Any]:
    before = await spent(pool, probe.cpu_seconds())
    due = await database_now(pool)
    async with pool.acquire() as connection:
        await fall_due(connection, due)
    deadline = time.monotonic() + wanted.timeout
    ended = bad = 0
    while ended < wanted.collections and time.monotonic() < deadline:
        await asyncio.sleep(1)
        probe.look()
        ended, bad = await pool.fetchrow(ENDED) or (0, 0)
    used = await spent(pool, probe.cpu_seconds()) - before
    seconds: float = await pool.fetchval(SPAN, due) or 0.0
    runs = max(ended, 1)
    return {
        "organizations": wanted.organizations,
        "collections": wanted.collections,
        "ended": ended,
        "without_success": bad,
        "seconds": round(seconds, 1),
        "runs_per_second": round(ended / seconds, 1) if seconds else 0.0,
        "worker_cpu_ms_per_run": round(used.cpu * 1000 / runs, 2),
        "postgres_cpu_ms_per_run": round(used.postgres * 1000 / runs, 2),
        "wal_kb_per_run": round(used.wal_kb / runs, 1),
        "peak_mb_of_a_worker": probe.peak_mb,
        "waiting": await _waiting(pool, due),
    }


async def _waiting(pool: Pool, due: datetime) -> dict[str, dict[str, float]]:
    """Seconds from the due instant to the start of runs, of small and large organisations."""
    rows = await pool.fetch(WAITED, due)
    found: dict[str, dict[str, float]] = {}
    for name, large in (("small", False), ("large", True)):
        seconds = sorted(row["seconds"] for row in rows if row["large"] is large)
        if len(seconds) > 1:
            cuts = quantiles(seconds, n=100, method="inclusive")
            found[name] = {
                "p50": round(cuts[49], 2),
                "p99": round(cuts[98], 2),
                "max": round(seconds[-1], 2),
            }
    return found


async def _verify(pool: Pool) -> dict[str, int]:
    accounts = await proof.verify(pool, await database_now(pool))
    return {
        "unaccounted": sum(account.unaccounted for account in accounts),
        "duplicates": sum(account.duplicates + account.unexpected for account in accounts),
    }


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark as the command line says; returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/collections",
        description=__doc__,
        epilog="Example: scripts/bench/collections --organizations 5000 --workers 2 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--organizations", type=int, default=1000, help="up to 100000")
    parser.add_argument("--large", type=int, default=2, help="of them, with many collections")
    parser.add_argument("--per-large", type=int, default=100, help="collections of a large one")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--items", type=int, default=20, help="in the list of the site")
    parser.add_argument("--hosts", type=int, default=250, help="of the site, up to 50000")
    parser.add_argument("--timeout", type=float, default=3600.0, help="seconds for all runs")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = vars(parser.parse_args(argv))
    as_json = asked.pop("json")
    wanted = Wanted(**asked)
    found = asyncio.run(measure(wanted))
    lines = [json.dumps(found)] if as_json else [f"{k}: {v}" for k, v in found.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    complete = found["ended"] == found["collections"] and not found["without_success"]
    return 0 if complete and not (found["unaccounted"] or found["duplicates"]) else 1


if __name__ == "__main__":
    sys.exit(main())
