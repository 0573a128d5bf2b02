"""Times in which a schedule's ticks do not run: dates, weekday hours, calendars, bounds. Pure."""

import re
from bisect import bisect_right
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Generic, Self, TypeVar, cast
from zoneinfo import ZoneInfo

from app.core import zone_data
from app.core.errors import BadSchedule
from app.scheduling.cron import check_zone, quoted

MAX_RULES = 2_000
MAX_DAYS = 3_660  # of one range of dates
_At = TypeVar("_At", int, datetime)
_DAY_MINUTES = 24 * 60
_DAY = timedelta(days=1)
_MINUTE = timedelta(minutes=1)
_INSTANT = timedelta(microseconds=1)
_EARLIEST = datetime.min.replace(tzinfo=UTC)
_LATEST = datetime.max.replace(tzinfo=UTC)
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_WEEKLY = re.compile(
    r"(?:(?P<first>[a-z]{3})(?:\s*-\s*(?P<last>[a-z]{3}))?)?\s*"
    r"(?P<hours>(?P<h1>\d\d?):(?P<m1>\d\d)\s*-\s*(?P<h2>\d\d?):(?P<m2>\d\d))?",
    re.IGNORECASE,
)
_FORMS = (
    "it takes a date (2026-12-25), two dates or timestamps with a slash between,"
    " a weekday (sun, sat-sun), or hours (22:00-06:00, mon-fri 12:00-13:00)"
)


@dataclass(frozen=True, slots=True)
class Exclusions:
    """Ticks that do not run: those that a rule covers, before `start`, or after `end`.

    All as text, in the local time of `timezone`: `rules` are dates, ranges, weekdays and hours,
    the bounds a date or a timestamp, or nothing. A date as `end` includes that day.
    Raises BadSchedule if one cannot be read, or no tick could ever run.
    """

    rules: tuple[str, ...] = ()
    timezone: str = "UTC"
    start: str = ""
    end: str = ""

    def __post_init__(self) -> None:
        check_zone(self.timezone)
        if len(self.rules) > MAX_RULES:
            raise BadSchedule(f"Invalid exclude: more than {MAX_RULES:,} rules")
        compiled = self.compiled()
        if compiled.end < compiled.start:
            raise BadSchedule(f"Contradictory bounds: end {self.end} is before start {self.start}")
        if compiled.weekly and all(compiled.weekly):
            raise BadSchedule("Contradictory exclude: it covers every hour of the week")

    @classmethod
    def parse(
        cls, rules: Sequence[str], timezone: str = "UTC", start: str = "", end: str = ""
    ) -> Self:
        """Read rules and bounds as people write them. Raises BadSchedule."""
        listed = tuple(" ".join(rule.split()) for rule in rules if rule.strip())
        return cls(listed, timezone, start.strip(), end.strip())

    @property
    def empty(self) -> bool:
        """Whether nothing is excluded."""
        return not (self.rules or self.start or self.end)

    def compiled(self, stamp: str = zone_data.UNKNOWN_STAMP) -> "CompiledExclusions":
        """Return the exclusions by the zone data of `stamp`; by the wheel's without one."""
        return _compiled(self, stamp)

    def rule_for(self, instant: datetime, stamp: str = zone_data.UNKNOWN_STAMP) -> str | None:
        """Return what excludes a tick at `instant`: the first rule that does, or a bound."""
        single = [(rule, Exclusions((rule,), self.timezone)) for rule in self.rules]
        single += [
            (f"{name} {at}", Exclusions((), self.timezone, **{name: at}))
            for name in ("start", "end")
            if (at := getattr(self, name))
        ]
        covering = (text for text, one in single if one.compiled(stamp).cover(instant))
        return next(covering, None)

    def to_spec(self) -> dict[str, object]:
        """Return the exclusions as JSON values."""
        spec: dict[str, object] = {"rules": list(self.rules), "timezone": self.timezone}
        return spec | {name: at for name in ("start", "end") if (at := getattr(self, name))}

    @classmethod
    def from_spec(cls, spec: object) -> Self:
        """Read what `to_spec` returned. Raises BadSchedule for anything else."""
        if not isinstance(spec, Mapping):
            raise BadSchedule("Invalid policies: exclude must be an object")
        values = cast("Mapping[str, Any]", spec)
        rules, timezone = values.get("rules", []), values.get("timezone", "UTC")
        if not isinstance(rules, list) or not isinstance(timezone, str):
            raise BadSchedule("Invalid policies: exclude needs a list of rules and a timezone")
        start, end = (str(values.get(name, "")) for name in ("start", "end"))
        listed = [str(rule) for rule in cast("list[object]", rules)]
        return cls.parse(listed, timezone, start, end)


