"""The policies that people choose for one schedule, on top of defaults. Pure."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import Any, Self

from app.core.enums import Coalesce, Overlap
from app.core.errors import BadSchedule
from app.scheduling import calendars
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule


def no_calendar(name: str) -> str:
    """Refuse the name of a calendar file. Raises BadSchedule."""
    raise BadSchedule(f"Invalid exclude: {name}: a calendar file cannot be read here")


@dataclass(frozen=True, slots=True)
class PolicyChoices:
    """Chosen policies; None means the default. `exclude`: rules, and names of calendar files.

    `start` and `end`: a date or a timestamp as text.
    """

    overlap: Overlap | None = None
    coalesce: Coalesce | None = None
    catch_up: int | None = None
    misfire_grace: timedelta | None = None
    jitter: timedelta | None = None
    timeout: float | None = None
    max_attempts: int | None = None
    exclude: Sequence[str] = ()
    start: str | None = None
    end: str | None = None

    @classmethod
    def of_settings(cls, setting: Callable[[str], Any]) -> Self:
        """Return the choices by the names of their settings; None where one is not set.

        A setting of a duration has the name with `_seconds`.
        """
        overlap, coalesce = setting("overlap"), setting("coalesce")
        grace, jitter = setting("misfire_grace_seconds"), setting("jitter_seconds")
        return cls(
            overlap=None if overlap is None else Overlap(overlap),
            coalesce=None if coalesce is None else Coalesce(coalesce),
            catch_up=setting("catch_up"),
            misfire_grace=None if grace is None else timedelta(seconds=grace),
            jitter=None if jitter is None else timedelta(seconds=jitter),
            timeout=setting("timeout_seconds"),
            max_attempts=setting("max_attempts"),
            exclude=setting("exclude") or (),
            start=setting("start"),
            end=setting("end"),
        )

    def apply(
        self,
        defaults: Policies,
        schedule: Schedule,
        timezone: str = "UTC",
        read: Callable[[str], str] = no_calendar,
    ) -> Policies:
        """Return the defaults with what was chosen; exclusions are in the time of `timezone`.

        `read`: returns the text of a calendar file. Raises BadSchedule if a value is invalid, or
        two contradict each other.
        """
        if self.jitter and schedule.interval is not None and self.jitter >= schedule.interval:
            raise BadSchedule(
                f"Contradictory policies: a jitter of {self.jitter} with a tick every"
                f" {schedule.interval}: a tick always starts before the next one"
            )
        rules = calendars.expand(self.exclude, read, timezone)
        chosen: dict[str, Any] = {
            name: value for name in _POLICIES if (value := getattr(self, name)) is not None
        }
        exclude = Exclusions.parse(rules, timezone, self.start or "", self.end or "")
        return replace(defaults, **chosen, exclude=exclude)


_POLICIES = (
    "overlap",
    "coalesce",
    "catch_up",
    "misfire_grace",
    "jitter",
    "timeout",
    "max_attempts",
)
