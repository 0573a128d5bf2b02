"""Judges the health of a job from its facts and the clock. Pure.

A job is healthy only while it keeps running: silence is a fault. A job that was paused or disabled
is reported as such and is not at fault. Failures of the worker's own network do not count against
the job.

A run is good if it succeeded, with every source. A partly failed run is neither good nor failed: it
ends a series of failures, and its sources are judged one by one.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from app.core.enums import HealthReason, JobStatus, RunStatus
from app.health.facts import JobFacts, SourceFacts

FAILING_AFTER = 3
RECOVERED_AFTER = 1
MAX_SKIPS = 3
OVERDUE_INTERVALS = 2

GOOD = frozenset({RunStatus.SUCCESS})
PARTIAL = frozenset({RunStatus.PARTIAL_FAILURE})
BAD = frozenset({RunStatus.FAILURE, RunStatus.TIMED_OUT, RunStatus.LOST})


class OverallReason(StrEnum):
    """Why the state of the jobs is unknown, or why no job will run."""

    NO_JOBS = "no_jobs"
    NO_WORKERS = "no_workers"
    REDIS_REFUSES_WRITES = "redis_refuses_writes"
    REDIS_UNREACHABLE = "redis_unreachable"


@dataclass(frozen=True, slots=True)
class HealthRules:
    """Thresholds.

    - `failing_after`: consecutive failures after which a job, or one of its sources, is failing.
    - `recovered_after`: consecutive runs that did not fail after which it is not any more.
    - `skips`: consecutive ticks that did not run after which a job is unhealthy.
    - `fresh`: seconds within which a job, and each of its sources, must store something new.
    """

    failing_after: int = FAILING_AFTER
    recovered_after: int = RECOVERED_AFTER
    skips: int = MAX_SKIPS
    fresh: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True)
class HealthStatus:
    """The status of a job, its reason, and since when it holds (None if not known).

    `age_seconds`: since the end of the last run; None if it never ran. `sources`: the sources at
    fault, if the reason is `source_failing`. `awaited`: it never ran, and the first instant of its
    cron expression is not over yet.
    """

    status: JobStatus
    reason: HealthReason | None = None
    since: datetime | None = None
    age_seconds: float | None = None
    sources: tuple[str, ...] = ()
    awaited: bool = False

    @property
    def at_fault(self) -> bool:
        """Whether `/health` and `status` count it as a fault: it is neither well nor awaited."""
        started = self.status is not JobStatus.NOT_STARTED
        return self.status is JobStatus.UNHEALTHY or not (started or self.awaited)

    @property
    def reason_text(self) -> str | None:
        """The reason, with the sources at fault: `source_failing: bet9ja`."""
        if self.reason is None or not self.sources:
            return self.reason
        return f"{self.reason.value}: {', '.join(self.sources)}"

    @property
    def text(self) -> str:
        """The status with its reason: `unhealthy (source_failing: bet9ja)`."""
        reason = self.reason_text
        return self.status if reason in {None, self.status} else f"{self.status} ({reason})"

    @property
    def needs_attention(self) -> bool:
        """Whether the job needs attention: unhealthy, or not started and overdue."""
        overdue = self.status is JobStatus.NOT_STARTED and self.reason is HealthReason.OVERDUE
        return overdue or self.status is JobStatus.UNHEALTHY


@dataclass(frozen=True, slots=True)
class _Fault:
    reason: HealthReason
    since: datetime | None = None
    sources: tuple[str, ...] = ()


DEFAULT_RULES = HealthRules()


def judge(facts: JobFacts, now: datetime, rules: HealthRules = DEFAULT_RULES) -> HealthStatus:
    """The health of the job at `now`.

    It is healthy if its last run ended within two intervals (cron: before `silent_after`), its next
    tick has been due for at most one interval (cron: the grace), and no check of `rules` fails.
    """
    age = None if facts.last_run is None else max(0.0, _seconds(facts.last_run, now))
    if not facts.enabled:
        return HealthStatus(JobStatus.PAUSED, HealthReason.DISABLED, None, age)
    if facts.paused_at is not None:
        return HealthStatus(JobStatus.PAUSED, HealthReason.PAUSED, facts.paused_at, age)
    if facts.unreadable is not None or facts.orphaned:
        reason = HealthReason.ORPHANED if facts.unreadable is None else HealthReason.UNREADABLE
        return HealthStatus(JobStatus.UNHEALTHY, reason, None, age)
    if facts.last_run is None:
        return _not_started(facts, now)
    fault = _fault(facts, facts.last_run, now, rules)
    if fault is None:
        return HealthStatus(JobStatus.HEALTHY, None, None, age)
    return HealthStatus(JobStatus.UNHEALTHY, fault.reason, fault.since, age, fault.sources)


def all_healthy(verdicts: Collection[HealthStatus]) -> bool:
    """Whether there are jobs and none is at fault."""
    return bool(verdicts) and not any(verdict.at_fault for verdict in verdicts)


def expected_by(facts: JobFacts) -> datetime | None:
    """By when the next run should have ended; None if not known."""
    if facts.silent_after is not None or not _is_valid(facts.interval_seconds):
        return facts.silent_after
    last_activity = _last_activity(facts, facts.last_run or facts.registered_at)
    try:
        return last_activity and last_activity + timedelta(
            seconds=OVERDUE_INTERVALS * (facts.interval_seconds or 0)
        )
    except OverflowError:
        return None


def _not_started(facts: JobFacts, now: datetime) -> HealthStatus:
    expected = expected_by(facts)
    if expected is not None and now > expected:
        return HealthStatus(JobStatus.NOT_STARTED, HealthReason.OVERDUE, expected)
    return HealthStatus(
        JobStatus.NOT_STARTED,
        HealthReason.NEVER_RAN,
        facts.registered_at,
        awaited=facts.silent_after is not None,
    )


def _fault(facts: JobFacts, last_run: datetime, now: datetime, rules: HealthRules) -> _Fault | None:
    interval = facts.interval_seconds
    if interval is None or not _is_valid(interval):
        return _Fault(HealthReason.UNKNOWN)
    if _seconds(last_run, now) < -OVERDUE_INTERVALS * interval:
        # The clocks differ so much that an overdue job cannot be recognised.
        return _Fault(HealthReason.UNKNOWN)
    overdue = _overdue_since(facts, last_run, interval, now)
    if overdue is not None:
        return _Fault(HealthReason.OVERDUE, overdue)
    # In the order of severity: the first fault is reported.
    return (
        _failing(facts, rules)
        or _network_down(facts, rules)
        or _source_failing(facts, rules)
        or _skipping(facts, rules)
        or _late(facts)
        or _breached(facts)
        or _stale(facts, now, rules)
        or _source_stale(facts, now, rules)
    )


def _failing(facts: JobFacts, rules: HealthRules) -> _Fault | None:
    if not facts.history:
        streak = (facts.consecutive_failures or 0) >= rules.failing_after
        failing = streak and facts.last_status not in GOOD | PARTIAL
    else:
        failing = _still_failing(facts.history, rules) or _only_failed(facts)
    since = facts.failing_since or facts.last_success or facts.registered_at
    return _Fault(HealthReason.FAILING, since) if failing else None


def _only_failed(facts: JobFacts) -> bool:
    """Whether it has never brought anything: a new job is not healthy until it has."""
    known = [status for status in facts.history if status in GOOD | PARTIAL | BAD]
    return facts.last_success is None and bool(known) and BAD.issuperset(known)


def _still_failing(history: Sequence[RunStatus | None], rules: HealthRules) -> bool:
    """Whether a job or a source is failing after its runs; inconclusive ones are ignored."""
    failing, bad, good = False, 0, 0
    for status in reversed(history):
        if status in BAD:
            bad, good = bad + 1, 0
            failing = failing or bad >= rules.failing_after
        elif status in GOOD | PARTIAL:
            bad, good = 0, good + 1
            failing = failing and good < rules.recovered_after
    return failing


def _network_down(facts: JobFacts, rules: HealthRules) -> _Fault | None:
    newest = facts.history[: rules.failing_after]
    all_unknown = len(newest) == rules.failing_after and not any(newest)
    return _Fault(HealthReason.UNKNOWN, facts.last_success) if all_unknown else None


def _source_failing(facts: JobFacts, rules: HealthRules) -> _Fault | None:
    failing = [one for one in facts.sources if _still_failing(one.history, rules)]
    return _sources_fault([(one, one.failing_since) for one in failing])


def _source_stale(facts: JobFacts, now: datetime, rules: HealthRules) -> _Fault | None:
    fresh = rules.fresh.get(facts.job)
    if fresh is None:
        return None
    limit = timedelta(seconds=fresh)
    newest = [
        (one, _last_activity(facts, one.last_new or facts.registered_at)) for one in facts.sources
    ]
    return _sources_fault(
        [(one, new + limit) for one, new in newest if new is not None and now - new > limit]
    )


def _sources_fault(found: Sequence[tuple[SourceFacts, datetime | None]]) -> _Fault | None:
    if not found:
        return None
    since = min((at for _, at in found if at is not None), default=None)
    names = tuple(sorted(one.source for one, _ in found))
    return _Fault(HealthReason.SOURCE_FAILING, since, names)


def _skipping(facts: JobFacts, rules: HealthRules) -> _Fault | None:
    if (facts.skip_streak or 0) < rules.skips:
        return None
    return _Fault(HealthReason.SKIP_STREAK, facts.skipping_since)


def _late(facts: JobFacts) -> _Fault | None:
    if facts.late_by is None or facts.grace_seconds is None:
        return None
    return _Fault(HealthReason.LATE) if facts.late_by > facts.grace_seconds else None


def _breached(facts: JobFacts) -> _Fault | None:
    return None if facts.breach is None else _Fault(facts.breach, facts.breach_since)


def _stale(facts: JobFacts, now: datetime, rules: HealthRules) -> _Fault | None:
    fresh = rules.fresh.get(facts.job)
    newest = _last_activity(facts, facts.last_new or facts.registered_at)
    if fresh is None or newest is None or _seconds(newest, now) <= fresh:
        return None
    return _Fault(HealthReason.STALE_DATA, newest + timedelta(seconds=fresh))


def _overdue_since(
    facts: JobFacts, last_run: datetime, interval: float, now: datetime
) -> datetime | None:
    passed: list[datetime] = []
    last_activity = _last_activity(facts, last_run) or last_run
    if facts.silent_after is not None:
        if now > facts.silent_after:
            passed.append(facts.silent_after)
    elif _seconds(last_activity, now) > OVERDUE_INTERVALS * interval:
        passed.append(last_activity + timedelta(seconds=OVERDUE_INTERVALS * interval))
    # An undecided tick shows that the schedule is not triggered, however recent the last run is.
    undecided, patience = _undecided_tick(facts), _patience(facts, interval)
    if undecided is not None and _seconds(undecided, now) > patience:
        passed.append(undecided + timedelta(seconds=patience))
    return min(passed, default=None)


def _patience(facts: JobFacts, interval: float) -> float:
    cron = facts.silent_after is not None and facts.grace_seconds is not None
    return facts.grace_seconds or 0.0 if cron else interval


def _last_activity(facts: JobFacts, last_run: datetime | None) -> datetime | None:
    """When the job last ran, or last skipped a tick on purpose."""
    known = [instant for instant in (last_run, facts.rested_until) if instant is not None]
    return max(known, default=None)


def _undecided_tick(facts: JobFacts) -> datetime | None:
    tick, running = facts.next_run, facts.running_since
    running_it = tick is not None and running is not None and running >= tick
    return None if running_it else tick


def _is_valid(interval: float | None) -> bool:
    return interval is not None and math.isfinite(interval) and interval > 0


def _seconds(since: datetime, now: datetime) -> float:
    return (now - since).total_seconds()
