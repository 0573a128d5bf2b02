"""Cron schedules against brute force: a clock that is looked at every minute, or every second."""

import calendar
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

from hypothesis import given, settings
from hypothesis import strategies as st

from app.scheduling.schedule import Schedule

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)
DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")

# Instants near which each zone changes its clocks, and one ordinary one.
CHANGES = {
    "UTC": ["2026-02-28T23:00"],
    "Europe/Berlin": ["2026-03-29T01:00", "2026-10-25T01:00", "2027-01-01T00:00"],
    "America/New_York": ["2026-03-08T07:00", "2026-11-01T06:00", "2028-02-29T05:00"],
    "Australia/Lord_Howe": ["2026-04-04T15:00", "2026-10-03T15:30", "2026-06-30T13:30"],
    "Africa/Casablanca": ["2026-02-15T02:00", "2026-03-22T02:00", "2027-02-07T02:00"],
}


@dataclass(frozen=True)
class Term:
    """One field as it is written, and what it matches, each said on its own."""

    text: str
    matches: Callable[[int], bool]


@dataclass(frozen=True)
class Days:
    """A day field as it is written, and the dates it matches."""

    text: str
    matches: Callable[[date], bool]


def written(low: int, high: int) -> st.SearchStrategy[tuple[str, Collection[int]]]:
    values = st.integers(low, high)
    pairs = st.tuples(values, values).map(sorted)
    steps = st.integers(1, high)
    return st.one_of(
        st.just(("*", range(low, high + 1))),
        values.map(lambda value: (str(value), [value])),
        steps.map(lambda step: (f"*/{step}", range(low, high + 1, step))),
        pairs.map(lambda pair: (f"{pair[0]}-{pair[1]}", range(pair[0], pair[1] + 1))),
        st.tuples(pairs, steps).map(
            lambda drawn: (
                f"{drawn[0][0]}-{drawn[0][1]}/{drawn[1]}",
                range(drawn[0][0], drawn[0][1] + 1, drawn[1]),
            )
        ),
        st.tuples(values, steps).map(
            lambda drawn: (f"{drawn[0]}/{drawn[1]}", range(drawn[0], high + 1, drawn[1]))
        ),
    )


def terms(low: int, high: int) -> st.SearchStrategy[Term]:
    def joined(parts: list[tuple[str, Collection[int]]]) -> Term:
        values = {value for _, some in parts for value in some}
        return Term(",".join(text for text, _ in parts), lambda value: value in values)

    return st.lists(written(low, high), min_size=1, max_size=3).map(joined)


def last_of_month(day: date) -> int:
    return calendar.monthrange(day.year, day.month)[1]


def is_last_workday(day: date) -> bool:
    rest = range(day.day + 1, last_of_month(day) + 1)
    return day.weekday() < 5 and not any(day.replace(day=n).weekday() < 5 for n in rest)


days_of_month = st.one_of(
    terms(1, 31)
    .filter(lambda term: any(term.matches(day) for day in range(1, 29)))
    .map(lambda term: Days(term.text, lambda day: term.matches(day.day))),
    st.just(Days("*", lambda _: True)),
    st.just(Days("L", lambda day: day.day == last_of_month(day))),
    st.just(Days("LW", is_last_workday)),
)


def weekday(day: date) -> int:
    return day.isoweekday() % 7


def nth_weekday(number: int, nth: int) -> Days:
    return Days(
        f"{DAYS[number]}#{nth}",
        lambda day: weekday(day) == number and 7 * (nth - 1) < day.day <= 7 * nth,
    )


def last_weekday(number: int) -> Days:
    return Days(
        f"{number}L", lambda day: weekday(day) == number and day.day + 7 > last_of_month(day)
    )


days_of_week = st.one_of(
    terms(0, 7).map(
        lambda term: Days(
            term.text,
            lambda day: term.matches(weekday(day)) or (weekday(day) == 0 and term.matches(7)),
        )
    ),
    st.just(Days("*", lambda _: True)),
    st.builds(nth_weekday, st.integers(0, 6), st.integers(1, 4)),
    st.builds(last_weekday, st.integers(0, 6)),
)


@dataclass(frozen=True)
class Expression:
    """A cron expression in its fields."""

    minute: Term
    hour: Term
    day: Days
    month: Term
    weekday: Days
    second: Term | None = None

    @property
    def text(self) -> str:
        second = [self.second.text] if self.second else []
        fields = (self.minute, self.hour, self.day, self.month, self.weekday)
        return " ".join(second + [field.text for field in fields])

    @property
    def follows_real_time(self) -> bool:
        return self.second is not None or "*" in (self.minute.text[0], self.hour.text[0])

    def matches(self, wall: datetime) -> bool:
        second = wall.second == 0 if self.second is None else self.second.matches(wall.second)
        return (
            second
            and self.minute.matches(wall.minute)
            and self.hour.matches(wall.hour)
            and self.matches_day(wall.date())
        )

    def matches_day(self, day: date) -> bool:
        both = "*" in (self.day.text[0], self.weekday.text[0])
        found = (self.day.matches(day), self.weekday.matches(day))
        return self.month.matches(day.month) and (all(found) if both else any(found))


def comes_within_four_years(expression: Expression) -> bool:
    """The last workday on a Saturday never comes, and is refused; that has a test of its own."""
    days = (date(2025, 1, 1) + timedelta(days=n) for n in range(1461))
    return any(expression.matches_day(day) for day in days)


expressions = st.builds(
    Expression,
    terms(0, 59),
    terms(0, 23),
    days_of_month,
    st.one_of(st.just(Term("*", lambda _: True)), terms(1, 12)),
    days_of_week,
).filter(comes_within_four_years)
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
