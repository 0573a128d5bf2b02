"""The judgement: how a job stands, from what is known of it and the clock. Pure.

Silence is a fault: a job is healthy only while it keeps answering. What a human did on purpose
(paused, disabled) is shown, but it is no fault and does not make the whole unhealthy. What our own
network did is never blamed on the job.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app.health.facts import JobFacts
from app.words import HealthReason, JobStatus, RunStatus

FAILING_AFTER = 3
RECOVERED_AFTER = 1
SKIPS = 3
SILENT_INTERVALS = 2

GOOD = frozenset({RunStatus.SUCCESS, RunStatus.PARTIAL_FAILURE})
BAD = frozenset({RunStatus.FAILURE, RunStatus.TIMED_OUT, RunStatus.LOST})
_FAULTS = frozenset({JobStatus.UNHEALTHY, JobStatus.NOT_STARTED})


class OverallReason(StrEnum):
    """Why nothing can be said of the jobs, or why no job of them will run."""

    NO_JOBS = "no_jobs"
    NO_WORKERS = "no_workers"
    REDIS_UNREACHABLE = "redis_unreachable"


@dataclass(frozen=True, slots=True)
class Rules:
    """What is too much. `fresh`: seconds within which a job must bring something new, by its key.

    `failing_after` failures in a row are a fault, until `recovered_after` good runs in a row;
    `skips` ticks in a row that did not run are one too.
    """

    failing_after: int = FAILING_AFTER
    recovered_after: int = RECOVERED_AFTER
    skips: int = SKIPS
    fresh: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class Verdict:
    """How a job stands, why, and since when that has been so (if it can be told).

    `age_seconds`: since the end of the last run; None if it never ran.
    """

    status: JobStatus
    reason: HealthReason | None = None
    since: datetime | None = None
    age_seconds: float | None = None

    @property
    def ill(self) -> bool:
        """Whether somebody should look: unhealthy, or silent from the start for too long."""
        silent = self.status is JobStatus.NOT_STARTED and self.reason is HealthReason.OVERDUE
        return silent or self.status is JobStatus.UNHEALTHY


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: HealthReason
    since: datetime | None = None


DEFAULT = Rules()


def judge(facts: JobFacts, now: datetime, rules: Rules = DEFAULT) -> Verdict:
    """Say how the job stands at `now`.

    Healthy is: the last run ended within twice the interval (of a cron expression: the next instant
    and its grace are not over), the next one is not later than one interval, and no rule is broken.
    """
    age = _age(facts.last_run, now)
    if not facts.enabled:
        return Verdict(JobStatus.PAUSED, HealthReason.DISABLED, None, age)
    if facts.paused_at is not None:
        return Verdict(JobStatus.PAUSED, HealthReason.PAUSED, facts.paused_at, age)
    if facts.last_run is None:
        return _not_started(facts, now)
    fault = _fault(facts, facts.last_run, now, rules)
    if fault is None:
        return Verdict(JobStatus.HEALTHY, None, None, age)
    return Verdict(JobStatus.UNHEALTHY, fault.reason, fault.since, age)


def all_well(statuses: Collection[JobStatus]) -> bool:
    """Whether there are jobs and none of them is at fault. Paused is no fault."""
    return bool(statuses) and _FAULTS.isdisjoint(statuses)


def expected_by(facts: JobFacts) -> datetime | None:
    """Until when a run should have ended, if that can be told."""
    if facts.silent_after is not None or not _sound(facts.interval_seconds):
        return facts.silent_after
    heard = _heard(facts, facts.last_run or facts.registered_at)
    try:
        return heard and heard + timedelta(seconds=SILENT_INTERVALS * (facts.interval_seconds or 0))
    except OverflowError:
        return None


def _not_started(facts: JobFacts, now: datetime) -> Verdict:
    expected = expected_by(facts)
    if expected is not None and now > expected:
        return Verdict(JobStatus.NOT_STARTED, HealthReason.OVERDUE, expected)
    return Verdict(JobStatus.NOT_STARTED, HealthReason.NEVER_RAN, facts.registered_at)


def _fault(facts: JobFacts, last_run: datetime, now: datetime, rules: Rules) -> _Fault | None:
    interval = facts.interval_seconds
    if interval is None or not _sound(interval):
        return _Fault(HealthReason.UNKNOWN)
    if _seconds(last_run, now) < -SILENT_INTERVALS * interval:
        # The two clocks disagree so far that silence cannot be told from health.
        return _Fault(HealthReason.UNKNOWN)
    overdue = _overdue_since(facts, last_run, interval, now)
    if overdue is not None:
        return _Fault(HealthReason.OVERDUE, overdue)
    faults = (check(facts, now, rules) for check in _CHECKS)
    return next((fault for fault in faults if fault is not None), None)


def _failing(facts: JobFacts, now: datetime, rules: Rules) -> _Fault | None:
    del now
    if not facts.history:
        streak = (facts.consecutive_failures or 0) >= rules.failing_after
        failing = streak and facts.last_status not in GOOD
    else:
        failing = _still_failing(facts.history, rules)
    since = facts.failing_since or facts.last_success or facts.registered_at
    return _Fault(HealthReason.FAILING, since) if failing else None


def _still_failing(history: Sequence[RunStatus | None], rules: Rules) -> bool:
    """Walk from the oldest run to the newest; what says nothing of the job is passed over."""
    failing, bad, good = False, 0, 0
    for status in reversed(history):
        if status in BAD:
            bad, good = bad + 1, 0
            failing = failing or bad >= rules.failing_after
        elif status in GOOD:
            bad, good = 0, good + 1
            failing = failing and good < rules.recovered_after
    return failing


def _cut_off(facts: JobFacts, now: datetime, rules: Rules) -> _Fault | None:
    del now
    newest = facts.history[: rules.failing_after]
    ours = len(newest) == rules.failing_after and not any(newest)
    return _Fault(HealthReason.UNKNOWN, facts.last_success) if ours else None


def _skipping(facts: JobFacts, now: datetime, rules: Rules) -> _Fault | None:
    del now
    if (facts.skip_streak or 0) < rules.skips:
        return None
    return _Fault(HealthReason.SKIP_STREAK, facts.skipping_since)


def _late(facts: JobFacts, now: datetime, rules: Rules) -> _Fault | None:
    del now, rules
    if facts.late_by is None or facts.grace_seconds is None:
        return None
    return _Fault(HealthReason.LATE) if facts.late_by > facts.grace_seconds else None


def _breached(facts: JobFacts, now: datetime, rules: Rules) -> _Fault | None:
    del now, rules
    return None if facts.breach is None else _Fault(facts.breach, facts.breach_since)


def _stale(facts: JobFacts, now: datetime, rules: Rules) -> _Fault | None:
    fresh = rules.fresh.get(facts.job)
    newest = facts.last_new or facts.registered_at
    if fresh is None or newest is None or _seconds(newest, now) <= fresh:
        return None
    return _Fault(HealthReason.STALE_DATA, newest + timedelta(seconds=fresh))


_Check = Callable[[JobFacts, datetime, Rules], _Fault | None]
# What is worst is said first.
_CHECKS: tuple[_Check, ...] = (_failing, _cut_off, _skipping, _late, _breached, _stale)


def _overdue_since(
    facts: JobFacts, last_run: datetime, interval: float, now: datetime
) -> datetime | None:
    passed: list[datetime] = []
    heard = _heard(facts, last_run) or last_run
    if facts.silent_after is not None:
        if now > facts.silent_after:
            passed.append(facts.silent_after)
    elif _seconds(heard, now) > SILENT_INTERVALS * interval:
        passed.append(heard + timedelta(seconds=SILENT_INTERVALS * interval))
    # A tick left behind tells of a dead alarm, however young the last run is.
    left, patience = _unanswered_tick(facts), _patience(facts, interval)
    if left is not None and _seconds(left, now) > patience:
        passed.append(left + timedelta(seconds=patience))
    return min(passed, default=None)


def _patience(facts: JobFacts, interval: float) -> float:
    cron = facts.silent_after is not None and facts.grace_seconds is not None
    return facts.grace_seconds or 0.0 if cron else interval


def _heard(facts: JobFacts, last_run: datetime | None) -> datetime | None:
    """When the job last answered: a tick let go on purpose is an answer."""
    known = [instant for instant in (last_run, facts.rested_until) if instant is not None]
    return max(known, default=None)


def _unanswered_tick(facts: JobFacts) -> datetime | None:
    tick, running = facts.next_run, facts.running_since
    answered = tick is not None and running is not None and running >= tick
    return None if answered else tick


def _sound(interval: float | None) -> bool:
    return interval is not None and math.isfinite(interval) and interval > 0


def _age(last_run: datetime | None, now: datetime) -> float | None:
    return None if last_run is None else max(0.0, _seconds(last_run, now))


def _seconds(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()
