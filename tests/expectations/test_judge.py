"""What is expected of a source, and in which of that a run failed it."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from app.core.config import Config
from app.core.enums import HealthReason, Market, MarketOutcome
from app.core.records import Item, OddsEvent, OddsPrice, Rejected
from app.sources.coverage import Coverage, from_json, measure, to_json
from app.sources.expectations import (
    NO_EXPECTATIONS,
    Breach,
    Expectations,
    SourceResult,
    check,
    main_reason,
)
from workers import expectations, registry

NOW = datetime(2026, 9, 5, 12, tzinfo=UTC)
USUALLY = Expectations(max_drop=0.6)


def found(records: int = 100, empty: int = 0, rejected: int = 0, hours: float = 1) -> SourceResult:
    """A run of `records`, `empty` of which have no title."""
    newest = NOW - timedelta(hours=hours)
    return SourceResult(records, rejected, Coverage(records, {"id": 0, "title": empty}, newest))


def words(breaches: tuple[Breach, ...]) -> list[str]:
    return [breach.message for breach in breaches]


def test_a_field_that_goes_empty_is_drift() -> None:
    breaches = check(found(empty=90), [found(empty=3)] * 40, USUALLY, NOW)

    assert words(breaches) == ["far fewer records than usual have these fields: title 10 %"]
    assert main_reason(breaches) is HealthReason.DRIFT


def test_a_field_that_is_asked_for_no_more_is_missed_by_nobody() -> None:
    without = SourceResult(100, 0, Coverage(100, {"id": 0}))

    assert check(without, [found()] * 40, USUALLY, NOW) == ()


@pytest.mark.parametrize(
    ("now", "usually"),
    [
        (found(empty=40), found(empty=0)),
        (found(empty=100), found(empty=90)),
        (found(5, 4), found(5)),
    ],
)
def test_a_field_that_is_often_empty_or_a_little_emptier_is_none(
    now: SourceResult, usually: SourceResult
) -> None:
    assert check(now, [usually] * 40, USUALLY, NOW) == ()


def test_of_few_records_only_a_field_that_is_empty_in_all_is_drift() -> None:
    assert check(found(3, 2), [found(3)] * 40, USUALLY, NOW) == ()
    assert len(check(found(3, 3), [found(3)] * 40, USUALLY, NOW)) == 1


def test_far_fewer_records_than_usual_are_drift() -> None:
    breaches = check(found(39), [found(100)] * 40, USUALLY, NOW)

    assert words(breaches) == ["39 records where 100 are usual"]
    assert check(found(40), [found(100)] * 40, USUALLY, NOW) == ()


def test_what_goes_bad_slowly_cannot_drag_along_what_it_is_compared_with() -> None:
    good = [found()] * 40
    breached = list[bool]()
    for run in range(1, 100):
        now = found(max(0, 100 - 2 * run))
        breached.append(bool(check(now, good, USUALLY, NOW)))
        good = good if breached[-1] else [now, *good]

    assert breached.index(True) < 50
    assert all(breached[breached.index(True) :])


def test_with_too_little_history_nothing_is_compared_but_absolute_rules_hold() -> None:
    strict = Expectations(
        min_records=50, max_drop=0.1, required_fields=("title",), max_rejected_share=0.1
    )

    breaches = check(found(20, 5, rejected=5), [found()] * 2, strict, NOW)

    assert words(breaches) == [
        "20 records; at least 50 are expected",
        "20 % of the records could not be read; at most 10 % are expected",
        "title is empty in 5 of 20 records",
    ]


def test_records_of_long_ago_are_stale() -> None:
    fresh = Expectations(timestamp_field="at", max_age=timedelta(hours=24))

    assert check(found(hours=23), [], fresh, NOW) == ()
    stale = check(found(hours=80), [], fresh, NOW)
    assert words(stale) == ["the newest is 3.3 days old; at is expected within 24.0 h"]
    assert main_reason(stale) is HealthReason.STALE_DATA
    dateless = SourceResult(3, 0, Coverage(3, {"id": 0}))
    assert words(check(dateless, [], fresh, NOW)) == [
        "no record has a timestamp; at is expected within 24.0 h"
    ]
    assert check(SourceResult(0), [], fresh, NOW) == ()


def test_of_what_nothing_is_expected_everything_is_well() -> None:
    assert check(found(0), [found()] * 40, NO_EXPECTATIONS, NOW) == ()


def test_null_and_nothing_are_empty_but_false_and_zero_are_not() -> None:
    rows = [
        Item("s", "1", {"a": None, "b": "", "c": False, "at": "2026-09-05T10:00:00Z"}),
        Item("s", "2", {"a": [], "b": "x", "c": 0, "at": "2026-09-05T13:00:00+02:00"}),
        Rejected("no row", b""),
        Item("s", "3", {"a": {}, "c": 1, "at": "soon"}),
    ]

    coverage = measure(rows, "at")

    assert coverage.rows == 3
    assert coverage.empty == {"a": 3, "b": 2, "c": 0, "at": 0}
    assert coverage.newest == datetime(2026, 9, 5, 11, tzinfo=UTC)
    assert from_json(to_json(coverage)) == coverage


def test_an_instant_that_cannot_be_expressed_in_utc_is_not_the_newest() -> None:
    rows = [Item("a", str(n), {"at": f"000{n}-01-01T00:00:00+01:00"}) for n in (1, 2)]

    assert measure(rows, "at").newest == datetime(1, 12, 31, 23, tzinfo=UTC)


@pytest.mark.parametrize("apart", [False, True])
def test_one_record_of_the_future_does_not_make_stale_ones_fresh(apart: bool) -> None:
    fresh = Expectations(timestamp_field="at", max_age=timedelta(hours=24))
    stale = Item("s", "1", {"at": "2026-09-02T04:00:00Z"})
    mistaken = Item("s", "2", {"at": "2062-09-02T04:00:00Z"})
    pages = [[stale], [mistaken]] if apart else [[stale, mistaken]]

    merged = Coverage()
    for page in pages:
        merged = merged.merge(measure(page, "at", NOW + timedelta(hours=24)))

    assert from_json(to_json(merged)) == merged
    assert words(check(SourceResult(2, 0, merged), [], fresh, NOW)) == [
        "the newest is 3.3 days old; at is expected within 24.0 h"
    ]


def test_records_that_are_all_of_the_future_are_not_stale() -> None:
    fresh = Expectations(timestamp_field="kickoff", max_age=timedelta(hours=1))
    rows = [Item("s", "1", {"kickoff": "2026-09-09T12:00:00Z"})]

    coverage = measure(rows, "kickoff", NOW + timedelta(hours=1))

    assert check(SourceResult(1, 0, coverage), [], fresh, NOW) == ()


def test_what_is_counted_apart_adds_up() -> None:
    rows = [
        Item("s", str(n), {"a": n % 2 or None, **({"b": 1} if n > 5 else {})}) for n in range(9)
    ]

    parts = measure(rows[:4]).merge(measure(rows[4:7])).merge(Coverage()).merge(measure(rows[7:]))

    assert parts == measure(rows)


def test_every_built_in_source_is_expected_to_bring_something() -> None:
    config = Config(_env_file=None)  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword
    sources = [
        one for _, group in registry.source_groups(config) for one in group.every_source(config)
    ]

    assert len(sources) == 5
    assert all(expectations.expectations_of(source) != NO_EXPECTATIONS for source in sources)


def test_a_market_that_an_odds_site_offers_no_more_is_drift() -> None:
    def board(*markets: Market) -> SourceResult:
        prices = tuple(OddsPrice(m, MarketOutcome.HOME, None, Decimal(2)) for m in markets)
        event = OddsEvent("toy", "1", "7", "", "", None, "a", "b", NOW, prices)
        return SourceResult(20, 0, measure([event] * 20))

    usual = board(Market.MATCH_RESULT, Market.OVER_UNDER)

    breaches = check(board(Market.MATCH_RESULT), [usual] * 40, expectations.ODDS, NOW)

    assert words(breaches) == [
        "far fewer records than usual have these fields: over_under prices 0 %"
    ]
