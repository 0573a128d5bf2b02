"""Ours, for the whole job: runs in this process as a worker does them, with all limits lifted.

Prints one JSON line: prices, cpu_s and wall_s of all rounds, and with --rss the memory after each.
"""

import argparse
import asyncio
import json
import resource
import time
import urllib.request
from dataclasses import replace
from pathlib import Path
from typing import Any, cast
from uuid import uuid4

from pydantic import SecretStr

from app import log, resources
from app.config import Config, load
from app.messages import Limits
from app.queue import redis_pool
from app.resources import House, Urls
from app.runs import Leases
from app.sources.base import Source
from app.store import months, runs
from workers import odds, spine

LIFTED = Limits(rate=100_000, burst=10_000, concurrency=8)
MOVED = 0.01


def advance(web: str, share: float) -> None:
    """Let the prices of a share of the matches move."""
    body = json.dumps({"ticks": 1, "share": share}).encode()
    request = urllib.request.Request(f"{web}/control/advance", body, method="POST")  # noqa: S310
    urllib.request.urlopen(request).close()  # noqa: S310 - our own stand-in


def cpu() -> float:
    """Seconds of this process so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def rss_mb() -> float:
    """What this process holds in memory now, in MB; nought where there is no /proc."""
    stat = Path("/proc/self/statm")
    pages = int(stat.read_text().split()[1]) if stat.exists() else 0
    return pages * resource.getpagesize() / 1e6


def _lifted(source: Source) -> Source:
    lifted: Source = replace(cast("Any", source), limits=LIFTED)
    return lifted


async def rounds(asked: argparse.Namespace) -> dict[str, Any]:
    """The first round over a new world, and more, each over a world that moved a little."""
    config = load(
        _env_file=None,
        database_url=SecretStr(asked.dsn),
        redis_url=SecretStr(asked.redis),
        sportybet_url=f"{asked.web}/sportybet/factsCenter",
        betpawa_url=f"{asked.web}/betpawa",
        bet9ja_url=f"{asked.web}/bet9ja/PalimpsestAjax",
    )
    sources = [_lifted(source) for source in odds.every_source(config)]

    def lifted(_: Config, __: Any) -> list[Source]:
        return sources

    job = replace(odds.JOB, sources=lifted)
    redis = redis_pool(asked.redis)
    limits = {source.name: LIFTED for source in sources}
    async with resources.opened(config, Urls(asked.dsn, asked.redis), redis, limits) as house:
        await months.ready(house.pool, house.clock())
        leases = Leases(house.pool, house.clock, config.lease_seconds)
        ctx = {"house": house, "leases": leases, "redis": redis}
        found: dict[str, Any] = {"prices": 0, "cpu_s": 0.0, "wall_s": 0.0, "rss_mb": []}
        for number in range(asked.rounds + 1):
            if number:
                await asyncio.to_thread(advance, asked.web, MOVED)
            await one(ctx, house, job, found)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e6
    await redis.aclose(close_connection_pool=True)
    return found


async def one(ctx: dict[str, Any], house: House, job: Any, found: dict[str, Any]) -> None:
    """One run by hand, counted."""
    before, began = cpu(), time.perf_counter()
    ctx["job_id"] = uuid4().hex
    await spine.perform(ctx, job, None, {})
    found["cpu_s"] += cpu() - before
    found["wall_s"] += time.perf_counter() - began
    (row,) = await runs.recent(house.pool, 1)
    if row["status"] != "success":
        raise SystemExit(f"a run ended as {row['status']}: {row['error_message']}")
    found["prices"] += row["stats"]["prices"]
    found["rss_mb"].append(round(rss_mb(), 1))


def main() -> None:
    """Do the rounds and print what they took."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--dsn", "--redis", "--web"):
        parser.add_argument(name, required=True)
    parser.add_argument("--rounds", type=int, default=3)
    log.configure("json", "warning")
    print(json.dumps(asyncio.run(rounds(parser.parse_args()))))


if __name__ == "__main__":
    main()
