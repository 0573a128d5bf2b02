"""How something stands, as far as whoever is alerted is concerned. Values and comparison; pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from app import redact
from app.health.explain import error, sentence
from app.health.facts import JobFacts, WorkerFacts
from app.health.judge import OverallReason, Rules, expected_by, judge
from app.words import JobStatus

SCHEDULER = "scheduler"  # its key, beside those of the jobs


@dataclass(frozen=True, slots=True)
class Standing:
    """How a job, a collection or the scheduler stands now.

    `detail`: why, in a sentence. `expected`: when it should have run. `interval`: seconds.
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
    """What is written down of it: how it stood when it was last looked at, and who was told."""

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
    """All that was seen at once."""

    now: datetime
    standings: Mapping[str, Standing] = field(default_factory=dict[str, Standing])


def of_jobs(jobs: Mapping[str, JobFacts], now: datetime, rules: Rules) -> list[Standing]:
    """How each job stands."""
    standings: list[Standing] = []
    for key, facts in jobs.items():
        verdict = judge(facts, now, rules)
        standing = Standing(
            key=key,
            status=verdict.status,
            ill=verdict.ill,
            since=verdict.since or now,
            reason=verdict.reason,
            detail=sentence(facts, verdict),
            expected=expected_by(facts),
            last_error=redact.text(error(facts) or "") or None,
            interval=facts.interval_seconds,
        )
        standings.append(standing)
    return standings


def of_scheduler(
    workers: Mapping[str, WorkerFacts], intervals: Iterable[float], now: datetime, *, known: bool
) -> Standing:
    """How the scheduler stands: no worker is a fault once there were jobs. `known`: there were."""
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
        detail="no worker beats, so nothing will run until one is started",
        interval=shortest,
    )


def blind(now: datetime) -> Standing:
    """How the scheduler stands when Redis does not answer: nothing is known of any job."""
    return Standing(
        key=SCHEDULER,
        status=JobStatus.UNHEALTHY,
        ill=True,
        since=now,
        reason=OverallReason.REDIS_UNREACHABLE,
        detail="Redis does not answer, so nothing is known of the jobs and no run can start",
    )


def changed(standing: Standing, state: State | None) -> bool:
    """Whether it stands otherwise than is written down."""
    if state is None:
        return True
    return (state.status, state.reason) != (standing.status, standing.reason)
