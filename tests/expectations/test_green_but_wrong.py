"""A source whose answers stay 200 while its data goes bad does not stay green."""

import json
from collections.abc import AsyncGenerator, Generator, Iterable, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pytest

from app.context import WorkerContext
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, Record
from app.fetch.client import Fetcher
from app.sources.base import ListingEnd, Source
from app.sources.expectations import Expectations
from app.store.db import Pool
from tests import worker_harness
from tests.clock import NOON
from tests.fetch.hostile import Visit, serving
from workers import expectations, odds
from workers.job import Job

FAST = HostLimits(rate=10_000, burst=10_000, concurrency=4)


@dataclass
class Site:
    """Serves what it is told to as one page of JSON."""

    rows: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    async def __call__(self, visit: Visit) -> None:
        await visit.answer(body=json.dumps(self.rows).encode())

    def fill(self, count: int, **changes: Any) -> None:
        whole = {"home": "a", "away": "b", "sportradar_id": "7"}
        self.rows = [whole | {"id": str(n)} | changes for n in range(count)]


@dataclass
class Board:
    """Reads the site: one page, one partition; it counts what it lists itself."""

    url: str
    name: str = "toy"
    limits: HostLimits = FAST

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        yield from ()
        return (Partition("all"),)

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        assert part.key == "all"
        return ListingEnd("the only page", len(json.loads((yield SourceRequest(self.url)).body)))

    def parse(self, raw: RawPage) -> Iterable[Record]:
        for row in json.loads(raw.body):
            yield OddsEvent(
                platform="toy",
                platform_event_id=row["id"],
                sportradar_id=row["sportradar_id"],
                country="Nigeria",
                competition="NPFL",
                competition_id=None,
                home=row["home"],
                away=row["away"],
                kickoff=NOON + timedelta(days=400),
                prices=(),
            )


class Expecting(odds.OddsGroup):
    """The odds, with these expectations of whatever source."""

    def __init__(self, expected: Expectations = expectations.ODDS) -> None:
        self._expected = expected

    def expectations(self, source: Source) -> Expectations:
        del source
        return self._expected


@dataclass
class Stage:
    """A site, and the job that scrapes it."""

    context: WorkerContext
    site: Site
    board: Board
    job: Job

    def expect(self, expected: Expectations) -> None:
        self.job = worker_harness.collecting(self.board, group=Expecting(expected))

    async def run(self) -> dict[str, Any]:
        return await worker_harness.run_row(
            self.context.pool, await worker_harness.perform(self.context, job=self.job)
        )

    async def runs(self, count: int) -> list[str]:
        return [(await self.run())["status"] for _ in range(count)]


@pytest.fixture
async def stage(context: WorkerContext) -> AsyncGenerator[Stage]:
    site = Site()
    site.fill(30)
    async with serving(site) as url:
        context.fetchers["toy"] = Fetcher(
            context.clients["betpawa"],
            context.limiter,
            source="toy",
            limits=FAST,
            rng=lambda: 0.0,
            clock=context.clock,
        )
        board = Board(url)

        yield Stage(context, site, board, worker_harness.collecting(board, group=Expecting()))


async def present(pool: Pool) -> int:
    """Events that are neither absent nor withdrawn."""
    return await pool.fetchval(
        "SELECT count(*) FROM odds_events WHERE absent_since IS NULL AND withdrawn_at IS NULL"
    )


async def test_a_source_whose_fields_go_empty_is_told_of_in_the_first_such_run(
    stage: Stage,
) -> None:
    assert await stage.runs(4) == ["success"] * 4

    stage.site.fill(30, sportradar_id=None)
    row = await stage.run()

    assert (row["status"], row["error_type"]) == ("partial_failure", "expectation")
    assert row["error_message"] == (
        "toy: far fewer records than usual have these fields: sportradar_id 0 %"
    )
    assert row["stats"]["breach"] == "drift"


async def test_it_stays_so_for_as_long_as_it_lasts_and_the_page_is_the_same(stage: Stage) -> None:
    await stage.runs(4)
    stage.site.fill(30, home="")

    statuses = await stage.runs(45)

    assert set(statuses) == {"partial_failure"}
    stage.site.fill(30)
    assert (await stage.run())["status"] == "success"


async def test_a_board_that_loses_most_of_its_rows_marks_nothing_as_gone(stage: Stage) -> None:
    await stage.runs(4)
    stage.site.fill(5)

    rows = [await stage.run(), await stage.run(), await stage.run()]

    assert [row["status"] for row in rows] == ["partial_failure"] * 3
    assert rows[0]["error_message"] == "toy: 5 records where 30 are usual"
    assert await present(stage.context.pool) == 30


async def test_a_board_that_shrinks_a_little_withdraws_what_is_gone(stage: Stage) -> None:
    await stage.runs(4)
    stage.site.fill(20)

    assert (await stage.run())["status"] == "success"

    assert await present(stage.context.pool) == 20


async def test_a_new_source_is_not_compared_with_anything(stage: Stage) -> None:
    assert await stage.runs(1) == ["success"]
    stage.site.fill(2, home="")

    assert await stage.runs(1) == ["success"]


async def test_what_is_said_absolutely_holds_from_the_first_run_on(stage: Stage) -> None:
    stage.expect(Expectations(min_records=31, required_fields=("country",)))

    row = await stage.run()

    assert row["error_message"] == "toy: 30 records; at least 31 are expected"


async def test_records_of_long_ago_are_stale_data(stage: Stage) -> None:
    fresh = Expectations(timestamp_field="kickoff", max_age=timedelta(hours=1))
    stage.expect(fresh)

    assert (await stage.run())["status"] == "success"  # kick-off is to come

    stage.expect(replace(fresh, timestamp_field="competition"))
    stage.site.fill(31)
    assert (await stage.run())["stats"]["breach"] == "stale_data"
