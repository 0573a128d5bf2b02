"""A small source and its small site, for what happens to a page between them."""

import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from app.context import WorkerContext
from app.core.enums import Market, MarketOutcome
from app.core.errors import Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, OddsPrice, Record, Rejected
from app.fetch.client import Fetcher
from app.sources.base import ListingEnd
from app.store.db import Pool
from tests import worker_harness
from tests.fetch.hostile import Visit
from workers.job import Job

FAST = HostLimits(rate=10_000, burst=10_000, concurrency=4)


@dataclass
class Site:
    """Serves `pages` (page number to rows), with validators as a test wants them."""

    pages: dict[int, list[Any]]
    etag: str | None = None
    modified: str | None = None
    matches: bool = False  # says 304 to every condition, whatever it serves by now
    unasked: bool = False  # says 304 to everybody
    unwilling: str = ""  # what it answers to any condition
    seen: list[tuple[int, bool]] = field(default_factory=list[tuple[int, bool]])

    async def __call__(self, visit: Visit) -> None:
        number = int(visit.path.rpartition("=")[2])
        conditional = "if-none-match" in visit.head.lower()
        self.seen.append((number, conditional))
        result = {"etag": self.etag, "last_modified": self.modified}
        headers = {name: value for name, value in result.items() if value is not None}
        known = conditional and (self.matches or f"if-none-match: {self.etag}\r" in visit.head)
        if conditional and self.unwilling:
            await visit.answer(self.unwilling, b"", **headers)
        elif known or self.unasked:
            await visit.say(b"HTTP/1.1 304 Not Modified\r\nconnection: close\r\n\r\n")
        else:
            await visit.answer(body=self.body(number), **headers)

    def body(self, number: int) -> bytes:
        return json.dumps(self.pages.get(number, [])).encode()


@dataclass
class Toy:
    """Asks for pages until one is empty. A row is `[id, price]`; anything else is refused.

    `promised`: how many records the site says there are. `read` counts the pages parsed.
    """

    base: str
    promised: int | None = None
    name: str = "toy"
    limits: HostLimits = FAST
    read: int = 0
    robots: bool = False

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        yield from ()
        return (Partition("all", self.promised),)

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        number = 1
        while json.loads((yield self.request(number)).body):
            number += 1
        return ListingEnd("an empty list", part.expected)

    def request(self, number: int) -> SourceRequest:
        return SourceRequest(self.base, params=(("page", str(number)),), robots=self.robots)

    def parse(self, raw: RawPage) -> Iterable[Record]:
        self.read += 1
        rows = json.loads(raw.body)
        if rows == ["broken"]:
            raise Schema("not as it was")
        return [_record(row) for row in rows]


def _record(row: Any) -> Record:
    if isinstance(row, str):
        return Rejected("no row", json.dumps(row).encode())
    key, price = row
    return OddsEvent(
        platform="toy",
        platform_event_id=key,
        sportradar_id=None,
        country="",
        competition="",
        competition_id=None,
        home="a",
        away="b",
        kickoff=datetime(2026, 9, 5, tzinfo=UTC),
        prices=(OddsPrice(Market.MATCH_RESULT, MarketOutcome.HOME, None, Decimal(price)),),
    )


def job_of(toy: Toy) -> Job:
    """The odds job, of this source alone."""
    return worker_harness.collecting(toy)


async def scrape(context: WorkerContext, toy: Toy) -> dict[str, Any]:
    """One run of the toy; returns its row of `run_sources`, `counts` unfolded."""
    client = context.clients["betpawa"]
    context.fetchers["toy"] = Fetcher(
        client, context.limiter, source="toy", limits=FAST, rng=lambda: 0.0, clock=context.clock
    )
    run_id = await worker_harness.perform(context, job=job_of(toy))
    return await outcome(context.pool, run_id)


async def outcome(pool: Pool, run_id: UUID) -> dict[str, Any]:
    """The toy's row of that run, `counts` unfolded."""
    row = (await worker_harness.source_rows(pool, run_id))["toy"]
    return row | row["counts"]
