"""Reads an organisation's feed of changes beside writers, and compares it with what is stored.

Writers change items of two organisations in overlapping transactions: short and long ones, some of
which are rolled back. Meanwhile one reader asks for pages, one waits for changes, one has a stream
that it cuts again and again and continues with `Last-Event-ID`, and one reads a single kind, all
from one web process. At the end each must have got every change of the organisation once, in the
order in which the feed has them, and none of the other organisation.
"""

import argparse
import asyncio
import json
import socket
import sys
import time
from collections.abc import AsyncGenerator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import asdict, dataclass, field
from random import Random
from uuid import UUID, uuid4

import asyncpg
import httpx

from app.core.enums import Scope
from app.core.records import Item
from app.orgs import tokens
from app.store import tenancy
from app.store.content import items
from app.store.db import Pool
from app.store.schedules.heartbeats import database_now
from scripts.bench.worker_servers import worker_servers
from scripts.child_processes import child

FEED = "/collection/changes"
LONG_SECONDS = 3.0  # of the longest transaction
ROLLED_BACK = 0.1  # the share of transactions
STREAM_SECONDS = 5.0  # at most, until a stream is cut
SETTLE_SECONDS = 30.0  # after the last change until every reader must have it
ALL = "SELECT position || '.' || id FROM changes WHERE org_id = $1 ORDER BY position, id"
ONE_KIND = """
SELECT position || '.' || id FROM changes WHERE org_id = $1 AND kind = 'new' ORDER BY position, id
"""


class RolledBackError(Exception):
    """Ends a transaction that is to leave nothing."""


@dataclass(slots=True)
class FeedReader:
    """One reader, and the places of the changes that it got, in their order."""

    name: str
    kind: str | None = None
    place: str = "0"
    requests: int = 0
    got: list[str] = field(default_factory=list[str])


@dataclass(slots=True)
class FeedFigures:
    """What each reader got, against what is stored; all but `changes` and `requests` must be 0."""

    changes: int
    transactions: int
    requests: dict[str, int]
    missing: dict[str, int]
    doubled: dict[str, int]
    misplaced: dict[str, int]
    foreign: dict[str, int]

    @property
    def sound(self) -> bool:
        """Whether every reader got everything once and in order."""
        kinds = (self.missing, self.doubled, self.misplaced, self.foreign)
        return self.changes > 0 and not any(count for kind in kinds for count in kind.values())


async def measure(writers: int, seconds: float, seed: int) -> FeedFigures:
    """Write for so many seconds beside the readers, and compare."""
    async with worker_servers(writers + 4, 10.0) as servers:
        pool = servers.pool
        now = await database_now(pool)
        ours, theirs = [await tokens.create_org(pool, name, now) for name in ("Ours", "Theirs")]
        request = tokens.TokenRequest("Ours", "reader", Scope.READ)
        token = await tokens.create_token(pool, request, now, by="bench")
        port = _free_port()
        web = ("uvicorn", "app.web:app", "--port", str(port), "--log-level", "warning")
        async with child("web", web, servers.environment), _client(port, token) as client:
            readers = [
                FeedReader("pages"),
                FeedReader("waits"),
                FeedReader("stream"),
                FeedReader("kind", kind="new"),
            ]
            end = asyncio.Event()
            reading = [
                asyncio.create_task(_ways(reader)(client, reader, end)) for reader in readers
            ]
            written = await _write(pool, (ours, theirs), writers, seconds, seed)
            await _settle(pool, ours, readers)
            end.set()
            await asyncio.gather(*reading)
        return await _compare(pool, (ours, theirs), readers, written)


def _free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@asynccontextmanager
async def _client(port: int, token: str) -> AsyncGenerator[httpx.AsyncClient]:
    """A client of the web process, once that answers."""
    headers = {"authorization": f"Bearer {token}"}
    base = f"http://127.0.0.1:{port}"
    async with httpx.AsyncClient(base_url=base, headers=headers, timeout=60) as client:
        deadline = time.monotonic() + 60
        while True:
            with suppress(httpx.TransportError):
                if (await client.get("/livez")).is_success:
                    break
            if time.monotonic() > deadline:
                raise TimeoutError("the web process does not answer")
            await asyncio.sleep(0.2)
        yield client


Way = Callable[[httpx.AsyncClient, FeedReader, asyncio.Event], Coroutine[None, None, None]]


def _ways(reader: FeedReader) -> Way:
    return _stream if reader.name == "stream" else _poll


async def _poll(client: httpx.AsyncClient, reader: FeedReader, end: asyncio.Event) -> None:
    """Ask for one page after another; the one that waits lets the server wait."""
    rng = Random(reader.name)  # noqa: S311 - to vary the size of pages
    while not end.is_set():
        query = {"after": reader.place, "limit": str(rng.choice((1, 7, 200)))}
        if reader.name == "waits":
            query["wait"] = "5"
        if reader.kind is not None:
            query["kind"] = reader.kind
        answer = (await client.get(FEED, params=query)).raise_for_status().json()
        reader.requests += 1
        reader.got += [change["id"] for change in answer["changes"]]
        reader.place = answer["next"]
        if not answer["changes"]:
            await asyncio.sleep(0.05)


