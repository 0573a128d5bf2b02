"""The policies of a schedule for late, coinciding and overlapping ticks. Pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import Self, TypeVar

from app.core.enums import Coalesce, Overlap
from app.core.errors import BadSchedule
from app.core.zone_data import UNKNOWN_STAMP
from app.scheduling.exclusions import CompiledExclusions, Exclusions
from app.scheduling.schedule import Schedule

_ZERO = timedelta(0)
_INSTANT = timedelta(microseconds=1)
CATCH_UP_WINDOW = timedelta(days=7)
MAX_CATCH_UP = 1000
MAX_ATTEMPTS = 100
MAX_EXCLUSIONS_AHEAD = 1_000  # exclusions that are passed in search of the next tick that may run
_CATCH_UP = 10

_NOTHING = Exclusions()

_Set = TypeVar("_Set", bound=StrEnum)


@dataclass(frozen=True, slots=True)
class Policies:
    """The policies of a schedule for late, coinciding and overlapping ticks.

    `misfire_grace`: how long after its start a tick may still run. `catch_up`: how many of the
    latest due ticks run with `coalesce=all`. `timeout`: seconds per attempt. `exclude`: ticks that
    are skipped.
    Raises BadSchedule if a value is out of range or two contradict each other.
    """

    misfire_grace: timedelta = timedelta(seconds=60)
    coalesce: Coalesce = Coalesce.LATEST
    overlap: Overlap = Overlap.SKIP
    catch_up: int = _CATCH_UP
    jitter: timedelta = _ZERO
    timeout: float = 240
    max_attempts: int = 3
    exclude: Exclusions = _NOTHING

    def __post_init__(self) -> None:
        self._check_times()
        self._check_counts()
        self._check_contradictions()

    def apply_jitter(self, schedule: Schedule) -> Schedule:
        """Return the schedule with the jitter of these policies, if it is not zero."""
        return schedule.with_jitter(self.jitter) if self.jitter else schedule

    def excludes(self, schedule: Schedule, tick: datetime) -> bool:
        """Return whether a tick of the schedule does not run.

        The schedule's zone data says which local time the tick has.
        """
        return not self.exclude.empty and self.exclusions(schedule).cover(tick)

    def exclusions(self, schedule: Schedule) -> CompiledExclusions:
        """Return what is excluded, by the zone data of the schedule."""
        return self.exclude.compiled(self._exclusion_stamp(schedule))

    def excluding_rule(self, schedule: Schedule, tick: datetime) -> str | None:
        """Return the rule or bound that excludes a tick of the schedule; None if none does."""
        return self.exclude.rule_for(tick, self._exclusion_stamp(schedule))

    def _exclusion_stamp(self, schedule: Schedule) -> str:
        own = schedule.timezone == self.exclude.timezone
        return (own and schedule.stamp) or UNKNOWN_STAMP

    def in_zone(self, schedule: Schedule) -> Schedule:
        """Return the schedule with the zone in which its exclusions are read, if it has any."""
        return schedule if self.exclude.empty else schedule.in_zone(self.exclude.timezone)

    def next_run(self, schedule: Schedule, after: datetime) -> datetime | None:
        """Return the first tick after `after` that may run; None if all are excluded for long."""
        return schedule.next(after) if self.exclude.empty else _next_run(self, schedule, after)

    def next_run_from(self, schedule: Schedule, tick: datetime | None) -> datetime | None:
        """Return the first tick that may run of `tick`, a tick of the schedule, and those after."""
        return None if tick is None else self.next_run(schedule, tick - _INSTANT)

    def to_spec(self) -> dict[str, object]:
        """Return the policies as JSON values; `exclude` only if it excludes something."""
        spec: dict[str, object] = {
            "misfire_grace_seconds": self.misfire_grace.total_seconds(),
            "coalesce": self.coalesce.value,
            "overlap": self.overlap.value,
            "catch_up": self.catch_up,
            "jitter_seconds": self.jitter.total_seconds(),
            "timeout_seconds": self.timeout,
            "max_attempts": self.max_attempts,
        }
        return spec if self.exclude.empty else spec | {"exclude": self.exclude.to_spec()}

    @classmethod
    def from_spec(cls, spec: Mapping[str, object]) -> Self:
        """Read what `to_spec` returned; missing keys get their defaults. Raises BadSchedule."""
        try:
            return cls._from_spec(spec)
        except (TypeError, AttributeError):  # not even an object
            raise BadSchedule("Invalid policies: they must be an object") from None

    @classmethod
    def _from_spec(cls, spec: Mapping[str, object]) -> Self:
        defaults = cls().to_spec()
        if unknown := sorted(set(spec) - set(defaults) - {"exclude"}):
            known = ", ".join([*defaults, "exclude"])
            raise BadSchedule(f"Invalid policies: {unknown[0]!r} is none of {known}")
        values = defaults | dict(spec)
        return cls(
            misfire_grace=timedelta(seconds=_number(values, "misfire_grace_seconds")),
            coalesce=_one_of(Coalesce, values, "coalesce"),
            overlap=_one_of(Overlap, values, "overlap"),
            catch_up=_whole(values, "catch_up"),
            jitter=timedelta(seconds=_number(values, "jitter_seconds")),
            timeout=_number(values, "timeout_seconds"),
            max_attempts=_whole(values, "max_attempts"),
            exclude=Exclusions.from_spec(values["exclude"])
            if "exclude" in values
            else Exclusions(),
        )

    def _check_times(self) -> None:
        if not _ZERO < self.misfire_grace <= CATCH_UP_WINDOW:
            raise BadSchedule(
                f"Invalid policies: misfire_grace {self.misfire_grace} must be more than 0 seconds"
                " and at most 7 days, the catch-up window"
            )
        if not _ZERO <= self.jitter <= CATCH_UP_WINDOW:
            raise BadSchedule(f"Invalid policies: jitter {self.jitter}; it takes 0 s to 7 days")
        if not 0 < self.timeout <= CATCH_UP_WINDOW.total_seconds():
            raise BadSchedule(
                f"Invalid policies: timeout {self.timeout} must be more than 0 seconds"
                " and at most 7 days"
            )

    def _check_counts(self) -> None:
        for name, value, most in (
            ("max_attempts", self.max_attempts, MAX_ATTEMPTS),
            ("catch_up", self.catch_up, MAX_CATCH_UP),
        ):
            if not 1 <= value <= most:
                raise BadSchedule(f"Invalid policies: {name} {value}; it takes 1 to {most}")

    def _check_contradictions(self) -> None:
        if self.coalesce is not Coalesce.ALL and self.catch_up != _CATCH_UP:
            raise BadSchedule(
                f"Contradictory policies: catch_up={self.catch_up} says how many ticks run with"
                f" coalesce=all, but coalesce={self.coalesce} runs one"
            )
        if self.coalesce is Coalesce.ALL and self.overlap is Overlap.SKIP:
            raise BadSchedule(
                "Contradictory policies: coalesce=all runs a backlog, but overlap=skip would skip"
                " all of it but the first; choose overlap=queue_one or allow"
            )
        if self.coalesce is Coalesce.ALL and self.overlap is Overlap.CANCEL_RUNNING:
            raise BadSchedule(
                "Contradictory policies: coalesce=all runs a backlog, but overlap=cancel_running"
                " would cancel all of it but the last; choose overlap=queue_one or allow"
            )


@lru_cache(maxsize=1024)
def _next_run(policies: Policies, schedule: Schedule, after: datetime) -> datetime | None:
    exclusions = policies.exclusions(schedule)
    if after < exclusions.start:
        after = exclusions.start - _INSTANT
    for _ in range(MAX_EXCLUSIONS_AHEAD):
        try:
            tick = schedule.next(after)
        except (BadSchedule, OverflowError):  # beyond all calendars
            return None
        if tick > exclusions.end:
            return None
        until = exclusions.covered_until(tick)
        if until is None:
            return tick
        after = max(tick, until - _INSTANT)
    return None


def _number(spec: Mapping[str, object], key: str) -> float:
    value = spec[key]
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise BadSchedule(f"Invalid policies: {key} must be a number, not {value!r}")
    if not abs(value) <= CATCH_UP_WINDOW.total_seconds():
        raise BadSchedule(f"Invalid policies: {key} {value}; it takes at most 7 days")
    return value


def _whole(spec: Mapping[str, object], key: str) -> int:
    value = spec[key]
    if isinstance(value, bool) or not isinstance(value, int):
        raise BadSchedule(f"Invalid policies: {key} must be a whole number, not {value!r}")
    return value


def _one_of(kind: type[_Set], spec: Mapping[str, object], key: str) -> _Set:
    try:
        return kind(spec[key])
    except ValueError:
        known = ", ".join(kind)
        raise BadSchedule(f"Invalid policies: {key} {spec[key]!r} is none of {known}") from None
