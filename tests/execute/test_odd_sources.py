"""Whatever a source does wrong is its own failure: neither the run's nor the worker's end."""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, replace
from uuid import uuid4

import pytest

from app.context import WorkerContext
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, Record, Rejected
from app.sources.base import ListingEnd, Source
from scripts.standin.testing import Standin
from tests.clock import NOON
from tests.execute.tables import events_of
from tests.worker_harness import collecting, perform, run_row, source_rows
from workers.job import Job
from workers.odds import GROUP, OddsGroup, every_source

LIMITS = HostLimits(rate=1_000, burst=100, concurrency=2)
EVENT = OddsEvent("odd", "1", None, "Nigeria", "NPFL", None, "Home", "Away", NOON, ())


@dataclass
class Odd:
    """A source of one page, which may raise in each of its parts, and yields what it is told."""

    url: str
    raises_in: str = ""
    records: Sequence[Record] = ()
    promised: int | None = None
    name: str = "odd"
    limits: HostLimits = LIMITS

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        raw = yield SourceRequest(self.url)
        self._stumble("partitions", raw)
        return (Partition("all"),)

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        assert part.key == "all"
        raw = yield SourceRequest(self.url)
        self._stumble("pages", raw)
        return ListingEnd("the only page", self.promised)

    def parse(self, raw: RawPage) -> Iterable[Record]:
        self._stumble("parse", raw)
        return self.records

    def _stumble(self, where: str, raw: RawPage) -> None:
        if where == self.raises_in:
            raise KeyError(f"odd after {len(raw.body)} bytes")


def job_of(
    context: WorkerContext, standin: Standin, group: OddsGroup = GROUP, **odd: object
) -> Job:
    """The odds job with the odd source beside SportyBet."""
    source: Source = Odd(f"{standin.url}/control/healthz?{uuid4()}", **odd)  # pyright: ignore[reportArgumentType] - the test's words
    context.fetchers["odd"] = context.fetchers["sportybet"]
    sportybet = every_source(context.config)[0]
    return collecting(source, sportybet, group=group)


@pytest.mark.parametrize("where", ["partitions", "pages", "parse"])
async def test_a_source_that_raises_something_odd_fails_alone_by_its_schema(
    context: WorkerContext, standin: Standin, where: str
) -> None:
    job = job_of(context, standin, raises_in=where, records=[EVENT])

    run_id = await perform(context, job=job)

    row, rows = await run_row(context.pool, run_id), await source_rows(context.pool, run_id)
    assert (row["status"], row["error_type"]) == ("partial_failure", "schema")
    assert (rows["odd"]["status"], rows["odd"]["error_kind"]) == ("failure", "schema")
    assert "KeyError" in rows["odd"]["error_message"]
    assert rows["sportybet"]["status"] == "success"
    assert await events_of(context.pool) == {"sportybet": 30}


async def test_no_records_where_the_site_says_there_are_some_is_a_failure(
    context: WorkerContext, standin: Standin
) -> None:
    run_id = await perform(context, job=job_of(context, standin, promised=5))

    rows = await source_rows(context.pool, run_id)
    assert (rows["odd"]["status"], rows["odd"]["error_kind"]) == ("failure", "incomplete")
    assert "0 records where the site says there are 5" in rows["odd"]["error_message"]
    assert rows["odd"]["done"] == []


async def test_no_records_where_the_site_promises_none_is_a_failure_of_a_job_never_empty(
    context: WorkerContext, standin: Standin
) -> None:
    job = job_of(context, standin, promised=0)
    patient = OddsGroup()
    patient.never_empty = False

    strict = await source_rows(context.pool, await perform(context, job=job))
    lenient = await source_rows(
        context.pool, await perform(context, job=job_of(context, standin, patient, promised=0))
    )

    assert strict["odd"]["status"] == "failure"
    assert lenient["odd"]["status"] == "success"


async def test_a_record_that_cannot_be_read_is_kept_aside_and_the_rest_stored(
    context: WorkerContext, standin: Standin
) -> None:
    bad = Rejected("no kick-off", b'{"id": 2}', "2")
    job = job_of(context, standin, records=[EVENT, bad], promised=2)

    run_id = await perform(context, job=job)

    row = (await source_rows(context.pool, run_id))["odd"]
    (kept,) = await context.pool.fetch("SELECT * FROM rejected_records")
    assert (row["status"], row["records"], row["rejected"]) == ("success", 1, 1)
    assert (kept["record_id"], kept["reason"], kept["data"]) == ("2", "no kick-off", b'{"id": 2}')
    assert (kept["source"], kept["partition"], kept["page"]) == ("odd", "all", 1)
    assert (await events_of(context.pool))["odd"] == 1


async def test_a_page_on_which_nothing_can_be_read_is_no_success(
    context: WorkerContext, standin: Standin
) -> None:
    bad = [Rejected("no kick-off", b"{}", str(number)) for number in range(3)]

    run_id = await perform(context, job=job_of(context, standin, records=bad, promised=3))

    row = (await source_rows(context.pool, run_id))["odd"]
    assert (row["status"], row["records"], row["rejected"]) == ("failure", 0, 3)


def to_come(number: int) -> OddsEvent:
    return replace(EVENT, platform_event_id=str(number), kickoff=NOON.replace(year=2099))


async def withdrawn(context: WorkerContext) -> list[str]:
    rows = await context.pool.fetch(
        "SELECT platform_event_id FROM odds_events WHERE withdrawn_at IS NOT NULL"
    )
    return [row[0] for row in rows]


async def test_a_match_that_two_listings_lack_is_withdrawn(
    context: WorkerContext, standin: Standin
) -> None:
    both = [to_come(1), to_come(2)]
    await perform(context, job=job_of(context, standin, records=both, promised=2))

    await perform(context, job=job_of(context, standin, records=both[:1], promised=1))
    at_first = await withdrawn(context)
    await perform(context, job=job_of(context, standin, records=both[:1], promised=1))

    assert at_first == []
    assert await withdrawn(context) == ["2"]


@pytest.mark.parametrize(
    ("records", "promised"),
    [
        ([to_come(1)], 2),
        ([to_come(1)], None),
        ([to_come(1), Rejected("no kick-off", b"{}", "2")], 2),
        ([to_come(1), Rejected("nothing at all", b"{}")], 2),
        ([], 0),
    ],
    ids=["short", "uncounted", "unread", "unread and nameless", "empty"],
)
async def test_a_listing_that_does_not_surely_lack_a_match_withdraws_nothing(
    context: WorkerContext, standin: Standin, records: list[Record], promised: int | None
) -> None:
    both = [to_come(1), to_come(2)]
    await perform(context, job=job_of(context, standin, records=both, promised=2))

    await perform(context, job=job_of(context, standin, records=records, promised=promised))

    assert await withdrawn(context) == []