async def _stream(client: httpx.AsyncClient, reader: FeedReader, end: asyncio.Event) -> None:
    """Read streams, each of which is cut at any byte and continued after its last whole event."""
    rng = Random(1)  # noqa: S311 - to vary when it is cut
    while not end.is_set():
        headers = {"last-event-id": reader.place} if reader.requests else {}
        reader.requests += 1
        with suppress(TimeoutError):
            async with (
                asyncio.timeout(rng.uniform(0.2, STREAM_SECONDS)),
                client.stream("GET", f"{FEED}/stream", headers=headers) as answer,
            ):
                answer.raise_for_status()
                await _read_events(answer, reader)


async def _read_events(answer: httpx.Response, reader: FeedReader) -> None:
    text = ""
    async for part in answer.aiter_text():
        *events, text = (text + part).split("\n\n")
        for event in events:
            lines = [line.partition(": ") for line in event.splitlines()]
            fields = {name: value for name, _, value in lines}
            if "data" in fields:
                reader.got.append(json.loads(fields["data"])["id"])
                reader.place = fields["id"]


async def _write(pool: Pool, orgs: Sequence[UUID], writers: int, seconds: float, seed: int) -> int:
    """Change items with so many writers at once; returns the number of transactions."""
    until = time.monotonic() + seconds
    counts = await asyncio.gather(
        *(_writer(pool, orgs, until, Random(seed * 1000 + number)) for number in range(writers))  # noqa: S311 - as above
    )
    return sum(counts)


async def _writer(pool: Pool, orgs: Sequence[UUID], until: float, rng: Random) -> int:
    count = 0
    while time.monotonic() < until:
        count += 1
        org = orgs[rng.random() < 0.2]  # noqa: PLR2004 - every fifth is the other's
        with suppress(RolledBackError, asyncpg.DeadlockDetectedError):
            async with tenancy.transaction(pool, None) as connection:
                now = await database_now(connection)
                for _ in range(rng.choice((1, 1, 3))):
                    page = [
                        Item("shop", f"{rng.randrange(500)}-{rng.randrange(8)}", {"n": count})
                        for _ in range(rng.choice((1, 2, 20)))
                    ]
                    page = sorted({item.key: item for item in page}.values(), key=lambda i: i.key)
                    await items.write(connection, org, "shop", page, now, uuid4())
                    pause = LONG_SECONDS if rng.random() < 0.01 else 0.02  # noqa: PLR2004 - rare
                    await asyncio.sleep(rng.uniform(0, pause))
                if rng.random() < ROLLED_BACK:
                    raise RolledBackError
    return count


async def _settle(pool: Pool, org_id: UUID, readers: Sequence[FeedReader]) -> None:
    """Wait until every reader has as many changes as there are."""
    deadline = time.monotonic() + SETTLE_SECONDS
    while time.monotonic() < deadline:
        counts = [len(await _stored(pool, org_id, reader)) for reader in readers]
        if all(len(r.got) >= count for r, count in zip(readers, counts, strict=True)):
            return
        await asyncio.sleep(0.5)


async def _stored(pool: Pool, org_id: UUID, reader: FeedReader) -> list[str]:
    rows = await pool.fetch(ALL if reader.kind is None else ONE_KIND, org_id)
    return [row[0] for row in rows]


async def _compare(
    pool: Pool, orgs: tuple[UUID, UUID], readers: Sequence[FeedReader], transactions: int
) -> FeedFigures:
    ours, theirs = orgs
    foreign = {row[0] for row in await pool.fetch(ALL, theirs)}
    changes = await pool.fetchval("SELECT count(*) FROM changes WHERE org_id = $1", ours)
    requests = {reader.name: reader.requests for reader in readers}
    figures = FeedFigures(changes, transactions, requests, {}, {}, {}, {})
    for reader in readers:
        stored, name = await _stored(pool, ours, reader), reader.name
        figures.missing[name] = len(set(stored) - set(reader.got))
        figures.doubled[name] = len(reader.got) - len(set(reader.got))
        pairs = zip(stored, reader.got, strict=False)
        figures.misplaced[name] = sum(one != other for one, other in pairs)
        figures.foreign[name] = len(foreign & set(reader.got))
    return figures


def main(argv: Sequence[str] | None = None) -> int:
    """Run it as the command line says; returns 1 if a reader did not get each change once."""
    parser = argparse.ArgumentParser(
        prog="scripts/bench/feed",
        description=__doc__,
        epilog="Example: scripts/bench/feed --writers 8 --seconds 300 --json",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=60.0, help="for which items change")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    asked = parser.parse_args(argv)
    figures = asyncio.run(measure(asked.writers, asked.seconds, asked.seed))
    facts = asdict(figures)
    lines = [json.dumps(facts)] if asked.json else [f"{k}: {v}" for k, v in facts.items()]
    sys.stdout.write("\n".join(lines) + "\n")
    return 0 if figures.sound else 1


if __name__ == "__main__":
    sys.exit(main())
