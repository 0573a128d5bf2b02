"""Cron expressions as hypothesis makes them."""

import calendar
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from hypothesis import strategies as st

DAYS = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")


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
