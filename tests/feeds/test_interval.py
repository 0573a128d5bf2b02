"""A feed is asked as often as it publishes, and never sooner than it wishes."""

from datetime import UTC, datetime, timedelta

import pytest

from app.sources.feeds.feed import Feed, new_entry
from app.sources.feeds.interval import DEFAULT_INTERVAL, MAX_INTERVAL, MIN_INTERVAL, poll_interval

NOW = datetime(2026, 11, 2, 12, tzinfo=UTC)  # a Monday
HOUR = timedelta(hours=1)


def feed(every: timedelta, count: int = 20, newest: datetime = NOW, **more: object) -> Feed:
    made = tuple(new_entry(id=str(n), published=newest - n * every) for n in range(count))
    return Feed("rss", None, None, made, **more)  # pyright: ignore[reportArgumentType] - the test's words


@pytest.mark.parametrize(
    ("every", "wanted"),
    [
        (timedelta(minutes=1), MIN_INTERVAL),
        (timedelta(minutes=30), timedelta(minutes=15)),
        (timedelta(hours=6), timedelta(hours=3)),
        (timedelta(days=30), MAX_INTERVAL),
    ],
)
def test_it_is_asked_twice_for_each_entry_within_bounds(
    every: timedelta, wanted: timedelta
) -> None:
    assert poll_interval(feed(every), {}, NOW) == wanted


def test_one_that_has_fallen_silent_is_asked_less_and_less() -> None:
    silent = feed(timedelta(minutes=10), newest=NOW - timedelta(hours=100))

    assert poll_interval(silent, {}, NOW) == timedelta(hours=10)


def test_one_that_tells_no_dates_is_asked_every_hour() -> None:
    assert poll_interval(Feed("rss", None, None), {}, NOW) == DEFAULT_INTERVAL
    assert poll_interval(feed(HOUR, newest=NOW + timedelta(days=99)), {}, NOW) == DEFAULT_INTERVAL


def test_its_ttl_and_the_answers_max_age_are_obeyed() -> None:
    busy = timedelta(minutes=1)

    assert poll_interval(feed(busy, ttl=timedelta(minutes=90)), {}, NOW) == timedelta(minutes=90)
    assert poll_interval(feed(busy), {"cache-control": "public, max-age=1800"}, NOW) == HOUR / 2
    assert (
        poll_interval(feed(busy), {"cache-control": "no-cache, max-age=1800"}, NOW) == MIN_INTERVAL
    )
    assert poll_interval(feed(busy), {"cache-control": "max-age=999999999"}, NOW) == MAX_INTERVAL


def test_it_is_not_asked_in_hours_and_on_days_when_it_rests() -> None:
    hours = feed(timedelta(minutes=1), skip_hours=frozenset({12, 13, 14}))
    days = feed(timedelta(minutes=1), skip_days=frozenset(range(7)))

    assert (NOW + poll_interval(hours, {}, NOW)).hour == 15
    assert poll_interval(days, {}, NOW) == MAX_INTERVAL
