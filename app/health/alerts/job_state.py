"""The states that alerts compare: of a job, a collection or the scheduler. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.core import redact
from app.core.enums import JobStatus
from app.health.explain import error, sentence
from app.health.facts import JobFacts, WorkerFacts
from app.health.judge import HealthRules, OverallReason, expected_by, judge

SCHEDULER = "scheduler"  # the key of the scheduler, besides those of jobs


@dataclass(frozen=True, slots=True)
class JobState:
    """The current state of a job, a collection or the scheduler.

    `needs_attention`: it needs attention. `detail`: the reason in a sentence. `expected`: by when
    it should
    have run. `interval`: seconds between ticks.
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


@dataclass(frozen=True, slots=True)
class CurrentStates:
    """The current states by key, all read at `now`."""

    now: datetime
    states: Mapping[str, JobState] = field(default_factory=dict[str, JobState])


def of_jobs(jobs: Mapping[str, JobFacts], now: datetime, rules: HealthRules) -> list[JobState]:
    """The state of each job."""
    standings: list[JobState] = []
    for key, facts in jobs.items():
        health = judge(facts, now, rules)
        standing = JobState(
            key=key,
            status=health.status,
            needs_attention=health.needs_attention,
            since=health.since or now,
            reason=health.reason_text,
            detail=redact.text(sentence(facts, health)),
            expected=expected_by(facts),
            last_error=redact.text(error(facts) or "") or None,
            interval=facts.interval_seconds,
        )
        standings.append(standing)
    return standings


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
    return JobState(
        key=SCHEDULER,
        status=JobStatus.UNHEALTHY,
        needs_attention=True,
        since=now,
        reason=OverallReason.NO_WORKERS,
        detail="no live worker, so no run will start until one is started",
        interval=shortest,
    )


def redis_unreachable(now: datetime) -> JobState:
    """The state of the scheduler when Redis does not answer: no job's state is known."""
    return JobState(
        key=SCHEDULER,
        status=JobStatus.UNHEALTHY,
        needs_attention=True,
        since=now,
        reason=OverallReason.REDIS_UNREACHABLE,
        detail="Redis does not answer, so the state of the jobs is unknown and no run can start",
    )


def changed(standing: JobState, state: RecordedState | None) -> bool:
    """Whether the state differs from the recorded one, or none is recorded."""
    if state is None:
        return True
    return (state.status, state.reason) != (standing.status, standing.reason)
