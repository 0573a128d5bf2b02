"""A page that has not changed since it was stored is neither read nor written, and still counts."""

from datetime import timedelta

import pytest

from app.context import WorkerContext
from app.store.content import pages
from tests.fetch.hostile import Visit, serving
from tests.pages.toy_source import Site, Toy, scrape

TWO = {1: [["a", "2.0"], ["b", "3.0"]], 2: [["c", "4.0"]]}
COUNTED = ("pages", "records", "prices", "rejected")


async def test_an_equal_body_is_neither_parsed_nor_written_but_counted(
    context: WorkerContext,
) -> None:
    async with serving(Site(TWO)) as base:
        first = await scrape(context, Toy(base))
        again = Toy(base)
        second = await scrape(context, again)

    assert again.read == 0
    assert [first[name] for name in COUNTED] == [second[name] for name in COUNTED] == [3, 3, 3, 0]
    assert (first["pages_unchanged"], second["pages_unchanged"]) == (0, 3)
    assert (first["inserted"], second["inserted"], second["unchanged"]) == (3, 0, 3)


async def test_an_etag_is_sent_back_and_304_brings_the_kept_body_to_the_source(
    context: WorkerContext,
) -> None:
    site = Site(TWO, etag='"one"', modified="Sat, 05 Sep 2026 10:00:00 GMT")
    async with serving(site) as base:
        await scrape(context, Toy(base))
        again = Toy(base, promised=3)
        row = await scrape(context, again)

    assert site.seen == [(n, False) for n in (1, 2, 3)] + [(n, True) for n in (1, 2, 3)]
    assert (row["status"], row["records"], row["pages_unchanged"]) == ("success", 3, 3)
    assert again.read == 0


async def test_a_page_that_changed_is_read_and_the_others_are_not(context: WorkerContext) -> None:
    site = Site(dict(TWO))
    async with serving(site) as base:
        await scrape(context, Toy(base))
        site.pages[2] = [["c", "4.5"], ["d", "5.0"]]
        again = Toy(base)
        row = await scrape(context, again)

    assert again.read == 1
    assert (row["pages_unchanged"], row["records"]) == (2, 4)
    assert (row["inserted"], row["changed"], row["unchanged"]) == (1, 1, 2)


async def test_an_etag_that_never_matches_costs_a_body_and_no_more(context: WorkerContext) -> None:
    site = Site(TWO, etag='"one"')
    async with serving(site) as base:
        await scrape(context, Toy(base))
        site.etag = '"two"'
        again = Toy(base)
        row = await scrape(context, again)

    assert again.read == 0
    assert row["pages_unchanged"] == 3


async def test_an_etag_that_always_matches_is_not_believed_for_longer_than_a_day(
    context: WorkerContext,
) -> None:
    site = Site(dict(TWO), etag='"one"', matches=True)
    async with serving(site) as base:
        await scrape(context, Toy(base))
        site.pages[1] = [["a", "9.0"], ["b", "3.0"]]
        context.clock.skew = timedelta(hours=23)
        lied_to = await scrape(context, Toy(base))
        context.clock.skew = timedelta(hours=24, seconds=1)
        result = await scrape(context, Toy(base))

    assert (lied_to["pages_unchanged"], lied_to["changed"]) == (3, 0)
    assert (result["pages_unchanged"], result["changed"]) == (0, 1)


async def test_a_304_that_nobody_asked_for_is_a_failure_of_the_schema(
    context: WorkerContext,
) -> None:
    async with serving(Site(TWO, unasked=True)) as base:
        row = await scrape(context, Toy(base))

    assert (row["status"], row["error_kind"]) == ("failure", "schema")
    assert "304" in row["error_message"]


@pytest.mark.parametrize("status", ["412 Precondition Failed", "400 Bad Request"])
async def test_a_site_that_takes_no_conditions_is_asked_without(
    context: WorkerContext, status: str
) -> None:
    site = Site(TWO, etag='"one"', unwilling=status)
    async with serving(site) as base:
        await scrape(context, Toy(base))
        row = await scrape(context, Toy(base))

    assert (row["status"], row["pages_unchanged"]) == ("success", 3)
    assert site.seen[3:5] == [(1, True), (1, False)]


async def test_without_the_body_no_condition_is_set(context: WorkerContext) -> None:
    site = Site(TWO, etag='"one"')
    async with serving(site) as base:
        await scrape(context, Toy(base))
        await context.pool.execute("DELETE FROM raw_pages")
        await context.pool.execute("DELETE FROM raw_bodies")
        row = await scrape(context, Toy(base))

    assert not any(conditional for _, conditional in site.seen)
    assert row["pages_unchanged"] == 3


async def test_a_page_that_could_not_be_read_is_never_unchanged(context: WorkerContext) -> None:
    async with serving(Site({1: ["broken"]}, etag='"one"')) as base:
        await scrape(context, Toy(base))
        again = Toy(base)
        row = await scrape(context, again)

    assert again.read == 1
    assert (row["status"], row["error_kind"], row["pages"]) == ("failure", "schema", 0)


async def test_what_was_refused_and_what_is_missing_counts_in_an_unchanged_page_too(
    context: WorkerContext,
) -> None:
    async with serving(Site({1: [["a", "2.0"], "odd"]})) as base:
        first = await scrape(context, Toy(base, promised=3))
        second = await scrape(context, Toy(base, promised=3))

    assert [row["error_kind"] for row in (first, second)] == ["incomplete"] * 2
    assert first["error_message"] == second["error_message"]
    assert (first["rejected"], second["rejected"]) == (1, 1)
    assert second["pages_unchanged"] == 2


async def test_a_page_of_an_attempt_that_was_fenced_off_is_not_remembered(
    context: WorkerContext,
) -> None:
    site = Site(TWO)

    async def overtaking(visit: Visit) -> None:
        if visit.path.endswith("=2"):
            await context.pool.execute("UPDATE runs SET lease_epoch = lease_epoch + 1")
        await site(visit)

    async with serving(overtaking) as base:
        await scrape(context, Toy(base))

    known = await context.pool.fetch("SELECT keys FROM page_validators")
    assert [row["keys"] for row in known] == [["a", "b"]]


@pytest.mark.parametrize("value", ["", "x" * 2_000, "caf\xe9", "a\udc80", "tab\tbed"])
def test_a_validator_that_no_header_can_carry_is_dropped(value: str) -> None:
    assert pages.validator({"etag": value}, "etag") is None
    assert pages.validator({"etag": 'W/"1"'}, "etag") == 'W/"1"'
