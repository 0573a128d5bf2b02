"""The states that alerts compare: of a job, a collection or the scheduler. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.core import redact
from app.core.enums import HealthReason, JobStatus
from app.health.explain import error, sentence
from app.health.facts import JobFacts, WorkerFacts
from app.health.judge import HealthRules, OverallReason, expected_by, judge

SCHEDULER = "scheduler"  # the key of the scheduler, besides those of jobs


@dataclass(frozen=True, slots=True)
class JobState:
    """The current state of a job, a collection or the scheduler.

    `needs_attention`: whether a person should look at it. `detail`: the reason in a sentence.
    `expected`: by when it should have run. `interval`: seconds between ticks. `title`: of a message
    about it, if the reason does not say it all.
    """

    key: str
    status: JobStatus
    needs_attention: bool
    since: datetime
    reason: str | None = None
    detail: str = ""
    expected: datetime | None = None
    last_error: str | None = None
    interval: float | None = None
    title: str = ""


@dataclass(frozen=True, slots=True)
class RecordedState:
    """The state as recorded in Postgres, and when it was reported. The fields are its columns."""

    key: str
    status: str
    reason: str | None
    ill: bool
    since: datetime
    ill_since: datetime | None
    flipped_at: datetime
    sequence: int
    told_at: datetime | None
    reminded_at: datetime | None
    acknowledged_at: datetime | None = None
    acknowledged_by: str | None = None
    acknowledged_note: str | None = None
    acknowledged_reason: str | None = None
    snoozed_until: datetime | None = None

    @property
    def acknowledged(self) -> bool:
        """Whether a person has acknowledged it, though it may have got worse since."""
        return self.ill and self.acknowledged_at is not None

    @property
    def worse(self) -> bool:
        """Whether it has got worse since it was acknowledged."""
        return self.acknowledged and is_worse(
            self.acknowledged_reason or "", self.reason or self.status
        )

    def silenced(self, now: datetime) -> bool:
        """Whether no message about it may be sent: acknowledged, not worse, nor past its snooze."""
        over = self.snoozed_until is not None and now >= self.snoozed_until
        return self.acknowledged and not self.worse and not over


@dataclass(frozen=True, slots=True)
class CurrentStates:
    """The current states by key, all read at `now`."""

    now: datetime
    states: Mapping[str, JobState] = field(default_factory=dict[str, JobState])


def of_job(key: str, facts: JobFacts, now: datetime, rules: HealthRules) -> JobState:
    health, last_error = judge(facts, now, rules), error(facts)
    return JobState(
        key=key,
        status=health.status,
        needs_attention=health.needs_attention,
        since=health.since or now,
        reason=health.reason_text,
        detail=redact.text(sentence(facts, health)) if health.reason else "",
        expected=expected_by(facts),
        last_error=redact.text(last_error) if last_error else None,
        interval=facts.interval_seconds,
    )


def of_scheduler(
    workers: Mapping[str, WorkerFacts], intervals: Iterable[float], now: datetime, *, known: bool
) -> JobState:
    """The state of the scheduler: unhealthy without a worker, if a job was ever `known`."""
    shortest = min(intervals, default=None)
    if workers:
        return JobState(
            SCHEDULER, JobStatus.HEALTHY, needs_attention=False, since=now, interval=shortest
        )
    if not known:
        return JobState(
            SCHEDULER, JobStatus.NOT_STARTED, needs_attention=False, since=now, reason="no_jobs"
        )
    detail = "no live worker, so no run will start until one is started"
    return stopped(now, OverallReason.NO_WORKERS, detail, shortest)


def stopped(
    now: datetime,
    reason: OverallReason,
    detail: str,
    interval: float | None = None,
    title: str = "",
) -> JobState:
    """The state of the scheduler when no run can start."""
    return JobState(
        SCHEDULER,
        JobStatus.UNHEALTHY,
        needs_attention=True,
        since=now,
        reason=reason,
        detail=detail,
        interval=interval,
        title=title,
    )


def changed(standing: JobState, state: RecordedState | None) -> bool:
    """Whether the state differs from the recorded one, or none is recorded."""
    if state is None:
        return True
    return (state.status, state.reason) != (standing.status, standing.reason)


# What is in none of these says that nothing is collected at all.
_MILD = frozenset(
    {HealthReason.LATE, HealthReason.DRIFT, HealthReason.STALE_DATA, HealthReason.SKIP_STREAK}
)


def is_worse(before: str, after: str) -> bool:
    """Whether a reason, such as `source_failing: bet9ja`, is worse than an earlier one.

    It is if it is graver, another one as grave, or about another source.
    """
    kind_before, _, names_before = before.partition(": ")
    kind, _, names = after.partition(": ")
    if kind == kind_before:
        return bool(set(names.split(", ")) - set(names_before.split(", ")))
    return _gravity(kind) >= _gravity(kind_before)


def _gravity(reason: str) -> int:
    if reason in _MILD:
        return 0
    return 1 if reason == HealthReason.SOURCE_FAILING else 2