@dataclass(frozen=True, slots=True)
class _Spans(Generic[_At]):
    """Disjoint spans [begin, end), in order."""

    begins: tuple[_At, ...]
    ends: tuple[_At, ...]

    @classmethod
    def of(cls, spans: Iterable[tuple[_At, _At]]) -> Self:
        """Return the spans, those that touch joined."""
        begins: list[_At] = []
        ends: list[_At] = []
        for begin, end in sorted(spans):
            if ends and begin <= ends[-1]:
                ends[-1] = max(ends[-1], end)
            else:
                begins.append(begin)
                ends.append(end)
        return cls(tuple(begins), tuple(ends))

    def end_at(self, at: _At) -> _At | None:
        """Return the end of the span that contains `at`; None if none does."""
        index = bisect_right(self.begins, at) - 1
        return self.ends[index] if index >= 0 and at < self.ends[index] else None


@dataclass(frozen=True, slots=True)
class CompiledExclusions:
    """Exclusions by one version of the zone's data. Ticks in [start, end] may run.

    `dates`: ordinals of days. `weekly`: a byte for each minute of a week from Monday on, 1 if it is
    excluded; empty if none is.
    """

    start: datetime
    end: datetime
    zone: ZoneInfo
    dates: _Spans[int]
    weekly: bytes
    spans: _Spans[datetime]

    def cover(self, instant: datetime) -> bool:
        """Return whether a tick at `instant` does not run."""
        return self.covered_until(instant) is not None

    def covered_until(self, instant: datetime) -> datetime | None:
        """Return an instant before which no tick from `instant` on runs; None if one may run at it.

        One tick at the instant that is returned may be excluded too.
        """
        if instant < self.start:
            return self.start
        if instant > self.end:
            return _LATEST
        if (end := self.spans.end_at(instant)) is not None:
            return end
        local = instant.astimezone(self.zone)
        if (day := self.dates.end_at(local.toordinal())) is not None:
            return self._first_instant(local, day - local.toordinal(), 0)
        minute = local.hour * 60 + local.minute
        number = local.weekday() * _DAY_MINUTES + minute
        if not self.weekly or not self.weekly[number]:
            return None
        free = (self.weekly + self.weekly).find(0, number)
        return self._up_to_clock_change(
            local, self._first_instant(local, 0, minute + free - number)
        )

    def _first_instant(self, local: datetime, days: int, minutes: int) -> datetime:
        """Return the first instant after `local` so long after its midnight, by the clock."""
        try:
            wall = datetime.combine(local.date(), time()) + timedelta(days=days, minutes=minutes)
            folds = [wall.replace(tzinfo=self.zone, fold=n).astimezone(UTC) for n in (0, 1)]
        except OverflowError:
            return _LATEST
        return min((at for at in folds if at > local.astimezone(UTC)), default=max(folds))

    def _up_to_clock_change(self, local: datetime, end: datetime) -> datetime:
        """Return `end`, or the clock change before it, to the minute: minutes may be repeated."""
        offset, begin = local.utcoffset(), local.astimezone(UTC)
        if end == _LATEST or end.astimezone(self.zone).utcoffset() == offset:
            return end
        while end - begin > _MINUTE:
            middle = begin + (end - begin) / 2
            if middle.astimezone(self.zone).utcoffset() == offset:
                begin = middle
            else:
                end = middle
        return max(end.replace(second=0, microsecond=0), begin + _INSTANT)


