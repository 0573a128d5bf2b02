"""Health facts of jobs, workers, collections and the system, as stored in Redis."""

from dataclasses import dataclass
from datetime import datetime

from app.core.enums import HealthReason, RunStatus, TickReason


@dataclass(frozen=True, slots=True)
class JobFacts:
    """Facts of a job from its last runs and ticks. Instants are UTC; None is "not known".

    - `last_run`: end of the last finished run, whatever its status.
    - `interval_seconds`: time between two ticks.
    - `silent_after`: for a cron expression, the instant from which the job is overdue.
    - `rested_until`: the last tick that was skipped on purpose (paused, disabled).
    - `history`: status of the last runs, newest first; None if the worker's network was down.
    - `consecutive_failures`: failed runs since the last good one; `failing_since`: the first's end.
    - `skip_streak`: number of newest ticks that did not run, without those skipped on purpose.
    - `late_by`: the smallest delay of the last three runs in seconds; `grace_seconds`: the delay
      that the schedule allows.
    - `breach`: the expectation on the data that the last run violated.
    - `last_new`: end of the last run that stored something new.
    - `ran` of `due`: the last hundred ticks; `succeeded` of `finished`: the last hundred runs.
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
        """The share of the last due ticks that ran, from 0 to 1; None if not known."""
        return _share(self.ran, self.due)

    @property
    def success_rate(self) -> float | None:
        """The share of the last finished runs that were good, from 0 to 1; None if not known."""
        return _share(self.succeeded, self.finished)


@dataclass(frozen=True, slots=True)
class WorkerFacts:
    """What a worker publishes with each heartbeat. `seen_at`: instant of the heartbeat, UTC."""

    seen_at: datetime
    started_at: datetime | None = None
    host: str | None = None
    running: int | None = None


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """Numbers of collections by status at `as_of`, over all organizations.

    `overdue` and `failing` are parts of `unhealthy`.
    """

    as_of: datetime
    healthy: int = 0
    unhealthy: int = 0
    not_started: int = 0
    paused: int = 0
    overdue: int = 0
    failing: int = 0


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """Facts of the whole system.

    `unaccounted`: ticks of the last day without an outcome, counted at `checked_at`. `pending`:
    alerts waiting to be sent. `failing_since`: since when alerts cannot be sent, None if they can;
    `notifier_error`: the last error of a notifier.
    """

    unaccounted: int | None = None
    checked_at: datetime | None = None
    pending: int | None = None
    failing_since: datetime | None = None
    notifier_error: str | None = None


def _share(part: int | None, whole: int | None) -> float | None:
    return None if part is None or not whole else min(part / whole, 1.0)
