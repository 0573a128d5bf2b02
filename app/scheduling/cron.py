"""Cron expressions in a time zone, and the instants at which they fire. Pure."""

import re
from collections import Counter
from collections.abc import Iterator
from copy import copy
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import islice, pairwise
from typing import Self
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from app.core import zone_data
from app.core.errors import BadSchedule
from app.scheduling import cron_fields
from app.scheduling.known import InstantCache

_ZERO = timedelta(0)
_INSTANT = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
# Less than the time between any two changes of a zone's offset (a week less an hour, in Recife and
# Gaza): the offsets at both ends of a span differ if and only if it changes in between.
MAX_SPAN = timedelta(days=3)
_MONTH = timedelta(days=32)

# The rarest expression that still fires, 29 February on a given weekday, skips 40 years at 2100.
_HORIZON = timedelta(days=366 * 60)
_LATEST = datetime(9998, 1, 1, tzinfo=UTC) - _HORIZON  # the last instant with a whole horizon


# A fixed start, any Monday: validation and spacing must not depend on the present date.
_REFERENCE = datetime(2025, 6, 2, tzinfo=UTC)


_MAX_CHARACTERS = 500

_ALIASES = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}

_FIELDS = {
    "second": "0-59",
    "minute": "0-59",
    "hour": "0-23",
    "day-of-month": "1-31, L or LW",
    "month": "1-12 or JAN-DEC",
    "day-of-week": "0-7 or SUN-SAT, 5L, MON#1",
}

_STEPPED_RANGE = re.compile(r"\b(\w+)-(\w+)/0*[1-9]\d*\b", re.ASCII)
_MONTHS = "JAN FEB MAR APR MAY JUN JUL AUG SEP OCT NOV DEC"
_DAYS = "SUN MON TUE WED THU FRI SAT"
_NUMBERS = {
    "month": {name: number for number, name in enumerate(_MONTHS.split(), start=1)},
    "day-of-week": {name: number for number, name in enumerate(_DAYS.split())},
}

_MAX_SHOWN = 60
_MAX_ZONE_NAME = 64

_EVERY_DATE = frozenset(range(1, 32))
_EVERY_DAY = frozenset(range(7))

