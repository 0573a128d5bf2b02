"""JSON bodies of the health endpoints. Instants are UTC; ages and intervals are in seconds."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Literal

import msgspec

from app.core import redact
from app.core.enums import HealthReason, JobStatus, RunStatus
from app.core.version import VERSION
from app.health.explain import error, sentence
from app.health.facts import CollectionFacts, JobFacts, SystemFacts, WorkerFacts
from app.health.judge import HealthStatus, OverallReason, expected_by

Overall = Literal["healthy", "unhealthy"]
Unset = msgspec.UnsetType
UNSET = msgspec.UNSET


class JobHealth(msgspec.Struct, frozen=True):
    """One job in `/health/scheduler`. `since` and `detail` are present if it needs attention."""

    status: JobStatus
    last_run: datetime | None
    last_success: datetime | None
    last_status: RunStatus | None
    next_run: datetime | None
    age_seconds: float | None
    interval_seconds: float | None
    reason: HealthReason | None
    since: datetime | Unset = UNSET
    detail: str | Unset = UNSET
    sources: tuple[str, ...] | Unset = UNSET


class SchedulerHealth(msgspec.Struct, frozen=True):
    """The body of `/health/scheduler`.

    `reason` is present if the state of the jobs is unknown, or if no job will run.
    """

    status: Overall
    jobs: dict[str, JobHealth]
    reason: OverallReason | Unset = UNSET


class AlertDelivery(msgspec.Struct, frozen=True):
    """Failing alert delivery: pending messages, since when it has failed, and the last error."""

    pending: int
    failing_since: datetime
    error: str | None


class HealthSummary(msgspec.Struct, frozen=True):
    """The body of `/health`. `jobs` counts jobs by status, `workers` the live workers.

    `unaccounted`: ticks of the last day without an outcome, absent if they were never counted.
    `faulty_jobs`: how many files of jobs could not be loaded; `/health/workers` names them.
    """

    status: Overall
    version: str
    workers: int
    jobs: dict[JobStatus, int]
    reason: OverallReason | Unset = UNSET
    collections: CollectionFacts | Unset = UNSET
    unaccounted: int | Unset = UNSET
    faulty_jobs: int | Unset = UNSET
    alerts: AlertDelivery | Unset = UNSET


class WorkerHealth(msgspec.Struct, frozen=True):
    """One worker in `/health/workers`. `age_seconds`: since its last heartbeat.

    `faulty_jobs`: what it could not load, absent if there is nothing.
    """

    seen_at: datetime
    age_seconds: float
    started_at: datetime | None
    running: int | None
    faulty_jobs: tuple[str, ...] | Unset = UNSET


class WorkersHealth(msgspec.Struct, frozen=True):
    """The body of `/health/workers`."""

    status: Overall
    workers: dict[str, WorkerHealth]
    reason: OverallReason | Unset = UNSET


class JobDetails(msgspec.Struct, frozen=True):
    """The body of `/health/jobs/{job}`. `adherence` and `success_rate` are shares from 0 to 1."""

    job: str
    health: JobHealth
    detail: str | None
    since: datetime | None
    expected_by: datetime | None
    running_since: datetime | None
    consecutive_failures: int | None
    last_error: str | None
    adherence: float | None
    success_rate: float | None
    skip_streak: int | None
    last_new: datetime | None
    reason: OverallReason | Unset = UNSET


@dataclass(frozen=True, slots=True)
class SummaryContext:
    """What `/health` reports besides the jobs."""

    workers: int
    reason: OverallReason | None
    collections: CollectionFacts | None
    system: SystemFacts
    faulty_jobs: int = 0


# The same sentences are looked through every second.
_redacted = lru_cache(maxsize=1024)(redact.text)


def job(facts: JobFacts, health: HealthStatus) -> JobHealth:
    """One job as an entry of `/health/scheduler`."""
    since = health.since if health.needs_attention else None
    return JobHealth(
        status=health.status,
        last_run=facts.last_run,
        last_success=facts.last_success,
        last_status=facts.last_status,
        next_run=facts.upcoming,
        age_seconds=None if health.age_seconds is None else round(health.age_seconds, 3),
        interval_seconds=facts.interval_seconds,
        reason=health.reason,
        since=UNSET if since is None else since,
        detail=_redacted(sentence(facts, health)) if health.needs_attention else UNSET,
        sources=health.sources or UNSET,
    )


def scheduler(jobs: dict[str, JobHealth], reason: OverallReason | None, *, healthy: bool) -> bytes:
    """The body of `/health/scheduler`, encoded as JSON."""
    return msgspec.json.encode(SchedulerHealth(_overall(healthy), jobs, reason or UNSET))


def summary(statuses: Sequence[JobStatus], beside: SummaryContext, *, healthy: bool) -> bytes:
    """The body of `/health`, encoded as JSON."""
    unaccounted = beside.system.unaccounted
    body = HealthSummary(
        status=_overall(healthy),
        version=VERSION,
        workers=beside.workers,
        jobs=dict(Counter(statuses)),
        reason=beside.reason or UNSET,
        collections=_collections(beside.collections),
        unaccounted=UNSET if unaccounted is None else unaccounted,
        faulty_jobs=beside.faulty_jobs or UNSET,
        alerts=_alerting(beside.system),
    )
    return msgspec.json.encode(body)


def workers(live: dict[str, WorkerFacts], reason: OverallReason | None, now: datetime) -> bytes:
    """The body of `/health/workers`, encoded as JSON."""
    body = {
        name: WorkerHealth(
            seen_at=facts.seen_at,
            age_seconds=round(max((now - facts.seen_at).total_seconds(), 0), 3),
            started_at=facts.started_at,
            running=facts.running,
            faulty_jobs=facts.faulty_jobs or UNSET,
        )
        for name, facts in live.items()
    }
    return msgspec.json.encode(WorkersHealth(_overall(bool(body)), body, reason or UNSET))


def job_details(facts: JobFacts, health: HealthStatus, reason: OverallReason | None) -> bytes:
    """The body of `/health/jobs/{job}`, encoded as JSON."""
    body = JobDetails(
        job=facts.job,
        health=job(facts, health),
        # The author and the reason of a pause are shown to signed-in users only.
        detail=None
        if health.reason is HealthReason.PAUSED
        else redact.text(sentence(facts, health)) or None,
        since=health.since,
        expected_by=expected_by(facts),
        running_since=facts.running_since,
        consecutive_failures=facts.consecutive_failures,
        last_error=redact.text(error(facts) or "") or None,
        adherence=facts.adherence,
        success_rate=facts.success_rate,
        skip_streak=facts.skip_streak,
        last_new=facts.last_new,
        reason=reason or UNSET,
    )
    return msgspec.json.encode(body)


def _collections(facts: CollectionFacts | None) -> CollectionFacts | Unset:
    if facts is None or not any((facts.healthy, facts.unhealthy, facts.not_started, facts.paused)):
        return UNSET
    return facts


def _alerting(system: SystemFacts) -> AlertDelivery | Unset:
    if system.failing_since is None:
        return UNSET
    return AlertDelivery(system.pending or 0, system.failing_since, system.notifier_error)


def _overall(well: bool) -> Overall:
    return "healthy" if well else "unhealthy"
