"""What was gone and comes back on a page that is as it was is there again."""

import json
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import timedelta

from app.context import WorkerContext
from app.core.enums import RunStatus
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, Record
from app.fetch.client import Fetcher
from app.sources.base import ListingEnd, Source
from app.sources.expectations import NO_EXPECTATIONS, Expectations
from tests import worker_harness
from tests.clock import NOON
from tests.fetch.hostile import Visit, serving
from workers import odds

FAST = HostLimits(rate=10_000, burst=10_000, concurrency=4)
GONE = "SELECT platform_event_id FROM odds_events WHERE absent_since IS NOT NULL ORDER BY 1"


async def site(visit: Visit) -> None:
    """One event for each part, for ever the same."""
    await visit.answer(body=json.dumps(["same"]).encode())


@dataclass
class Board:
    """Lists its parts, each of one page with one event."""

    url: str
    parts: Sequence[str]
    name: str = "toy"
    limits: HostLimits = FAST

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        yield from ()
        return [Partition(part) for part in self.parts]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        raw = yield SourceRequest(f"{self.url}/{part.key}")
        return ListingEnd("the only page", len(json.loads(raw.body)))

    def parse(self, raw: RawPage) -> Iterable[Record]:
        assert raw.partition is not None
        yield OddsEvent(
            platform="toy",
            platform_event_id=raw.partition.key,
            sportradar_id=None,
            country="Nigeria",
            competition="NPFL",
            competition_id=None,
            home="a",
            away="b",
            kickoff=NOON + timedelta(days=400),
            prices=(),
        )


class Undemanding(odds.OddsGroup):
    """Whatever a source brings is well."""

    def expectations(self, source: Source) -> Expectations:
        del source
        return NO_EXPECTATIONS


async def test_a_part_that_was_gone_for_two_runs_and_is_back_unchanged_is_not_withdrawn(
    context: WorkerContext,
) -> None:
    async with serving(site) as url:
        context.fetchers["toy"] = Fetcher(
            context.clients["betpawa"],
            context.limiter,
            source="toy",
            limits=FAST,
            clock=context.clock,
        )
        board = Board(url, ("cup", "league"))

        job = worker_harness.collecting(board, group=Undemanding())
        statuses: list[str] = []
        gone: list[list[str]] = []
        for parts in (("cup", "league"), ("league",), ("league",), ("cup", "league")):
            board.parts = parts
            run = await worker_harness.run_row(
                context.pool, await worker_harness.perform(context, job=job)
            )
            statuses.append(run["status"])
            gone.append([row[0] for row in await context.pool.fetch(GONE)])

    assert statuses == [RunStatus.SUCCESS] * 4
    assert gone == [[], ["cup"], ["cup"], []]