_NEVER = datetime.max  # noqa: DTZ901 - a wall clock has no zone
_START = datetime(2000, 1, 1)  # noqa: DTZ001 - as above


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of 5 fields, or 6 with seconds first, in the local time of a zone.

    Debian cron: a job for a fixed time that falls into the spring gap runs right after it, and one
    in a repeated hour runs once; a job with a star for its minute or hour follows real time, as
    does every expression with seconds. cronsim finds the matching wall clock times; this class
    converts them to instants, for every kind of clock change.

    `fields`: what the expression was read as (`cron_fields`); another parser may read it otherwise.
    """

    expression: str
    timezone: str
    fields: str
    stamp: str = zone_data.UNKNOWN_STAMP  # of the zone data; the wheel's without one

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        first = _known(self).after(after)
        return self._search(after, until) if first is None else self._from(first, until)

    def count(self, after: datetime, until: datetime) -> int:
        return sum(1 for _ in self.ticks(after, until))

    def next(self, after: datetime) -> datetime:
        known = _known(self)
        tick = known.after(after)
        if tick is None:
            found = self._search(after, min(after, _LATEST) + _HORIZON)
            tick = next(found, None)
            if tick is None:
                raise BadSchedule(f"{self._name()}: never fires after {after.isoformat()}")
            # Callers mostly need the next two as well, and a search in progress finds them cheaply.
            known.add(after, (tick, *islice(found, 2 if tick - after < _MONTH else 0)))
        return tick

    def previous(self, before: datetime) -> datetime | None:
        span = _SECOND
        while True:
            tick = next(self.ticks(before - span, before - _INSTANT), None)
            if tick is not None:
                return self._last(tick, before)
            if span == _HORIZON:
                return None
            span = min(span * 4, _HORIZON)

    def after_change(self, answered: datetime, old: Self) -> datetime:
        """Return the instant after which this rule has ticks that `old` has not answered.

        `old` is the same rule by other zone data, and has answered its ticks up to `answered`.
        A fixed local time that it has answered is not named again, at whatever instant it is now.
        """
        if self._follows_real_time():
            return answered
        zone = zone_data.zone(old.timezone, old.stamp)
        wall = answered.astimezone(zone).replace(tzinfo=None)
        return max(answered, _first_instant(self._zone(), wall))

    def describe(self) -> str:
        sim = self._sim()
        parts = self.expression.upper().split()
        parts = ["0"] * (len(_FIELDS) - len(parts)) + parts
        # Debian cron: without a star a day matches by either field, so a full field is any day.
        either = not sim.day_and
        if either and (sim.days >= _EVERY_DATE or _weekdays(sim) >= _EVERY_DAY):
            parts[3] = parts[5] = "*"
        text = Expression(parts).explain().replace(" through ", " to ")
        text = re.sub(r"\b(\d*[02-9][123])th\b", _ordinal, text.replace(" and on ", " or on "))
        return f"{text[0].lower()}{text[1:]}, {self.timezone}"

    def spacing(self) -> timedelta | None:
        ticks = islice(self.ticks(_REFERENCE, _REFERENCE + _HORIZON), 9)
        gaps = Counter(later - earlier for earlier, later in pairwise(ticks))
        return gaps.most_common(1)[0][0] if gaps else None

    def most_per_day(self) -> int:
        sim = self._sim()
        return len(sim.seconds) * len(sim.minutes) * len(sim.hours)

    def to_spec(self) -> dict[str, object]:
        return {"cron": self.expression, "timezone": self.timezone, "fields": self.fields}

    def _sim(self) -> CronSim:
        return _read_fields(self.fields)

    def _zone(self) -> ZoneInfo:
        return zone_data.zone(self.timezone, self.stamp)

    def check(self) -> None:
        """Raise BadSchedule if the expression never fires."""
        if next(self.ticks(_REFERENCE, _REFERENCE + _HORIZON), None) is None:
            raise BadSchedule(f"{self._name()}: never fires in {self.timezone}")

    def _from(self, first: datetime, until: datetime) -> Iterator[datetime]:
        if first > until:
            return
        yield first
        following = _known(self).after(first)
        if following is None or following <= until:
            yield from self._search(first, until)

    def _search(self, after: datetime, until: datetime) -> Iterator[datetime]:
        search = self._real_time if self._follows_real_time() else self._fixed_time
        return search(after, until)

    def _name(self) -> str:
        return f"Invalid cron expression {quoted(self.expression)}"

    def _follows_real_time(self) -> bool:
        *seconds, minute, hour, _, _, _ = self.expression.split()
        return bool(seconds) or minute.startswith("*") or hour.startswith("*")

    def _real_time(self, after: datetime, until: datetime) -> Iterator[datetime]:
        zone = self._zone()
        walls, wall, known = iter(()), _NEVER, None
        for start, end, offset in _spans(zone, after + _INSTANT, until + _INSTANT):
            if offset != known:
                walls, known = self._walls(_naive(start, offset) - _INSTANT), offset
                wall = next(walls, _NEVER)
            stop = _naive(end, offset)
            while wall < stop:
                yield (wall - offset).replace(tzinfo=UTC)
                wall = next(walls, _NEVER)

    def _fixed_time(self, after: datetime, until: datetime) -> Iterator[datetime]:
        zone = self._zone()
        # Several times in a gap, and its end, map to one instant: yield it once.
        last = after
        for wall in self._walls(after.astimezone(zone).replace(tzinfo=None)):
            tick = _first_instant(zone, wall)
            if tick > until:
                return
            if tick > last:
                yield tick
                last = tick

    def _walls(self, after: datetime) -> Iterator[datetime]:
        sim = copy(self._sim())
        sim.dt = after.replace(microsecond=0, fold=0)
        return sim

    def _last(self, tick: datetime, before: datetime) -> datetime:
        # Bisection by `next`, so that many ticks take few steps. There is none in (high, before).
        high = before - _INSTANT
        while (following := self.next(tick)) <= high:
            middle = tick + (high - tick) / 2
            later = self.next(middle)
            tick, high = (later, high) if later <= high else (following, middle)
        return tick


@lru_cache(maxsize=4096)
def _known(_: Cron) -> InstantCache:
    return InstantCache()


@lru_cache(maxsize=4096)
def validated(
    expression: str, timezone: str, stamp: str = zone_data.UNKNOWN_STAMP, fields: str = ""
) -> Cron:
    """Return the validated expression in the zone, by the zone data of `stamp` if it was added.

    `fields`: what it was read as when it was stored; it is not read again then.
    Raises BadSchedule if one of them is invalid.
    """
    check_zone(timezone, stamp)
    if not fields:
        expression = validated_expression(expression)
        fields = cron_fields.to_text(_parsed(expression))
    elif len(expression.split()) not in (5, 6):
        raise BadSchedule(f"Invalid cron expression {quoted(expression)}")
    rule = Cron(expression, timezone, fields, stamp)
    rule.check()
    return rule


@lru_cache(maxsize=4096)
def _parsed(expression: str) -> CronSim:
    return CronSim(expression, _START)


@lru_cache(maxsize=4096)
def _read_fields(text: str) -> CronSim:
    try:
        return cron_fields.to_sim(text, _START)
    except ValueError as error:
        raise BadSchedule(f"Invalid fields {quoted(text)}: {error}") from None


def validated_expression(expression: str) -> str:
    """Return the expression normalised for cronsim. Raises BadSchedule with field and reason."""
    if len(expression) > _MAX_CHARACTERS:
        raise BadSchedule(f"Invalid cron expression: longer than {_MAX_CHARACTERS} characters")
    fields = expression.split()
    # cronsim parses 5-5/15, a range of one with a step, as 5/15, which does not end at 5.
    if len(fields) in (5, 6):
        names = list(_FIELDS)[-len(fields) :]
        fields = [_without_ranges_of_one(*named) for named in zip(names, fields, strict=True)]
    text = " ".join(fields)
    if text.startswith("@"):
        return _aliased(text)
    if len(fields) not in (5, 6):
        raise BadSchedule(
            f"Invalid cron expression {quoted(text)}: {len(fields)} fields; it takes 5"
            " (minute, hour, day-of-month, month, day-of-week), or 6 with the second first"
        )
    try:
        _parsed(text)
    except CronSimError as error:
        raise BadSchedule(_explanation(fields, str(error))) from None
    return text


def _without_ranges_of_one(field: str, value: str) -> str:
    # str.upper makes ASCII of some letters: a dotless i would become the I of FRI.
    if not value.isascii():
        raise BadSchedule(
            f"Invalid cron expression: {field} {quoted(value)}; it takes {_FIELDS[field]}"
        )
    numbers = _NUMBERS.get(field, {})

    def number(text: str) -> int | str:
        name = text.upper()
        return numbers.get(name, int(name) if name.isdigit() else name)

    def one(match: re.Match[str]) -> str:
        return match[1] if number(match[1]) == number(match[2]) else match[0]

    return _STEPPED_RANGE.sub(one, value)


def _aliased(text: str) -> str:
    expression = _ALIASES.get(text.lower())
    if expression is None:
        known = ", ".join(_ALIASES)
        raise BadSchedule(f"Invalid cron expression: {quoted(text)} is none of {known}")
    return expression


def _explanation(fields: list[str], message: str) -> str:
    name = message.removeprefix("Bad ")
    value = fields[list(_FIELDS).index(name) - 6]
    if name == "day-of-month" and _parses([*fields[:-2], "*", "*"]):
        months = quoted(fields[-2])
        day = quoted(value)
        return f"Invalid cron expression: day-of-month {day} does not exist in month {months}"
    return f"Invalid cron expression: {name} {quoted(value)}; it takes {_FIELDS[name]}"


def _parses(fields: list[str]) -> bool:
    try:
        _parsed(" ".join(fields))
    except CronSimError:
        return False
    return True


def check_zone(name: str, stamp: str = zone_data.UNKNOWN_STAMP) -> None:
    """Raise BadSchedule if there is no such zone, or its data of that stamp is not known."""
    if not _is_zone(name, stamp):
        raise BadSchedule(f"Unknown time zone {quoted(name)}; it takes one like Europe/Berlin")
    if not zone_data.is_known(name, stamp):
        raise BadSchedule(f"The data {stamp} of the zone {quoted(name)} is not stored")


def _is_zone(name: str, stamp: str) -> bool:
    # `right/…` counts leap seconds; `localtime` and the like depend on the machine.
    valid = re.fullmatch(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", name)
    if not valid or len(name) > _MAX_ZONE_NAME or name == "Factory":
        return False
    try:
        zone_data.zone(name, stamp)
    except (ValueError, OSError):
        return False
    return True


def _spans(
    zone: ZoneInfo, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Split [start, end) into spans of at most three days, each with one UTC offset."""
    while start < end:
        offset = _offset(zone, start)
        stop = start + min(MAX_SPAN, end - start)
        if _offset(zone, stop) != offset:
            stop = _shift(zone, start, stop)
        yield start, stop, offset
        start = stop


