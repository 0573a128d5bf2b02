"""Schedules: an interval from an anchor, or a cron expression in a time zone. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Self

from app.core.durations import in_words
from app.core.errors import BadSchedule
from app.core.zone_data import UNKNOWN_STAMP
from app.scheduling.cron import Cron, check_zone, quoted, validated

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MIN_INTERVAL = timedelta(seconds=0.1)
MAX_INTERVAL = timedelta(days=3660)
MAX_JITTER = timedelta(days=7)

_ZERO = timedelta(0)
_INSTANT = timedelta(microseconds=1)


@dataclass(frozen=True, slots=True)
class Interval:
    """Every `step` of elapsed time, aligned to `anchor` in both directions.

    `timezone`, `stamp`: of the zone data that its exclusions are read with; its ticks need none.
    """

    step: timedelta
    anchor: datetime = EPOCH
    timezone: str | None = None
    stamp: str = UNKNOWN_STAMP

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
        return f"every {in_words(self.step)}"

    def spacing(self) -> timedelta:
        return self.step

    def most_per_day(self) -> int:
        return -(timedelta(days=-1) // self.step)

    def to_spec(self) -> dict[str, object]:
        spec: dict[str, object] = {
            "every_seconds": _seconds(self.step),
            "anchor": self.anchor.isoformat(),
        }
        return spec if self.timezone is None else spec | {"timezone": self.timezone}

    def _index(self, instant: datetime) -> int:
        return (instant - self.anchor) // self.step


@dataclass(frozen=True, slots=True)
class Schedule:
    """A sequence of ticks, in UTC. Created with `every` or `cron`, which validate it.

    `jitter`: a tick starts up to that much later; the delay is fixed by name and tick.
    """

    rule: Interval | Cron
    name: str = ""
    jitter: timedelta = _ZERO

    @classmethod
    def every(
        cls, seconds: float, *, anchor: datetime = EPOCH, name: str = "", jitter: timedelta = _ZERO
    ) -> Self:
        """Create an interval of elapsed seconds (0.1 s to 3,660 days). Raises BadSchedule."""
        try:
            step = timedelta(seconds=seconds)
        except (ValueError, OverflowError):
            raise BadSchedule(
                f"Invalid interval: {seconds} is not a valid number of seconds"
            ) from None
        if not MIN_INTERVAL <= step <= MAX_INTERVAL:
            raise BadSchedule(
                f"Invalid interval: {seconds} seconds; it takes 0.1 seconds to 3,660 days"
            )
        if anchor.tzinfo is None:
            raise BadSchedule(f"Invalid interval: the anchor {anchor.isoformat()} has no time zone")
        return cls(Interval(step, anchor.astimezone(UTC)), name, _checked_jitter(jitter))

    @classmethod
    def cron(
        cls, expression: str, timezone: str = "UTC", *, name: str = "", jitter: timedelta = _ZERO
    ) -> Self:
        """Create a schedule from a cron expression in an IANA zone; `@daily` etc. are supported.

        Raises BadSchedule if the expression or the zone is invalid, or it never fires.
        """
        return cls(validated(expression, timezone), name, _checked_jitter(jitter))

    @property
    def timezone(self) -> str | None:
        """The time zone of its ticks and exclusions; None for an interval without exclusions."""
        return self.rule.timezone

    @property
    def stamp(self) -> str | None:
        """The stamp of that zone's data; None without a zone."""
        return None if self.rule.timezone is None else self.rule.stamp

    def with_stamp(self, stamp: str) -> Self:
        """Return the same schedule by other zone data. Raises BadSchedule."""
        rule = self.rule
        if isinstance(rule, Cron):
            rule = validated(rule.expression, rule.timezone, stamp, rule.fields)
        elif rule.timezone is not None:
            check_zone(rule.timezone, stamp)
            rule = replace(rule, stamp=stamp)
        return replace(self, rule=rule)

    def in_zone(self, timezone: str) -> Self:
        """Return the same schedule; an interval gets the zone that its exclusions are read in."""
        if isinstance(self.rule, Cron):
            return self
        return replace(self, rule=replace(self.rule, timezone=timezone))

    def after_change(self, answered: datetime, old: Self) -> datetime:
        """Return the instant after which this schedule has ticks that `old` has not answered.

        `old` is the same schedule by other zone data, and has answered its ticks up to `answered`.
        """
        if isinstance(self.rule, Cron) and isinstance(old.rule, Cron):
            return self.rule.after_change(answered, old.rule)
        return answered

    def ticks(self, after: datetime, until: datetime) -> Iterator[datetime]:
        """Yield the ticks with after < tick <= until, in order."""
        return self.rule.ticks(after.astimezone(UTC), until.astimezone(UTC))

    def count(self, after: datetime, until: datetime) -> int:
        """Return the number of ticks with after < tick <= until."""
        return self.rule.count(after.astimezone(UTC), until.astimezone(UTC))

    def next(self, after: datetime) -> datetime:
        """Return the first tick later than `after`. Raises BadSchedule if none is in 60 years."""
        return self.rule.next(after.astimezone(UTC))

    def previous(self, before: datetime) -> datetime | None:
        """Return the last tick earlier than `before`; None if none is within 60 years."""
        return self.rule.previous(before.astimezone(UTC))

    def starts_at(self, tick: datetime, following: datetime | None = None) -> datetime:
        """Return when the tick may start: with its jitter, but always before the next tick.

        `following`: the next tick, if the caller knows it.
        """
        if not self.jitter:
            return tick
        tick = tick.astimezone(UTC)
        seed = sha256(f"{self.name}\n{tick.isoformat()}".encode()).digest()[:8]
        spread = min(self.jitter + _INSTANT, (following or self.next(tick)) - tick)
        return tick + timedelta(microseconds=int.from_bytes(seed) % (spread // _INSTANT))

    def with_jitter(self, jitter: timedelta) -> Self:
        """Return the same schedule with another jitter. Raises BadSchedule."""
        return replace(self, jitter=_checked_jitter(jitter))

    @property
    def interval(self) -> timedelta | None:
        """The nominal spacing; for a cron expression the most common gap, None if there is none."""
        return self.rule.spacing()

    @property
    def most_per_day(self) -> int:
        """The number of ticks on a day on which it is due, clock changes aside."""
        return self.rule.most_per_day()

    def describe(self) -> str:
        """Describe the schedule in words: `every 5 minutes`."""
        delay = f", up to {in_words(self.jitter, one='1 ')} later" if self.jitter else ""
        return self.rule.describe() + delay

    def to_spec(self) -> dict[str, object]:
        """Return JSON values without the name: equal schedules have equal specs."""
        return self.rule.to_spec() | {"jitter_seconds": _seconds(self.jitter)}

    @classmethod
    def from_spec(
        cls, spec: Mapping[str, object], *, name: str = "", stamp: str | None = None
    ) -> Self:
        """Read what `to_spec` returned. Raises BadSchedule for anything else.

        `stamp`: of the zone data that its ticks are derived with; None for the wheel's.
        """
        try:
            return cls._from_spec(spec, name, stamp)
        except (TypeError, AttributeError):  # not even an object
            raise BadSchedule("Invalid schedule: it must be an object") from None

    @classmethod
    def _from_spec(cls, spec: Mapping[str, object], name: str, stamp: str | None) -> Self:
        known = {"cron", "timezone", "fields"}
        if "every_seconds" in spec:
            known = {"every_seconds", "anchor", "timezone"}
        if unknown := sorted(set(spec) - known - {"jitter_seconds"}):
            raise BadSchedule(f"Invalid schedule: unknown key {quoted(unknown[0])}")
        jitter = timedelta(seconds=_number(spec, "jitter_seconds", 0))
        if "every_seconds" in spec:
            anchor = _instant(_text(spec, "anchor", EPOCH.isoformat()))
            seconds = _number(spec, "every_seconds")
            interval = cls.every(seconds, anchor=anchor, name=name, jitter=jitter)
            if "timezone" not in spec:
                return interval
            return interval.in_zone(_text(spec, "timezone")).with_stamp(stamp or UNKNOWN_STAMP)
        expression, timezone = _text(spec, "cron"), _text(spec, "timezone", "UTC")
        rule = validated(expression, timezone, stamp or UNKNOWN_STAMP, _text(spec, "fields", ""))
        return cls(rule, name, _checked_jitter(jitter))


def _checked_jitter(jitter: timedelta) -> timedelta:
    if not _ZERO <= jitter <= MAX_JITTER:
        raise BadSchedule(f"Invalid jitter: {jitter}; it takes 0 seconds to 7 days")
    return jitter


def _seconds(span: timedelta) -> float:
    seconds = span.total_seconds()
    return int(seconds) if seconds.is_integer() else seconds


def _number(spec: Mapping[str, object], key: str, default: float | None = None) -> float:
    value = spec.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadSchedule(f"Invalid schedule: {key} must be a number of seconds")
    if not abs(value) <= MAX_INTERVAL.total_seconds():
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
        at = datetime.fromisoformat(text)
        return at if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadSchedule(
            f"Invalid schedule: the anchor {quoted(text)} is not a timestamp"
        ) from None
