"""The judgement: how a job stands, from what is known of it and the clock. Pure.

Silence is a fault: a job is healthy only while it keeps answering. What a human did on purpose
(paused, disabled) is shown, but it is no fault and does not make the whole unhealthy.
"""

import math
from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from app.health.facts import JobFacts
from app.words import HealthReason, JobStatus, RunStatus

FAILING_AFTER = 3
SILENT_INTERVALS = 2

_GOOD = frozenset({RunStatus.SUCCESS, RunStatus.PARTIAL_FAILURE})
_FAULTS = frozenset({JobStatus.UNHEALTHY, JobStatus.NOT_STARTED})


class OverallReason(StrEnum):
    """Why nothing can be said of the jobs, or why no job of them will run."""

    NO_JOBS = "no_jobs"
    NO_WORKERS = "no_workers"
    REDIS_UNREACHABLE = "redis_unreachable"


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job stands, why, and since when that has been so (if it can be told).

    `age_seconds`: since the end of the last run; None if it never ran.
    """

    status: JobStatus
    reason: HealthReason | None = None
    since: datetime | None = None
    age_seconds: float | None = None


def judge(facts: JobFacts, now: datetime, failing_after: int = FAILING_AFTER) -> Verdict:
    """Say how the job stands at `now`.

    Healthy is: the last run ended within twice the interval, the next one is not later than one
    interval, and fewer than `failing_after` runs in a row have failed.
    """
    age = _age(facts.last_run, now)
    if not facts.enabled:
        return Verdict(JobStatus.PAUSED, HealthReason.DISABLED, None, age)
    if facts.paused_at is not None:
        return Verdict(JobStatus.PAUSED, HealthReason.PAUSED, facts.paused_at, age)
    if facts.last_run is None:
        return Verdict(JobStatus.NOT_STARTED, HealthReason.NEVER_RAN, facts.registered_at)
    reason, since = _fault(facts, facts.last_run, now, failing_after)
    return Verdict(JobStatus.UNHEALTHY if reason else JobStatus.HEALTHY, reason, since, age)


def all_well(statuses: Collection[JobStatus]) -> bool:
    """Whether there are jobs and none of them is at fault. Paused is no fault."""
    return bool(statuses) and _FAULTS.isdisjoint(statuses)


def _fault(
    facts: JobFacts, last_run: datetime, now: datetime, failing_after: int
) -> tuple[HealthReason | None, datetime | None]:
    interval = facts.interval_seconds
    if interval is None or not math.isfinite(interval) or interval <= 0:
        return HealthReason.UNKNOWN, None
    if _seconds(last_run, now) < -SILENT_INTERVALS * interval:
        # The two clocks disagree so far that silence cannot be told from health.
        return HealthReason.UNKNOWN, None
    overdue = _overdue_since(facts, last_run, interval, now)
    if overdue is not None:
        return HealthReason.OVERDUE, overdue
    if (facts.consecutive_failures or 0) >= failing_after and facts.last_status not in _GOOD:
        return HealthReason.FAILING, facts.last_success or facts.registered_at
    return None, None


def _overdue_since(
    facts: JobFacts, last_run: datetime, interval: float, now: datetime
) -> datetime | None:
    passed: list[datetime] = []
    if _seconds(last_run, now) > SILENT_INTERVALS * interval:
        passed.append(last_run + timedelta(seconds=SILENT_INTERVALS * interval))
    # A tick left behind tells of a dead alarm, however young the last run is.
    left = _unanswered_tick(facts)
    if left is not None and _seconds(left, now) > interval:
        passed.append(left + timedelta(seconds=interval))
    return min(passed, default=None)


def _unanswered_tick(facts: JobFacts) -> datetime | None:
    tick, running = facts.next_run, facts.running_since
    answered = tick is not None and running is not None and running >= tick
    return None if answered else tick


def _age(last_run: datetime | None, now: datetime) -> float | None:
    return None if last_run is None else max(0.0, _seconds(last_run, now))


def _seconds(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()
