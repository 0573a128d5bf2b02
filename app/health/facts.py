"""Health facts of jobs, workers, collections and the system, as stored in Redis."""

from dataclasses import dataclass
from datetime import datetime
from typing import Annotated

from msgspec import Meta

from app.core.enums import HealthReason, RunStatus, TickReason

Instant = Annotated[datetime, Meta(tz=True)]
Count = Annotated[int, Meta(ge=0, le=2**53)]
Seconds = Annotated[float, Meta(gt=0, le=1e9)]


@dataclass(frozen=True, slots=True)
class SourceFacts:
    """Facts of one source of a job with several, from the job's last runs.

    - `history`: its status in them, newest first; None if the worker's network was down.
    - `failures`: failed runs since the last in which it brought something; `failing_since`: the
      end of the first of them.
    - `last_new`: end of the last run in which it stored something new.
    """

    source: str
    history: tuple[RunStatus | None, ...] = ()
    failures: Count = 0
    failing_since: Instant | None = None
    last_error: str | None = None
    last_new: Instant | None = None


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
    - `orphaned`: no live worker knows the job.
    - `unreadable`: why the stored schedule cannot be read; its ticks are held.
    - `ran` of `due`: the last hundred ticks; `succeeded` of `finished`: the last hundred runs.
    - `sources`: the sources of its newest run, if it has several.
    """

    job: str
    last_run: Instant | None = None
    last_success: Instant | None = None
    last_status: RunStatus | None = None
    next_run: Instant | None = None
    interval_seconds: Seconds | None = None
    enabled: bool = True
    paused_at: Instant | None = None
    paused_by: str | None = None
    paused_note: str | None = None
    running_since: Instant | None = None
    last_error: str | None = None
    consecutive_failures: Count | None = None
    registered_at: Instant | None = None
    silent_after: Instant | None = None
    rested_until: Instant | None = None
    history: tuple[RunStatus | None, ...] = ()
    failing_since: Instant | None = None
    skip_streak: Count | None = None
    skipping_since: Instant | None = None
    skip_reason: TickReason | None = None
    late_by: float | None = None
    grace_seconds: float | None = None
    breach: HealthReason | None = None
    breach_since: Instant | None = None
    last_new: Instant | None = None
    ran: Count | None = None
    due: Count | None = None
    succeeded: Count | None = None
    finished: Count | None = None
    unreadable: str | None = None
    sources: tuple[SourceFacts, ...] = ()
    orphaned: bool = False

    @property
    def upcoming(self) -> datetime | None:
        """The next tick that may run; None while the job is paused or disabled."""
        return self.next_run if self.enabled and self.paused_at is None else None

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
    """What a worker publishes with each heartbeat. `seen_at`: instant of the heartbeat, UTC.

    `zone_data`: the IANA version of its tzdata wheel. `clock_error`: seconds by which the clock of
    its machine is ahead of the database's.
    `jobs`: the schedules that its jobs declare. `faulty_jobs`: what it could not load, each with
    place, reason and fix. `schema`: the database schema that its code requires.
    `version`: of Rollcall. `memory`: resident bytes. `tasks`: the tasks that it executes; None is
    any.
    """

    seen_at: Instant
    started_at: Instant | None = None
    host: str | None = None
    running: Count | None = None
    zone_data: str | None = None
    clock_error: float | None = None
    jobs: tuple[str, ...] | None = None
    faulty_jobs: tuple[str, ...] = ()
    schema: str | None = None
    version: str | None = None
    memory: Count | None = None
    tasks: tuple[str, ...] | None = None


@dataclass(frozen=True, slots=True)
class CollectionFacts:
    """Numbers of collections by status at `as_of`, over all organizations.

    `overdue` and `failing` are parts of `unhealthy`.
    """

    as_of: Instant
    healthy: Count = 0
    unhealthy: Count = 0
    not_started: Count = 0
    paused: Count = 0
    overdue: Count = 0
    failing: Count = 0


@dataclass(frozen=True, slots=True)
class SystemFacts:
    """Facts of the whole system.

    `unaccounted`: ticks of the last day without an outcome, counted at `checked_at`. `pending`:
    alerts waiting to be sent. `failing_since`: since when alerts cannot be sent, None if they can;
    `notifier_error`: the last error of a notifier.
    """

    unaccounted: Count | None = None
    checked_at: Instant | None = None
    pending: Count | None = None
    failing_since: Instant | None = None
    notifier_error: str | None = None


@dataclass(frozen=True, slots=True)
class RetryBudget:
    """The retries of a host in this hour, and how many it may have."""

    host: str
    used: int
    allowed: int


def _share(part: int | None, whole: Count | None) -> float | None:
    return None if part is None or not whole else min(part / whole, 1.0)
