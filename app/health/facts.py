"""What is known of a job, of a worker and of all collections, as health keeps it. Values only."""

from dataclasses import dataclass
from datetime import datetime

from app.words import HealthReason, RunStatus, TickReason


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What the last runs and ticks of a job left behind. Instants are UTC; None is "not known".

    `last_run` is the end of the last finished run, however it ended. `interval_seconds` is the time
    between two ticks. `silent_after`: of a cron expression, when silence is too long.
    `rested_until`: the last tick that was let go on purpose (paused, disabled).
    `history`: how the last runs ended, newest first; None where our own network was down.
    `consecutive_failures` counts runs since the last one that was no failure, and `failing_since`
    is the end of the first of them. `skip_streak` counts the newest ticks that did not run, though
    nobody had wanted that. `late_by`: seconds by which each of the last three runs began late, at
    least. `grace_seconds`: how late a tick may begin. `breach`: an expectation on the data that the
    last run broke. `last_new`: the end of the last run that stored something new. `ran` of `due`
    are the last hundred ticks, `succeeded` of `finished` the last runs.
    """

    job: str
    last_run: datetime | None = None
    last_success: datetime | None = None
    last_status: RunStatus | None = None
    next_run: datetime | None = None
    interval_seconds: float | None = None
    enabled: bool = True
    paused_at: datetime | None = None
    paused_by: str | None = None
    paused_note: str | None = None
    running_since: datetime | None = None
    last_error: str | None = None
    consecutive_failures: int | None = None
    registered_at: datetime | None = None
    silent_after: datetime | None = None
    rested_until: datetime | None = None
    history: tuple[RunStatus | None, ...] = ()
    failing_since: datetime | None = None
    skip_streak: int | None = None
    skipping_since: datetime | None = None
    skip_reason: TickReason | None = None
    late_by: float | None = None
    grace_seconds: float | None = None
    breach: HealthReason | None = None
    breach_since: datetime | None = None
    last_new: datetime | None = None
    ran: int | None = None
    due: int | None = None
    succeeded: int | None = None
    finished: int | None = None

    @property
    def adherence(self) -> float | None:
        """The share of the last due ticks that ran, 0 to 1."""
        return _share(self.ran, self.due)

    @property
    def success_rate(self) -> float | None:
        """The share of the last finished runs that brought something home, 0 to 1."""
        return _share(self.succeeded, self.finished)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker says of itself with each beat. `seen_at` is the beat's own instant, UTC."""

    seen_at: datetime
    started_at: datetime | None = None
    host: str | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """How many collections stood how at `as_of`, all organizations together.

    `overdue` and `failing` are those of the unhealthy ones.
    """

    as_of: datetime
    healthy: int = 0
    unhealthy: int = 0
    not_started: int = 0
    paused: int = 0
    overdue: int = 0
    failing: int = 0


@dataclass(frozen=True, slots=True)
class HouseFacts:
    """What is known of the house itself.

    `unaccounted`: ticks of the last day without an outcome, counted at `checked_at`. `pending`:
    alerts that wait to be sent. `failing_since`: since when no alert could be sent, and
    `notifier_error` why, if that is so.
    """

    unaccounted: int | None = None
    checked_at: datetime | None = None
    pending: int | None = None
    failing_since: datetime | None = None
    notifier_error: str | None = None


def _share(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else min(part / whole, 1.0)
