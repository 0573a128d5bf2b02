"""The states that alerts compare: of a job, a collection or the scheduler. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app.core import redact
from app.core.enums import JobStatus
from app.health.explain import error, sentence
from app.health.facts import JobFacts, WorkerFacts
from app.health.judge import OverallReason, Rules, expected_by, judge

SCHEDULER = "scheduler"  # the key of the scheduler, besides those of jobs


@dataclass(frozen=True, slots=True)
class Standing:
    """The current state of a job, a collection or the scheduler.

    `ill`: it needs attention. `detail`: the reason in a sentence. `expected`: by when it should
    have run. `interval`: seconds between ticks.
    """

    key: str
    status: JobStatus
    ill: bool
    since: datetime
    reason: str | None = None
    detail: str = ""
    expected: datetime | None = None
    last_error: str | None = None
    interval: float | None = None


@dataclass(frozen=True, slots=True)
class State:
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
class Seen:
    """The current states by key, all read at `now`."""

    now: datetime
    standings: Mapping[str, Standing] = field(default_factory=dict[str, Standing])


def of_jobs(jobs: Mapping[str, JobFacts], now: datetime, rules: Rules) -> list[Standing]:
    """The state of each job."""
    standings: list[Standing] = []
    for key, facts in jobs.items():
        health = judge(facts, now, rules)
        standing = Standing(
            key=key,
            status=health.status,
            ill=health.ill,
            since=health.since or now,
            reason=health.reason,
            detail=sentence(facts, health),
            expected=expected_by(facts),
            last_error=redact.text(error(facts) or "") or None,
            interval=facts.interval_seconds,
        )
        standings.append(standing)
    return standings


def of_scheduler(
    workers: Mapping[str, WorkerFacts], intervals: Iterable[float], now: datetime, *, known: bool
) -> Standing:
    """The state of the scheduler: unhealthy without a worker, if a job was ever `known`."""
    shortest = min(intervals, default=None)
    if workers:
        return Standing(SCHEDULER, JobStatus.HEALTHY, ill=False, since=now, interval=shortest)
    if not known:
        return Standing(SCHEDULER, JobStatus.NOT_STARTED, ill=False, since=now, reason="no_jobs")
    return Standing(
        key=SCHEDULER,
        status=JobStatus.UNHEALTHY,
        ill=True,
        since=now,
        reason=OverallReason.NO_WORKERS,
        detail="no live worker, so no run will start until one is started",
        interval=shortest,
    )


def blind(now: datetime) -> Standing:
    """The state of the scheduler when Redis does not answer: no job's state is known."""
    return Standing(
        key=SCHEDULER,
        status=JobStatus.UNHEALTHY,
        ill=True,
        since=now,
        reason=OverallReason.REDIS_UNREACHABLE,
        detail="Redis does not answer, so the state of the jobs is unknown and no run can start",
    )


def changed(standing: Standing, state: State | None) -> bool:
    """Whether the state differs from the recorded one, or none is recorded."""
    if state is None:
        return True
    return (state.status, state.reason) != (standing.status, standing.reason)
