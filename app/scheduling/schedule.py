"""When something is due: an interval from an anchor, or a cron expression in a zone. Pure."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from copy import copy
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from hashlib import sha256
from itertools import islice, pairwise
from typing import Self
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from cronsim import CronSim, CronSimError
from cronsim.explain import Expression

from app.errors import BadSchedule

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SHORTEST = timedelta(seconds=0.1)
LONGEST = timedelta(days=3660)
MOST_JITTER = timedelta(days=7)

_ZERO = timedelta(0)
_INSTANT = timedelta(microseconds=1)
_SECOND = timedelta(seconds=1)
_WEEK = timedelta(weeks=1)
# The rarest expression that still fires, 29 February on a given weekday, skips 40 years at 2100.
_HORIZON = timedelta(days=366 * 60)
# Any fixed Monday would do: what a schedule is called refused or usual must not depend on today.
_REFERENCE = datetime(2025, 6, 2, tzinfo=UTC)

_MOST_CHARACTERS = 500
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
_RANGE_OF_ONE = re.compile(r"\b0*(\w+)-0*\1/0*[1-9]\d*\b", re.IGNORECASE | re.ASCII)
_MOST_SHOWN = 60
_MOST_IN_A_ZONE_NAME = 64
_EVERY_DATE = frozenset(range(1, 32))
_EVERY_DAY = frozenset(range(7))
_NEVER = datetime.max  # noqa: DTZ901 - a wall clock has no zone


@dataclass(frozen=True, slots=True)
class Interval:
    """Every `step` of elapsed time, on a grid through `anchor` that reaches both ways."""

    step: timedelta
    anchor: datetime = EPOCH

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        tick = self.next(after)
        while tick <= until:
            yield tick
            tick += self.step

    def count(self, after: datetime, until: datetime) -> int:
        return max(0, self._index(until) - self._index(after))

    def next(self, after: datetime) -> datetime:
        return self.anchor + (self._index(after) + 1) * self.step

    def previous(self, before: datetime) -> datetime:
        return self.anchor + self._index(before - _INSTANT) * self.step

    def describe(self) -> str:
        return f"every {_in_words(self.step)}"

    def spacing(self) -> timedelta:
        return self.step

    def to_spec(self) -> dict[str, object]:
        return {"every_seconds": _seconds(self.step), "anchor": self.anchor.isoformat()}

    def _index(self, instant: datetime) -> int:
        return (instant - self.anchor) // self.step


@dataclass(frozen=True, slots=True)
class Cron:
    """A cron expression of 5 fields, or 6 with seconds first, read on the clocks of a zone.

    Debian cron: a job for a fixed time that falls into the spring gap runs right after it, and one
    in a repeated hour runs once; a job with a star for its minute or hour follows real time, as
    does every expression with seconds. cronsim says which wall clock times match; which instants
    those are is worked out here, for every kind of clock change.
    """

    expression: str
    timezone: str = "UTC"

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        follow = self._real_time if self._follows_real_time() else self._fixed_time
        return follow(after, until)

    def count(self, after: datetime, until: datetime) -> int:
        return sum(1 for _ in self.ticks(after, until))

    def next(self, after: datetime) -> datetime:
        tick = next(self.ticks(after, after + _HORIZON), None)
        if tick is None:
            raise BadSchedule(f"{self._name()}: never fires after {after.isoformat()}")
        return tick

    def previous(self, before: datetime) -> datetime | None:
        window = _SECOND
        while window < _HORIZON:
            tick = next(self.ticks(before - window, before - _INSTANT), None)
            if tick is not None:
                return self._last(tick, before)
            window *= 4
        return None

    def describe(self) -> str:
        sim = _parsed(self.expression)
        parts = list(sim.parts)
        # Debian cron: without a star, a day matches by either field; so one full field is any day.
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

    def to_spec(self) -> dict[str, object]:
        return {"cron": self.expression, "timezone": self.timezone}

    def check(self) -> None:
        """Refuse what can never fire. Raises BadSchedule."""
        if next(self.ticks(_REFERENCE, _REFERENCE + _HORIZON), None) is None:
            raise BadSchedule(f"{self._name()}: never fires in {self.timezone}")

    def _name(self) -> str:
        return f"Invalid cron expression {_shown(self.expression)}"

    def _follows_real_time(self) -> bool:
        *seconds, minute, hour, _, _, _ = self.expression.split()
        return bool(seconds) or minute.startswith("*") or hour.startswith("*")

    def _real_time(self, after: datetime, until: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone)
        walk, wall, known = iter(()), _NEVER, None
        for start, end, offset in _spans(zone, after + _INSTANT, until + _INSTANT):
            if offset != known:
                walk, known = self._walls(_naive(start, offset) - _INSTANT), offset
                wall = next(walk, _NEVER)
            stop = _naive(end, offset)
            while wall < stop:
                yield (wall - offset).replace(tzinfo=UTC)
                wall = next(walk, _NEVER)

    def _fixed_time(self, after: datetime, until: datetime) -> Iterator[datetime]:
        zone = ZoneInfo(self.timezone)
        # Two times of one gap, or the end of it, are one instant: only what is later counts.
        last = after
        for wall in self._walls(after.astimezone(zone).replace(tzinfo=None)):
            tick = _first_instant(zone, wall)
            if tick > until:
                return
            if tick > last:
                yield tick
                last = tick

    def _walls(self, after: datetime) -> Iterator[datetime]:
        sim = copy(_parsed(self.expression))
        sim.dt = after.replace(microsecond=0, fold=0)
        return sim

    def _last(self, tick: datetime, before: datetime) -> datetime:
        # Bisection by `next`: few steps however many ticks lie between. None lies in (high, before)
        high = before - _INSTANT
        while (following := self.next(tick)) <= high:
            middle = tick + (high - tick) / 2
            later = self.next(middle)
            tick, high = (later, high) if later <= high else (following, middle)
        return tick


@dataclass(frozen=True, slots=True)
class Schedule:
    """What names instants, all of them UTC. Declared with `every` or `cron`, which check it.

    `jitter`: a tick starts up to that much later, the same for the same name and tick.
    """

    rule: Interval | Cron
    name: str = ""
    jitter: timedelta = _ZERO

    @classmethod
    def every(
        cls, seconds: float, *, anchor: datetime = EPOCH, name: str = "", jitter: timedelta = _ZERO
    ) -> Self:
        """Declare an interval of elapsed seconds (0.1 s to 3,660 days). Raises BadSchedule."""
        try:
            step = timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            raise BadSchedule(f"Invalid interval: {seconds} is no number of seconds") from None
        if not SHORTEST <= step <= LONGEST:
            raise BadSchedule(
                f"Invalid interval: {seconds} seconds; it takes 0.1 seconds to 3,660 days"
            )
        if anchor.tzinfo is None:
            raise BadSchedule(f"Invalid interval: the anchor {anchor.isoformat()} has no zone")
        return cls(Interval(step, anchor.astimezone(UTC)), name, _checked_jitter(jitter))

    @classmethod
    def cron(
        cls, expression: str, timezone: str = "UTC", *, name: str = "", jitter: timedelta = _ZERO
    ) -> Self:
        """Declare a cron expression in an IANA zone; `@daily` and its kin are known.

        Raises BadSchedule for what cannot be read, has no such zone, or never fires.
        """
        _check_zone(timezone)
        rule = Cron(_checked_expression(expression), timezone)
        rule.check()
        return cls(rule, name, _checked_jitter(jitter))

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Name the instants with after < tick <= until, in order."""
        return self.rule.ticks(after.astimezone(UTC), until.astimezone(UTC))

    def count(self, after: datetime, until: datetime) -> int:
        """Count the instants with after < tick <= until; for an interval without walking them."""
        return self.rule.count(after.astimezone(UTC), until.astimezone(UTC))

    def next(self, after: datetime) -> datetime:
        """Name the first instant later than `after`. Raises BadSchedule: none in 60 years."""
        return self.rule.next(after.astimezone(UTC))

    def previous(self, before: datetime) -> datetime | None:
        """Name the last instant earlier than `before`, or None if there was none in 60 years."""
        return self.rule.previous(before.astimezone(UTC))

    def starts_at(self, tick: datetime, following: datetime | None = None) -> datetime:
        """Say when the tick may start: with its jitter, yet always before the next tick.

        `following`: the next tick, where it is known already.
        """
        if not self.jitter:
            return tick
        tick = tick.astimezone(UTC)
        seed = sha256(f"{self.name}\n{tick.isoformat()}".encode()).digest()[:8]
        room = min(self.jitter + _INSTANT, (following or self.next(tick)) - tick)
        return tick + timedelta(microseconds=int.from_bytes(seed) % (room // _INSTANT))

    def jittered(self, jitter: timedelta) -> Self:
        """Return the same schedule with another jitter. Raises BadSchedule."""
        return replace(self, jitter=_checked_jitter(jitter))

    @property
    def interval(self) -> timedelta | None:
        """The nominal spacing; for a cron expression the usual gap between two ticks."""
        return self.rule.spacing()

    def describe(self) -> str:
        """Say it in plain words: `every 5 minutes`."""
        spread = f", up to {_in_words(self.jitter, one='1 ')} later" if self.jitter else ""
        return self.rule.describe() + spread

    def to_spec(self) -> dict[str, object]:
        """Write it as JSON values, without the name: equal schedules have equal specs."""
        return self.rule.to_spec() | {"jitter_seconds": _seconds(self.jitter)}

    @classmethod
    def from_spec(cls, spec: Mapping[str, object], *, name: str = "") -> Self:
        """Read what `to_spec` wrote. Raises BadSchedule for anything else."""
        known = {"every_seconds", "anchor"} if "every_seconds" in spec else {"cron", "timezone"}
        if unknown := sorted(set(spec) - known - {"jitter_seconds"}):
            raise BadSchedule(f"Invalid schedule: {_shown(unknown[0])} is not known here")
        jitter = timedelta(seconds=_number(spec, "jitter_seconds", 0))
        if "every_seconds" in spec:
            anchor = _instant(_text(spec, "anchor", EPOCH.isoformat()))
            seconds = _number(spec, "every_seconds")
            return cls.every(seconds, anchor=anchor, name=name, jitter=jitter)
        expression, timezone = _text(spec, "cron"), _text(spec, "timezone", "UTC")
        return cls.cron(expression, timezone, name=name, jitter=jitter)


@lru_cache(maxsize=4096)
def _parsed(expression: str) -> CronSim:
    return CronSim(expression, datetime(2000, 1, 1))  # noqa: DTZ001 - a wall clock has no zone


def _checked_expression(expression: str) -> str:
    if len(expression) > _MOST_CHARACTERS:
        raise BadSchedule(f"Invalid cron expression: longer than {_MOST_CHARACTERS} characters")
    fields = expression.split()
    # cronsim reads 5-5/15, a range of one with a step, as 5/15, which goes on to the end.
    fields = [_RANGE_OF_ONE.sub(r"\1", value) for value in fields]
    text = " ".join(fields)
    if text.startswith("@"):
        return _aliased(text)
    if len(fields) not in (5, 6):
        raise BadSchedule(
            f"Invalid cron expression {_shown(text)}: {len(fields)} fields; it takes 5"
            " (minute, hour, day-of-month, month, day-of-week), or 6 with the second first"
        )
    try:
        _parsed(text)
    except CronSimError as error:
        raise BadSchedule(_why_not(fields, str(error))) from None
    return text


def _aliased(text: str) -> str:
    expression = _ALIASES.get(text.lower())
    if expression is None:
        known = ", ".join(_ALIASES)
        raise BadSchedule(f"Invalid cron expression: {_shown(text)} is none of {known}")
    return expression


def _why_not(fields: list[str], message: str) -> str:
    name = message.removeprefix("Bad ")
    value = fields[list(_FIELDS).index(name) - 6]
    if name == "day-of-month" and _is_readable([*fields[:-2], "*", "*"]):
        months = _shown(fields[-2])
        return (
            f"Invalid cron expression: day-of-month {_shown(value)} never comes in month {months}"
        )
    return f"Invalid cron expression: {name} {_shown(value)}; it takes {_FIELDS[name]}"


def _is_readable(fields: list[str]) -> bool:
    try:
        _parsed(" ".join(fields))
    except CronSimError:
        return False
    return True


def _check_zone(name: str) -> None:
    if not _is_zone(name):
        raise BadSchedule(f"Unknown time zone {_shown(name)}; it takes one like Europe/Berlin")


def _is_zone(name: str) -> bool:
    # `right/…` counts leap seconds; `localtime` and its like are whatever the machine says.
    proper = re.fullmatch(r"[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+)*", name)
    if not proper or len(name) > _MOST_IN_A_ZONE_NAME or name == "Factory":
        return False
    try:
        ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return False
    return True


def _checked_jitter(jitter: timedelta) -> timedelta:
    if not _ZERO <= jitter <= MOST_JITTER:
        raise BadSchedule(f"Invalid jitter: {jitter}; it takes 0 seconds to 7 days")
    return jitter


def _spans(
    zone: ZoneInfo, start: datetime, end: datetime
) -> Iterator[tuple[datetime, datetime, timedelta]]:
    """Cut [start, end) into pieces of at most a week, each with one UTC offset."""
    while start < end:
        offset = _offset(zone, start)
        stop = start + min(_WEEK, end - start)
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
    """Find the first instant at which clocks in the zone show `wall`, or have just skipped it."""
    instant = wall.replace(tzinfo=zone).astimezone(UTC)
    if instant.astimezone(zone).replace(tzinfo=None) == wall:
        return instant
    return _shift(zone, wall.replace(tzinfo=zone, fold=1).astimezone(UTC), instant)


def _weekdays(sim: CronSim) -> set[int]:
    return {day % 7 for day in sim.weekdays if isinstance(day, int)}


def _ordinal(match: re.Match[str]) -> str:
    return match[1] + {"1": "st", "2": "nd", "3": "rd"}[match[1][-1]]


def _in_words(span: timedelta, *, one: str = "") -> str:
    for unit, name in ((86_400, "day"), (3600, "hour"), (60, "minute"), (1, "second")):
        count, rest = divmod(span, timedelta(seconds=unit))
        if count and not rest:
            return f"{one}{name}" if count == 1 else f"{count:,} {name}s"
    return f"{_seconds(span)} seconds"


def _seconds(span: timedelta) -> float:
    seconds = span.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _shown(value: str) -> str:
    text = value if len(value) <= _MOST_SHOWN else value[:_MOST_SHOWN] + "..."
    return '"' + text.encode("unicode_escape").decode() + '"'


def _number(spec: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = spec.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadSchedule(f"Invalid schedule: {key} must be a number of seconds")
    if not abs(value) <= LONGEST.total_seconds():
        raise BadSchedule(f"Invalid schedule: {key} {value} is more than 3,660 days")
    return value


def _text(spec: Mapping[str, object], key: str, default: str | None = None) -> str:
    value = spec.get(key, default)
    if not isinstance(value, str):
        raise BadSchedule(
            f'Invalid schedule: {key} must be text; it needs "cron" or "every_seconds"'
        )
    return value


def _instant(text: str) -> datetime:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        raise BadSchedule(f"Invalid schedule: the anchor {_shown(text)} is no instant") from None
