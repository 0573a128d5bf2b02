"""Rollcall in the whole-job benchmark: executes runs in this process, without rate limits.

Prints one JSON line: prices, cpu_s and wall_s of all rounds, and with --rss the memory after each.
"""

import argparse
import asyncio
import gc
import json
import resource
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from pydantic import SecretStr

from app import context as resources
from app.context import WorkerContext
from app.core import log
from app.core.config import load
from app.core.messages import HostLimits
from app.queue.jobs import redis_pool
from app.runs.leases import Leases
from app.sources.base import Source
from app.store.content import partitions
from app.store.runs import listing
from app.store.runs.listing import RunFilter
from app.store.servers import ServerUrls
from workers import odds
from workers.execute import execute
from workers.job import Job, job
from workers.run import Run

LIFTED = HostLimits(rate=100_000, burst=10_000, concurrency=8)
MOVED = 0.01


def advance(web: str, share: float) -> None:
    """Change the prices of a share of the matches."""
    body = json.dumps({"ticks": 1, "share": share}).encode()
    request = urllib.request.Request(f"{web}/control/advance", body, method="POST")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310 - our own stand-in


def cpu() -> float:
    """Return the CPU seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    """Return the resident memory of this process in MB; 0 without /proc."""
    stat = Path("/proc/self/statm")
    pages = int(stat.read_text().split()[1]) if stat.exists() else 0
    return pages * resource.getpagesize() / 1e6


def _lifted(source: Source) -> Source:
    lifted: Source = replace(cast("Any", source), limits=LIFTED)
    return lifted


async def rounds(asked: argparse.Namespace) -> dict[str, Any]:
    """Run a round over new data and `rounds` more, each after a small change; returns the sums."""
    config = load(
        _env_file=None,
        database_url=SecretStr(asked.dsn),
        redis_url=SecretStr(asked.redis),
        sportybet_url=f"{asked.web}/sportybet/factsCenter",
        betpawa_url=f"{asked.web}/betpawa",
        bet9ja_url=f"{asked.web}/bet9ja/PalimpsestAjax",
    )
    sources = [_lifted(source) for source in odds.every_source(config)]

    @job(name=odds.scrape_all_platforms.name, group=odds.GROUP)
    async def lifted(run: Run) -> None:
        await run.collect(sources)

    redis = redis_pool(asked.redis)
    limits = {source.name: LIFTED for source in sources}
    async with resources.open_context(
        config, ServerUrls(asked.dsn, asked.redis), redis, limits
    ) as context:
        await partitions.create_upcoming(context.pool, context.clock())
        leases = Leases(context.pool, context.clock, config.lease_seconds)
        ctx = {"context": context, "leases": leases, "redis": redis}
        found: dict[str, Any] = {"prices": 0, "cpu_s": 0.0, "wall_s": 0.0, "rss_mb": []}
        for number in range(asked.rounds + 1):
            if number:
                await asyncio.to_thread(advance, asked.web, MOVED)
            await one(ctx, context, lifted, found)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    await redis.aclose(close_connection_pool=True)
    return found


async def one(ctx: dict[str, Any], context: WorkerContext, job: Job, found: dict[str, Any]) -> None:
    """Execute one manual run and add its cost to `found`."""
    before, began = cpu(), time.perf_counter()
    ctx["job_id"] = uuid4().hex
    await execute(ctx, job)
    found["cpu_s"] += cpu() - before
    found["wall_s"] += time.perf_counter() - began
    (row,) = await listing.runs(context.pool, RunFilter(), 1)
    if row["status"] != "success":
        raise SystemExit(f"a run ended as {row['status']}: {row['error_message']}")
    found["prices"] += row["stats"]["prices"]
    found["rss_mb"].append(round(rss_mb(), 1))


def main() -> None:
    """Run the rounds and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--dsn", "--redis", "--web"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    log.configure("json", "warning")
    gc.freeze()  # as a worker does at its start
    print(json.dumps(asyncio.run(rounds(parser.parse_args()))))


if __name__ == "__main__":
    main()