def _shift(zone: ZoneInfo, low: datetime, high: datetime) -> datetime:
    """Find the instant in (low, high] from which the offset is no longer that of `low`."""
    offset = _offset(zone, low)
    while high - low > _INSTANT:
        middle = low + (high - low) / 2
        low, high = (middle, high) if _offset(zone, middle) == offset else (low, middle)
    return high


def _offset(zone: ZoneInfo, instant: datetime) -> timedelta:
    return instant.astimezone(zone).utcoffset() or _ZERO


def _naive(instant: datetime, offset: timedelta) -> datetime:
    return instant.replace(tzinfo=None) + offset


def _first_instant(zone: ZoneInfo, wall: datetime) -> datetime:
    """Find the first instant at which local time is `wall`, or has just skipped it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    return _shift(zone, wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant)


def _weekdays(sim: CronSim) -> set[int]:
    return {day % 7 for day in sim.weekdays if isinstance(day, int)}


def _ordinal(match: re.Match[str]) -> str:
    return match[1] + {"1": "st", "2": "nd", "3": "rd"}[match[1][-1]]


def quoted(value: str) -> str:
    """Return the value quoted, escaped and shortened, for an error message."""
    text = value if len(value) <= _MAX_SHOWN else value[:_MAX_SHOWN] + "..."
    return '"' + text.encode("unicode_escape").decode() + '"'