@lru_cache(maxsize=1024)
def _compiled(exclusions: Exclusions, stamp: str) -> CompiledExclusions:
    zone = zone_data.zone(exclusions.timezone, stamp)
    dates: list[tuple[int, int]] = []
    weekly = bytearray()
    spans: list[tuple[datetime, datetime]] = []
    for rule in exclusions.rules:
        if rule[:4].isdigit():
            first, _, last = (part.strip() for part in rule.partition("/"))
            if len(first) == len("2026-12-25"):
                dates.append(_dates(rule, first, last or first))
            else:
                spans.append(_span(rule, first, last, zone))
        else:
            weekly = weekly or bytearray(7 * _DAY_MINUTES)
            _exclude_weekly(weekly, *_week_rule(rule))
    return CompiledExclusions(
        start=_bound("start", exclusions.start, zone, timedelta(0)) or _EARLIEST,
        end=_bound("end", exclusions.end, zone, _DAY - timedelta(microseconds=1)) or _LATEST,
        zone=zone,
        dates=_Spans[int].of(dates),
        weekly=bytes(weekly),
        spans=_Spans[datetime].of(spans),
    )


def _exclude_weekly(weekly: bytearray, days: frozenset[int], begin: int, end: int) -> None:
    """Mark minutes [begin, end) of days of the week, which may span midnight."""
    length = end - begin if begin < end else end - begin + _DAY_MINUTES
    for day in days:
        first = day * _DAY_MINUTES + begin
        last = min(first + length, len(weekly))
        weekly[first:last] = b"\1" * (last - first)
        rest = first + length - last  # of Sunday's, on Monday
        weekly[:rest] = b"\1" * rest


def _dates(rule: str, first: str, last: str) -> tuple[int, int]:
    """Return the ordinals of the first day, and of the one after the last."""
    try:
        begin, end = date.fromisoformat(first), date.fromisoformat(last)
    except ValueError:
        raise _unreadable(rule) from None
    days = (end - begin) // _DAY + 1
    if not 0 < days <= MAX_DAYS:
        raise BadSchedule(
            f"Invalid exclude: {quoted(rule)} must end on or after its first day,"
            f" and have at most {MAX_DAYS:,} days"
        )
    return begin.toordinal(), end.toordinal() + 1


def _span(rule: str, first: str, last: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    try:
        begin, end = (_in_zone(datetime.fromisoformat(text), zone) for text in (first, last))
    except (ValueError, OverflowError):  # beyond the years that Python has, in UTC
        raise _unreadable(rule) from None
    if end <= begin:
        raise BadSchedule(f"Invalid exclude: {quoted(rule)} ends before it begins")
    return begin, end


def _week_rule(rule: str) -> tuple[frozenset[int], int, int]:
    """Return the weekdays, and the minutes of the day at which it begins and ends."""
    match = _WEEKLY.fullmatch(rule)
    if match is None or not rule:
        raise _unreadable(rule)
    days = _days(rule, match["first"], match["last"])
    if match["hours"] is None:
        return days, 0, _DAY_MINUTES
    h1, m1, h2, m2 = (int(match[name]) for name in ("h1", "m1", "h2", "m2"))
    begin, end = h1 * 60 + m1, h2 * 60 + m2
    valid = max(m1, m2) < 60 and begin < _DAY_MINUTES and end <= _DAY_MINUTES  # noqa: PLR2004 - minutes
    if not valid or begin == end:
        raise _unreadable(rule)
    return days, begin, end


def _days(rule: str, first: str | None, last: str | None) -> frozenset[int]:
    if first is None:
        return frozenset(range(7))
    try:
        begin, end = (_WEEKDAYS.index(name.lower()) for name in (first, last or first))
    except ValueError:
        raise _unreadable(rule) from None
    return frozenset((begin + number) % 7 for number in range((end - begin) % 7 + 1))


def _bound(name: str, text: str, zone: ZoneInfo, rest_of_day: timedelta) -> datetime | None:
    if not text:
        return None
    try:
        at = datetime.fromisoformat(text)
        is_date = len(text) == len("2026-12-25")
        at = datetime.combine(at, time()) + rest_of_day if is_date else at
        return _in_zone(at, zone)
    except (ValueError, OverflowError):
        raise BadSchedule(
            f"Invalid {name}: {quoted(text)}; it takes a date or a timestamp"
        ) from None


def _in_zone(at: datetime, zone: ZoneInfo) -> datetime:
    return (at if at.tzinfo is not None else at.replace(tzinfo=zone)).astimezone(UTC)


def _unreadable(rule: str) -> BadSchedule:
    return BadSchedule(f"Invalid exclude: {quoted(rule)}; {_FORMS}")
