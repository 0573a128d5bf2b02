"""Cron schedules against brute force: a clock that is looked at every minute, or every second."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from app.scheduling.schedule import Schedule
from tests.scheduling.expressions import Days, Expression, Term, expressions, terms

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)

# Instants near which each zone changes its clocks, and one ordinary one.
CHANGES = {
    "UTC": ["2026-02-28T23:00"],
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00", "2027-01-01T00:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00", "2028-02-29T05:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30", "2026-06-30T13:30"],
    "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00", "2027-02-07T02:00"],
}


# A job for a fixed time near most changes, where gaps and repeated hours count.
fixed_times = st.builds(
    Expression,
    st.sampled_from(["0", "15", "30", "45", "0,30", "20-40"]).map(
        lambda text: Term(text, lambda value: str(value) in listed(text))
    ),
    st.sampled_from(["1", "2", "3", "2,3", "1-3"]).map(
        lambda text: Term(text, lambda value: str(value) in listed(text))
    ),
    st.just(Days("*", lambda _: True)),
    st.just(Term("*", lambda _: True)),
    st.just(Days("*", lambda _: True)),
)
with_seconds = st.builds(
    Expression,
    terms(0, 59),
    terms(0, 23),
    st.just(Days("*", lambda _: True)),
    st.just(Term("*", lambda _: True)),
    st.just(Days("*", lambda _: True)),
    terms(0, 59),
)


def listed(text: str) -> set[str]:
    if "-" in text:
        low, high = text.split("-")
        return {str(value) for value in range(int(low), int(high) + 1)}
    return set(text.split(","))


def brute_force(
    expression: Expression, zone: ZoneInfo, after: datetime, until: datetime
) -> Iterator[datetime]:
    """Look at the clock at each step. A fixed time fires when it is first reached or passed."""
    step = MINUTE if expression.second is None else SECOND
    memory = timedelta(0) if expression.follows_real_time else timedelta(hours=3)
    instant = after.replace(second=0, microsecond=0) - memory
    reached = instant.astimezone(zone).replace(tzinfo=None)
    while (instant := instant + step) <= until:
        wall = instant.astimezone(zone).replace(tzinfo=None)
        if expression.follows_real_time:
            fires = expression.matches(wall)
        else:
            fires = any(expression.matches(passed) for passed in between(reached, wall, step))
            reached = max(reached, wall)
        if fires and instant > after:
            yield instant


def between(low: datetime, high: datetime, step: timedelta) -> Iterator[datetime]:
    """Name the wall clock times with low < time <= high."""
    while (low := low + step) <= high:
        yield low


@st.composite
def windows(draw: st.DrawFn, longest: timedelta) -> tuple[str, datetime, datetime]:
    name = draw(st.sampled_from(sorted(CHANGES)))
    change = datetime.fromisoformat(draw(st.sampled_from(CHANGES[name]))).replace(tzinfo=UTC)
    before = draw(st.timedeltas(timedelta(hours=-2), longest))
    span = draw(st.timedeltas(timedelta(0), longest))
    return name, change - before, change - before + span


def agrees(expression: Expression, window: tuple[str, datetime, datetime]) -> bool:
    name, after, until = window
    schedule = Schedule.cron(expression.text, name)
    expected = list(brute_force(expression, ZoneInfo(name), after, until))

    ticks = list(schedule.ticks(after, until))

    assert ticks == expected
    assert schedule.count(after, until) == len(expected)
    return True


@settings(max_examples=120, deadline=None)
@given(expressions, windows(timedelta(days=2)))
def test_no_minute_between_two_ticks_matches(
    expression: Expression, window: tuple[str, datetime, datetime]
) -> None:
    assert agrees(expression, window)


@settings(max_examples=120, deadline=None)
@given(fixed_times, windows(timedelta(days=1)))
def test_a_fixed_time_fires_once_though_its_hour_is_skipped_or_repeated(
    expression: Expression, window: tuple[str, datetime, datetime]
) -> None:
    assert agrees(expression, window)


@settings(max_examples=60, deadline=None)
@given(with_seconds, windows(timedelta(hours=1.5)))
def test_no_second_between_two_ticks_matches(
    expression: Expression, window: tuple[str, datetime, datetime]
) -> None:
    assert agrees(expression, window)


@settings(max_examples=150, deadline=None)
@given(st.one_of(expressions, fixed_times, with_seconds), windows(timedelta(days=2)))
def test_previous_inverts_next(
    expression: Expression, window: tuple[str, datetime, datetime]
) -> None:
    name, after, _ = window
    schedule = Schedule.cron(expression.text, name)

    first = schedule.next(after)
    second = schedule.next(first)

    assert after < first < second
    assert schedule.previous(second) == first
    before = schedule.previous(first)
    assert before is not None
    assert before <= after
    assert schedule.next(before) == first
    assert list(schedule.ticks(after, second)) == [first, second]
