"""Measures the cost of a request: our fetcher, httpx's own transport, and bare aiohttp.

One process sends the requests, the stand-in answers from another. The contenders take turns, so
that other load affects all alike; figures are medians of the turns. CPU is that of the client
process, user and system. Ours includes the rate limiter in Redis, retries and limits.
`httpx_aiohttp` is bare httpx on the transport that ours uses: the baseline of our own layer.
"""

import argparse
import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport
from rich.console import Console
from rich.table import Table

from app import embedded
from app.core import log
from app.core.messages import HostLimits, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.limiter import RedisLimiter
from app.queue.jobs import redis_pool

Ask = Callable[[str], Awaitable[bytes]]

CONCURRENCIES = (10, 50)
SIZES = (1, 100)  # KB
NAMES = ("ours", "httpx_own", "httpx_aiohttp", "aiohttp")
READY = 20.0  # seconds until the stand-in must answer
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Figures:
    """Requests per second, and milliseconds of CPU for each."""

    rps: float
    cpu_ms: float


@asynccontextmanager
async def contenders(redis_url: str, concurrency: int) -> AsyncGenerator[dict[str, Ask]]:
    """Yield each contender with an open pool of that many connections."""
    async with AsyncExitStack() as stack:
        own = await stack.enter_async_context(
            httpx.AsyncClient(
                limits=httpx.Limits(
                    max_connections=concurrency, max_keepalive_connections=concurrency
                )
            )
        )
        ridden = await stack.enter_async_context(
            httpx.AsyncClient(
                transport=AiohttpTransport(
                    client=lambda: aiohttp.ClientSession(
                        connector=aiohttp.TCPConnector(limit=concurrency)
                    )
                )
            )
        )
        bare = await stack.enter_async_context(
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=concurrency))
        )
        client = await stack.enter_async_context(open_client("bench", concurrency=concurrency))
        redis = redis_pool(redis_url)
        stack.push_async_callback(redis.aclose, close_connection_pool=True)
        limits = HostLimits(rate=1_000_000, burst=1_000_000, concurrency=concurrency)
        fetcher = Fetcher(client, RedisLimiter(redis), source="bench", limits=limits)
        yield {
            "ours": _ours(fetcher),
            "httpx_own": _httpx(own),
            "httpx_aiohttp": _httpx(ridden),
            "aiohttp": _aiohttp(bare),
        }


def _ours(fetcher: Fetcher) -> Ask:
    tally = RequestCounts()

    async def ask(url: str) -> bytes:
        raw = await fetcher.fetch(SourceRequest(url), tally)
        return raw.body

    return ask


def _httpx(client: httpx.AsyncClient) -> Ask:
    async def ask(url: str) -> bytes:
        return (await client.get(url)).content

    return ask


def _aiohttp(session: aiohttp.ClientSession) -> Ask:
    async def ask(url: str) -> bytes:
        async with session.get(url) as answer:
            return await answer.read()

    return ask


async def turn(ask: Ask, url: str, concurrency: int, requests: int) -> Figures:
    """Run one contender: `requests` requests, `concurrency` at once."""
    left = requests

    async def one_after_another() -> None:
        nonlocal left
        while left > 0:
            left -= 1
            await ask(url)

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(one_after_another() for _ in range(concurrency)))
    spent, took = time.process_time() - cpu, time.perf_counter() - started
    return Figures(requests / took, spent * 1000 / requests)


@dataclass(frozen=True, slots=True)
class Case:
    """The URL to request and the number of concurrent requests."""

    url: str
    concurrency: int


async def medians(redis_url: str, case: Case, asked: argparse.Namespace) -> dict[str, Figures]:
    """Run every contender in turn, `rounds` times; returns the medians."""
    url, concurrency = case.url, case.concurrency
    turns: dict[str, list[Figures]] = {name: [] for name in NAMES}
    async with contenders(redis_url, concurrency) as asks:
        for name in NAMES:  # warm up connections and caches
            await turn(asks[name], url, concurrency, concurrency * 2)
        for number in range(asked.rounds):
            for name in NAMES[number % 4 :] + NAMES[: number % 4]:
                turns[name].append(await turn(asks[name], url, concurrency, asked.requests))
    return {
        name: Figures(median(f.rps for f in took), median(f.cpu_ms for f in took))
        for name, took in turns.items()
    }


@contextmanager
def served(folder: Path) -> Generator[str]:
    """The stand-in web in a process of its own; yields its base address."""
    ready = folder / "url"
    command = [sys.executable, "-m", "scripts.standin", "--port", "0", "--ready-file", str(ready)]
    process = subprocess.Popen(  # noqa: S603 - our own arguments
        [*command, "--events", "10"], cwd=ROOT, stdout=subprocess.DEVNULL
    )
    try:
        deadline = time.monotonic() + READY
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("the stand-in web did not start")
            time.sleep(0.02)
        yield ready.read_text().strip()
    finally:
        process.terminate()
        process.wait()


def measure(asked: argparse.Namespace) -> dict[str, dict[str, Figures]]:
    """Return the figures of all cases, by `<concurrency>x<size>KB`."""
    with tempfile.TemporaryDirectory(prefix="rc") as folder, served(Path(folder)) as web:
        servers = embedded.start(Path(folder) / "servers")
        try:
            return {
                f"{concurrency}x{kb}KB": asyncio.run(
                    medians(servers.redis_url, Case(f"{web}/bytes/{kb * 1000}", concurrency), asked)
                )
                for concurrency in CONCURRENCIES
                for kb in SIZES
            }
        finally:
            servers.close()


def show(found: dict[str, dict[str, Figures]]) -> None:
    """Print the figures as a table."""
    table = Table("at once x size", *(f"{name}\nrps / CPU ms" for name in NAMES), "ours : bare")
    for name, figures in found.items():
        cells = [f"{one.rps:.0f} / {one.cpu_ms:.3f}" for one in (figures[n] for n in NAMES)]
        table.add_row(name, *cells, f"{overhead(figures):.2f}")
    Console().print(table)


def overhead(figures: dict[str, Figures]) -> float:
    """Return our CPU per request over that of bare httpx on the same transport."""
    return figures["ours"].cpu_ms / figures["httpx_aiohttp"].cpu_ms


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="turns of each contender (default: %(default)s)")
    add("--requests", type=int, default=400, help="in each turn (default: %(default)s)")
    add("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args(argv)
    log.configure("console", "info")
    found = measure(asked)
    show(found)
    if asked.json:
        print(json.dumps({name: {n: asdict(f) for n, f in c.items()} for name, c in found.items()}))


if __name__ == "__main__":
    main()
