"""Times in which a schedule's ticks do not run: dates, weekday hours, calendars, bounds. Pure."""

import re
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import Any, Self, cast
from zoneinfo import ZoneInfo

from app.core import zone_data
from app.core.errors import BadSchedule
from app.scheduling.cron import check_zone, quoted

MAX_RULES = 2_000
MAX_DAYS = 3_660  # of one range of dates
_DAY_MINUTES = 24 * 60
_DAY = timedelta(days=1)
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
        weekly = compiled.weekly
        if weekly and all(_in_week(weekly, number) for number in range(7 * _DAY_MINUTES)):
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
class _Weekly:
    """Minutes [begin, end) of local days, by the weekday on which they begin; may span midnight."""

    days: frozenset[int]
    begin: int
    end: int

    def covers(self, weekday: int, minute: int) -> bool:
        if self.begin < self.end:
            return weekday in self.days and self.begin <= minute < self.end
        before = (weekday - 1) % 7 in self.days
        return (weekday in self.days and minute >= self.begin) or (before and minute < self.end)


@dataclass(frozen=True, slots=True)
class CompiledExclusions:
    """Exclusions by one version of the zone's data. Ticks in [start, end] may run."""

    start: datetime
    end: datetime
    zone: ZoneInfo
    dates: frozenset[date]
    weekly: tuple[_Weekly, ...]
    begins: tuple[datetime, ...]
    ends: tuple[datetime, ...]  # each the latest end of the spans up to it

    def cover(self, instant: datetime) -> bool:
        """Return whether a tick at `instant` does not run."""
        if not self.start <= instant <= self.end:
            return True
        index = bisect_right(self.begins, instant) - 1
        if index >= 0 and instant < self.ends[index]:
            return True
        local = instant.astimezone(self.zone)
        minute = local.hour * 60 + local.minute
        weekday = local.weekday()
        return local.date() in self.dates or any(w.covers(weekday, minute) for w in self.weekly)


def _in_week(weekly: Sequence[_Weekly], minute: int) -> bool:
    return any(rule.covers(*divmod(minute, _DAY_MINUTES)) for rule in weekly)


@lru_cache(maxsize=1024)
def _compiled(exclusions: Exclusions, stamp: str) -> CompiledExclusions:
    zone = zone_data.zone(exclusions.timezone, stamp)
    dates: set[date] = set()
    weekly: list[_Weekly] = []
    spans: list[tuple[datetime, datetime]] = []
    for rule in exclusions.rules:
        if rule[:4].isdigit():
            first, _, last = (part.strip() for part in rule.partition("/"))
            if len(first) == len("2026-12-25"):
                dates.update(_dates(rule, first, last or first))
            else:
                spans.append(_span(rule, first, last, zone))
        else:
            weekly.append(_week_rule(rule))
    spans.sort()
    ends: list[datetime] = []
    for _, end in spans:
        ends.append(max(end, ends[-1]) if ends else end)
    return CompiledExclusions(
        start=_bound("start", exclusions.start, zone, timedelta(0)) or _EARLIEST,
        end=_bound("end", exclusions.end, zone, _DAY - timedelta(microseconds=1)) or _LATEST,
        zone=zone,
        dates=frozenset(dates),
        weekly=tuple(weekly),
        begins=tuple(begin for begin, _ in spans),
        ends=tuple(ends),
    )


def _dates(rule: str, first: str, last: str) -> list[date]:
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
    return [begin + number * _DAY for number in range(days)]


def _span(rule: str, first: str, last: str, zone: ZoneInfo) -> tuple[datetime, datetime]:
    try:
        begin, end = (_in_zone(datetime.fromisoformat(text), zone) for text in (first, last))
    except ValueError:
        raise _unreadable(rule) from None
    if end <= begin:
        raise BadSchedule(f"Invalid exclude: {quoted(rule)} ends before it begins")
    return begin, end


def _week_rule(rule: str) -> _Weekly:
    match = _WEEKLY.fullmatch(rule)
    if match is None or not rule:
        raise _unreadable(rule)
    days = _days(rule, match["first"], match["last"])
    if match["hours"] is None:
        return _Weekly(days, 0, _DAY_MINUTES)
    h1, m1, h2, m2 = (int(match[name]) for name in ("h1", "m1", "h2", "m2"))
    begin, end = h1 * 60 + m1, h2 * 60 + m2
    valid = max(m1, m2) < 60 and begin < _DAY_MINUTES and end <= _DAY_MINUTES  # noqa: PLR2004 - minutes
    if not valid or begin == end:
        raise _unreadable(rule)
    return _Weekly(days, begin, end)


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
