"""Measures requests per second of /health/scheduler against a bare Starlette route.

Each is a separate uvicorn process without an access log, as ours does not log requests to this
path. They take turns. Fifty connections are kept open, each sends the next request as soon as the
response is complete. Figures are medians of the turns. Ours reads a real Redis with a few jobs
(and once with two hundred), while its background tasks run.
"""

import argparse
import asyncio
import contextlib
import json
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from statistics import median, quantiles
from typing import cast

from redis.asyncio import Redis
from rich.console import Console
from rich.table import Table

from app import embedded, migrations
from app.core.enums import RunStatus
from app.health.facts import JobFacts, WorkerFacts
from app.health.keys import write_jobs, write_worker

ROOT = Path(__file__).resolve().parents[2]
READY = 20.0  # seconds until a server must answer
ASK = b"GET /health/scheduler HTTP/1.1\r\nhost: bench\r\nuser-agent: bench\r\naccept: */*\r\n\r\n"
FEW, MANY = 3, 200  # jobs


@dataclass(frozen=True, slots=True)
class Figures:
    """Responses per second, and the 99th percentile of latency in milliseconds."""

    rps: float
    p99_ms: float


class Asker(asyncio.Protocol):
    """One connection: sends a request, counts the complete response, and sends the next."""

    def __init__(self, took: list[float], until: float) -> None:
        self._took = took
        self._until = until
        self._left = 0
        self._asked = 0.0
        self._head = b""
        self._transport: asyncio.Transport | None = None
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Send the first request."""
        self._transport = cast("asyncio.Transport", transport)
        self._ask()

    def _ask(self) -> None:
        self._asked = time.perf_counter()
        if self._transport is not None:
            self._transport.write(ASK)

    def data_received(self, data: bytes) -> None:
        """Receive a part of a response."""
        if not self._left:
            self._head += data
            head, end, rest = self._head.partition(b"\r\n\r\n")
            if not end:
                return
            length = head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0]
            self._left, data, self._head = int(length), rest, b""
        self._left -= len(data)
        if not self._left:
            self._answered()

    def _answered(self) -> None:
        now = time.perf_counter()
        self._took.append(now - self._asked)
        if now < self._until:
            self._ask()
        elif self._transport is not None:
            self._transport.close()

    def connection_lost(self, exc: Exception | None) -> None:
        """Finish; an early disconnect is an error."""
        del exc
        if not self.ended.done():
            self.ended.set_result(None)


async def turn(port: int, seconds: float, connections: int) -> Figures:
    """Send requests for `seconds` over `connections` connections."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    started = time.perf_counter()
    askers: list[Asker] = []
    for _ in range(connections):
        _, asker = await loop.create_connection(
            lambda: Asker(took, started + seconds), "127.0.0.1", port
        )
        askers.append(asker)
    await asyncio.gather(*(asker.ended for asker in askers))
    spent = time.perf_counter() - started
    return Figures(len(took) / spent, quantiles(took, n=100)[98] * 1000)


def free_port() -> int:
    """Return a free loopback port."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def served(app: str, environment: dict[str, str], log: Path) -> AsyncGenerator[int]:
    """Serve the app on uvicorn in a separate process; yields its port."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log"]
    with log.open("w") as lines:
        process = subprocess.Popen(  # noqa: ASYNC220, S603 - our own arguments
            command, cwd=ROOT, env=environment, stdout=lines, stderr=lines
        )
        try:
            await _answers(port)
            yield port
        finally:
            process.terminate()
            process.wait()  # returns at once


async def _answers(port: int) -> None:
    async with asyncio.timeout(READY):
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                return
            await asyncio.sleep(0.05)


async def populate(url: str, jobs: int) -> None:
    """Write `jobs` healthy jobs and a worker to Redis."""
    now = datetime.now(UTC)
    later = now + timedelta(days=1)
    facts = [
        JobFacts(
            job=f"job_{number}",
            last_run=now,
            last_success=now,
            last_status=RunStatus.SUCCESS,
            next_run=later,
            interval_seconds=86_400,
            history=(RunStatus.SUCCESS,) * 20,
        )
        for number in range(jobs)
    ]
    redis = Redis.from_url(url)  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    await write_jobs(redis, ((one.job, one) for one in facts))
    await write_worker(redis, "bench", 3600, WorkerFacts(seen_at=now))
    await redis.aclose()


async def measure(folder: Path, asked: argparse.Namespace) -> dict[str, Figures]:
    """Measure both in turn with a few jobs, then ours with many."""
    servers = await asyncio.to_thread(embedded.start, folder / "servers")
    try:
        await asyncio.to_thread(migrations.upgrade, servers.database_url)
        await populate(servers.redis_url, FEW)
        ours = {"DATABASE_URL": servers.database_url, "REDIS_URL": servers.redis_url}
        async with (
            served("app.web:app", ours, folder / "ours.log") as our_port,
            served("scripts.bench.web_bare:app", {}, folder / "bare.log") as bare_port,
        ):
            ports = {"ours": our_port, "bare": bare_port}
            found = await _turns(ports, asked)
            await populate(servers.redis_url, MANY)
            await asyncio.sleep(1.5)  # until the cached response has expired
            return found | await _turns({f"ours_{MANY}_jobs": our_port}, asked)
    finally:
        await asyncio.to_thread(servers.close)


async def _turns(ports: dict[str, int], asked: argparse.Namespace) -> dict[str, Figures]:
    for port in ports.values():  # warm up connections and caches
        await turn(port, 0.5, asked.connections)
    turns: dict[str, list[Figures]] = {name: [] for name in ports}
    for _ in range(asked.rounds):
        for name, port in ports.items():
            turns[name].append(await turn(port, asked.seconds, asked.connections))
    return {
        name: Figures(
            round(median(f.rps for f in took), 1), round(median(f.p99_ms for f in took), 2)
        )
        for name, took in turns.items()
    }


def show(found: dict[str, Figures]) -> None:
    """Print the figures as a table."""
    table = Table("who", "responses per second", "p99, ms", "ours / bare")
    for name, figures in found.items():
        share = figures.rps / found["bare"].rps
        table.add_row(name, f"{figures.rps:.0f}", f"{figures.p99_ms:.1f}", f"{share:.2f}")
    Console().print(table)


def main(argv: Sequence[str] | None = None) -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=5, help="turns of each (default: %(default)s)")
    add("--seconds", type=float, default=3.0, help="of each turn (default: %(default)s)")
    add("--connections", type=int, default=50, help="kept open (default: %(default)s)")
    add("--json", action="store_true", help="one JSON object as the last line")
    asked = parser.parse_args(argv)
    with tempfile.TemporaryDirectory(prefix="rc") as folder:
        found = asyncio.run(measure(Path(folder), asked))
    show(found)
    if asked.json:
        print(json.dumps({name: asdict(figures) for name, figures in found.items()}))


if __name__ == "__main__":
    main()
