"""A mended parser over kept pages changes the rows that differ, and no others."""

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

from app.context import WorkerContext
from app.core.messages import HostLimits, RawPage
from app.core.records import OddsEvent, Record, Rejected
from app.runs.replay import ReplayReport, ReplayRequest, ReplaySource
from app.runs.replay import replay as replayed
from app.sources.base import Source
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.replay.scraped import DAY, only, scraped, source
from workers import odds


class Read:
    """A source whose parser reads something else into some records."""

    def __init__(self, source: Source, change: Callable[[OddsEvent], Record]) -> None:
        self._source = source
        self._change = change
        self.name = source.name
        self.partitions = source.partitions
        self.pages = source.pages

    @property
    def limits(self) -> HostLimits:
        return self._source.limits

    def parse(self, raw: RawPage) -> Iterable[Record]:
        for record in self._source.parse(raw):
            yield self._change(record) if isinstance(record, OddsEvent) else record


async def again(
    context: WorkerContext, read: Source, *, write: bool = True, since: timedelta = DAY, **wish: Any
) -> ReplayReport:
    reader = ReplaySource(odds.scrape_all_platforms.name, read, odds.GROUP.write)
    wanted = ReplayRequest(context.clock() - since, by="ada", **wish)
    return await replayed(context.pool, reader, wanted, lambda _done, _of: None, write=write)


async def versions(context: WorkerContext, table: str) -> dict[int, Any]:
    """Which version of each row there is."""
    rows = await context.pool.fetch(f"SELECT id, xmin::text || ctid::text AS v FROM {table}")  # noqa: S608 - our own
    return {row["id"]: row["v"] for row in rows}


def renamed(*ids: str) -> Callable[[OddsEvent], OddsEvent]:
    return lambda e: replace(e, home=e.home.upper()) if e.platform_event_id in ids else e


async def some_ids(context: WorkerContext, count: int = 3) -> list[str]:
    rows = await context.pool.fetch(
        "SELECT platform_event_id FROM odds_events ORDER BY id LIMIT $1", count
    )
    return [row[0] for row in rows]


async def test_the_same_parser_differs_in_nothing_and_writes_nothing(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin)
    before = [await versions(context, t) for t in ("odds_events", "odds_prices")]

    report = await again(context, source(context))

    assert (report.differ, report.unreadable) == (0, 0)
    assert report.pages > 0
    assert [await versions(context, t) for t in ("odds_events", "odds_prices")] == before


async def test_a_changed_parser_changes_exactly_the_rows_that_differ(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin)
    wrong = await some_ids(context)
    events, prices = await versions(context, "odds_events"), await versions(context, "odds_prices")

    report = await again(context, Read(source(context), renamed(*wrong)))

    after = await versions(context, "odds_events")
    rows = await context.pool.fetch(
        "SELECT platform_event_id FROM odds_events WHERE home = upper(home)"
    )
    assert report.changed == len(wrong)
    assert {row[0] for row in rows} == set(wrong)
    assert sum(after[key] != events[key] for key in events) == len(wrong)
    assert await versions(context, "odds_prices") == prices


async def test_a_dry_run_tells_the_difference_and_writes_nothing(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin)
    (wrong,) = await some_ids(context, 1)
    before = await versions(context, "odds_events")

    report = await again(context, Read(source(context), renamed(wrong)), write=False)

    (example,) = report.examples
    assert (example.record, example.field) == (wrong, "home")
    assert example.after == example.before.upper()
    assert await versions(context, "odds_events") == before
    assert await context.pool.fetchval("SELECT count(*) FROM runs WHERE trigger = 'replay'") == 0


async def test_a_price_read_otherwise_is_mended_as_of_when_it_was_seen(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin)
    (wrong,) = await some_ids(context, 1)

    def dearer(event: OddsEvent) -> OddsEvent:
        if event.platform_event_id != wrong:
            return event
        first, *rest = event.prices
        return replace(event, prices=(replace(first, price=(first.price or 0) + 1), *rest))

    before = await context.pool.fetchval("SELECT max(observed_at) FROM odds_price_changes")
    kept = await context.pool.fetchval("SELECT count(*) FROM odds_price_changes")
    report = await again(context, Read(source(context), dearer))

    moves = await context.pool.fetch(
        "SELECT c.observed_at, p.price = c.price AS now"
        " FROM odds_price_changes c JOIN odds_prices p "
        " USING (event_id, market, outcome, run_id) WHERE c.run_id = $1",
        report.run_id,
    )
    assert report.changed == 1
    assert [row["now"] for row in moves] == [True]
    assert moves[0]["observed_at"] <= before
    assert await context.pool.fetchval("SELECT count(*) FROM odds_price_changes") == kept + 1


async def test_records_that_were_refused_are_stored_and_no_longer_kept_aside(
    context: WorkerContext, standin: Standin
) -> None:
    def refused(event: OddsEvent) -> Record:
        if int(event.platform_event_id[-1]) % 2:
            return event
        return Rejected("no", event.platform_event_id.encode(), event.platform_event_id)

    await scraped(context, standin, 1, Read(source(context), refused))
    standin.advance(share=0)
    aside = await context.pool.fetchval("SELECT count(*) FROM rejected_records")
    assert aside > 0

    report = await again(context, source(context), only_rejected=True)
    outside = await context.pool.fetchval(
        "SELECT count(*) FROM odds_events WHERE partition IS NULL"
    )
    await worker_harness.perform(context, job=only(context))

    row = await context.pool.fetchrow(
        "SELECT * FROM run_sources s JOIN runs r USING (execution_id)"
        " WHERE r.trigger = 'manual' ORDER BY r.created_at DESC LIMIT 1"
    )
    assert row is not None
    assert (report.readable, report.new) == (aside, aside)
    assert outside == 0  # each is in the partition of its page
    assert await context.pool.fetchval("SELECT count(*) FROM rejected_records") == 0
    assert (row["records"], row["rejected"], row["inserted"]) == (30, 0, 0)


async def test_a_page_from_before_that_is_still_what_the_site_says_is_read_too(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin, 1)
    await context.pool.execute("UPDATE raw_pages SET fetched_at = fetched_at - interval '2 days'")
    (wrong,) = await some_ids(context, 1)

    report = await again(context, Read(source(context), renamed(wrong)))

    assert report.changed == 1


async def test_what_has_left_the_board_since_stays_withdrawn(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin, 1)
    (wrong,) = await some_ids(context, 1)
    await context.pool.execute(
        "UPDATE odds_events SET withdrawn_at = now(), fingerprint = NULL"
        " WHERE platform_event_id = $1",
        wrong,
    )

    report = await again(context, Read(source(context), renamed(wrong)))

    row = await context.pool.fetchrow(
        "SELECT * FROM odds_events WHERE platform_event_id = $1", wrong
    )
    assert row is not None
    assert (report.differ, report.left_alone) == (0, 1)
    assert row["withdrawn_at"] is not None


async def test_a_second_replay_finds_nothing_left_to_do(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin)
    read = Read(source(context), renamed(*await some_ids(context)))
    await again(context, read)

    report = await again(context, read)

    assert report.differ == 0


async def test_a_replay_asks_no_site_and_is_written_down_as_a_run(
    context: WorkerContext, standin: Standin
) -> None:
    await scraped(context, standin, 1)
    asked = standin.stats()

    report = await again(context, source(context))

    run = await worker_harness.run_row(context.pool, report.run_id) if report.run_id else {}
    assert standin.stats()["requests"] == asked["requests"]
    assert (run["trigger"], run["status"], run["requested_by"]) == ("replay", "success", "ada")
    assert run["stats"]["pages"] == report.pages
