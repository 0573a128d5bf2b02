"""The whole-job benchmark: ours against Scrapy, from first request to last commit."""

import asyncio
import json
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any
from urllib.parse import urlsplit

import asyncpg
from rich.console import Console

from app import embedded
from scripts.bench import rivals

EVENTS = 1_000  # a site
ROUNDS = 3  # after the first
TIMEOUT = 3600.0


def measure(servers: embedded.Servers, folder: Path, *, quick: bool) -> dict[str, Any]:
    """Run both contenders over equal data; CPU is that of the client process."""
    scrapy = rivals.environment("scrapy", "scrapy==2.13.*", "asyncpg>=0.30")
    events, rounds = (200, 1) if quick else (EVENTS, ROUNDS)
    script = Path(__file__).with_name("odds_scrapy.py")
    commands = {
        "ours": [sys.executable, "-m", "scripts.bench.odds_worker", "--redis", servers.redis_url],
        "scrapy": [str(scrapy), str(script)],
    }
    found = {
        name: _turn(servers.database_url, folder, name, [*command, "--rounds", str(rounds)], events)
        for name, command in commands.items()
    }
    _show(found)
    return found


def memory(servers: embedded.Servers, folder: Path, rounds: int) -> dict[str, float]:
    """Return the memory of our process over `rounds` of a whole listing, in MB."""
    command = [sys.executable, "-m", "scripts.bench.odds_worker", "--redis", servers.redis_url]
    figures = _turn(
        servers.database_url, folder, "memory", [*command, "--rounds", str(rounds)], EVENTS
    )
    held: list[float] = figures["rss_mb"]  # pyright: ignore[reportAssignmentType] - a list of them
    tenth = max(1, len(held) // 10)
    found = {
        "rounds": float(len(held)),
        "first_tenth_mb": round(median(held[:tenth]), 1),
        "last_tenth_mb": round(median(held[-tenth:]), 1),
        "peak_mb": round(figures["peak_mb"], 1),
    }
    Console().print(f"memory: {found}")
    return found


def _turn(
    server: str, folder: Path, name: str, command: list[str], events: int
) -> dict[str, float]:
    dsn = asyncio.run(_fresh(server, f"job_{name}"))
    ready = folder / f"{name}.url"
    options = ["--port", "0", "--events", str(events), "--ready-file", str(ready)]
    web = subprocess.Popen(  # noqa: S603 - our own stand-in
        [sys.executable, "-m", "scripts.standin", *options],
        cwd=rivals.ROOT,
        stdout=subprocess.DEVNULL,
    )
    try:
        url = _url(ready, web)
        ran = subprocess.run(  # noqa: S603 - our own contenders
            [*command, "--dsn", dsn, "--web", url],
            cwd=rivals.ROOT,
            stdout=subprocess.PIPE,
            timeout=TIMEOUT,
            check=True,
        )
    finally:
        web.terminate()
        web.wait()
    figures: dict[str, float] = json.loads(ran.stdout.splitlines()[-1])
    return figures


async def _fresh(server: str, name: str) -> str:
    connection = await asyncpg.connect(urlsplit(server)._replace(path="/postgres").geturl())
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}"')
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "rollcall"')
    finally:
        await connection.close()
    return urlsplit(server)._replace(path=f"/{name}").geturl()


def _url(ready: Path, web: "subprocess.Popen[bytes]") -> str:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and web.poll() is None:
        if ready.exists():
            return ready.read_text().split()[0]
        time.sleep(0.05)
    raise SystemExit("the stand-in did not start")


def _show(found: dict[str, dict[str, float]]) -> None:
    for name, one in found.items():
        per = one["cpu_s"] * 1e6 / one["prices"]
        Console().print(
            f"whole job, {name}: {one['prices']:,} prices in {one['wall_s']:.2f} s,"
            f" {one['prices'] / one['wall_s']:,.0f} prices/s, {per:.1f} µs of CPU a price"
        )
    ours, scrapy = (found[name]["cpu_s"] / found[name]["prices"] for name in ("ours", "scrapy"))
    Console().print(f"whole job: {scrapy / ours:.1f} x less CPU a price than Scrapy's (3)")
