"""Derives health facts from the newest runs and ticks of a job. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import takewhile

from app.core.enums import FailureKind, HealthReason, RunStatus, TickOutcome, TickReason
from app.health.facts import JobFacts, SourceFacts
from app.health.judge import BAD, GOOD, PARTIAL
from app.scheduling.cron import Cron
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule

HISTORY_RUNS = 20  # runs
COUNTED_TICKS = 100  # ticks
BREACHES = frozenset({HealthReason.DRIFT, HealthReason.STALE_DATA})
_RESTED = frozenset({TickReason.PAUSED, TickReason.DISABLED, TickReason.EXCLUDED})
_WANTED = _RESTED | {TickReason.SUPERSEDED}  # these did not run on purpose
_FOLDED = frozenset({TickReason.COALESCED})  # another tick ran for these

# (source, its status, kind and message of its error, the run's status and end)
FinishedSource = tuple[str, str, str | None, str | None, str, datetime]
FinishedRun = tuple[str, str | None, str | None, datetime]
DecidedTick = tuple[str, str | None, datetime, int]


def _start(
    found: Sequence[datetime], known: Sequence[object], ill_since: datetime | None
) -> datetime | None:
    """The first of the instants `found`, which are newest first.

    If they are all that is known, it lasts for longer than what was read: `ill_since`, if earlier.
    """
    first = found[-1] if found else None
    if first is None or ill_since is None or len(found) < len(known):
        return first
    return min(first, ill_since)


def with_runs(
    facts: JobFacts, newest: Sequence[FinishedRun], ill_since: datetime | None = None
) -> JobFacts:
    """Add what finished runs say, newest first: (status, error type, breach, end).

    `ill_since`: since when the job is recorded at fault.
    """
    statuses = [_status(end) for end in newest]
    known = [
        (status, end) for status, end in zip(statuses, newest, strict=True) if status in _CONCLUSIVE
    ]
    failing = [end for _, end in takewhile(lambda one: one[0] in BAD, known)]
    breach = _breach(newest[0]) if newest else None
    breached = list(takewhile(lambda end: _breach(end) == breach, newest)) if breach else []
    return replace(
        facts,
        last_run=newest[0][3] if newest else None,
        last_status=RunStatus(newest[0][0]) if newest else None,
        history=tuple(statuses[:HISTORY_RUNS]),
        consecutive_failures=len(failing),
        failing_since=_start([end[3] for end in failing], known, ill_since),
        breach=breach,
        breach_since=_start([end[3] for end in breached], newest, ill_since),
        succeeded=sum(status in GOOD for status in statuses),
        finished=len(newest),
    )


_CONCLUSIVE = GOOD | PARTIAL | BAD


def _status(end: FinishedRun) -> RunStatus | None:
    """The status of a run; None if it failed because the worker's network was down."""
    bad = RunStatus(end[0]) in BAD
    return None if bad and end[1] == FailureKind.LOCAL_NETWORK else RunStatus(end[0])


def source_facts(
    newest: Sequence[FinishedSource],
    last_new: Mapping[str, datetime],
    ill_since: datetime | None = None,
) -> tuple[SourceFacts, ...]:
    """Facts of each source of the newest run, from the sources of finished runs, newest first.

    Empty for a job with one source, whose state is the job's.
    """
    latest = newest[0][5] if newest else None
    names = sorted({one[0] for one in newest if one[5] == latest})
    if len(names) < 2:  # noqa: PLR2004 - "several"
        return ()
    by_name = {name: [one for one in newest if one[0] == name] for name in names}
    return tuple(
        _source_facts(name, by_name[name], last_new.get(name), ill_since) for name in names
    )


def _source_facts(
    name: str,
    newest: Sequence[FinishedSource],
    last_new: datetime | None,
    ill_since: datetime | None,
) -> SourceFacts:
    history = [_source_status(one) for one in newest]
    known = [(s, one) for s, one in zip(history, newest, strict=True) if s in _CONCLUSIVE]
    failing = [one for _, one in takewhile(lambda pair: pair[0] in BAD, known)]
    return SourceFacts(
        source=name,
        history=tuple(history),
        failures=len(failing),
        failing_since=_start([one[5] for one in failing], known, ill_since),
        last_error=next((one[3] for one in failing if one[3]), None),
        last_new=last_new,
    )


def _source_status(one: FinishedSource) -> RunStatus | None:
    """Its status in a run; the run's, if it ended while the source was at work."""
    _, status, kind, _, run_status, _ = one
    own = RunStatus(run_status if status == RunStatus.RUNNING else status)
    return None if own in BAD and kind == FailureKind.LOCAL_NETWORK else own


def _breach(end: FinishedRun) -> HealthReason | None:
    return HealthReason(end[2]) if end[2] in BREACHES else None


def with_ticks(
    facts: JobFacts, newest: Sequence[DecidedTick], ill_since: datetime | None = None
) -> JobFacts:
    """Add what decided ticks say, newest first: (outcome, reason, instant, number of ticks).

    `ill_since`: since when the job is recorded at fault.
    """
    parsed = [
        (outcome, None if reason is None else TickReason(reason), at, count)
        for outcome, reason, at, count in newest
    ]
    rested = [at for _, reason, at, _ in parsed if reason in _RESTED]
    due = [tick for tick in parsed if tick[1] not in _WANTED]
    skipped = [
        tick
        for tick in takewhile(lambda tick: tick[0] != TickOutcome.RAN, due)
        if tick[1] not in _FOLDED
    ]
    left, ran, counted = COUNTED_TICKS, 0, 0
    for outcome, _, _, count in due:
        taken = min(count, left - counted)
        counted += taken
        ran += taken if outcome == TickOutcome.RAN else 0
    return replace(
        facts,
        skip_streak=sum(tick[3] for tick in skipped),
        skipping_since=_start([tick[2] for tick in skipped], parsed, ill_since),
        skip_reason=skipped[0][1] if skipped else None,
        rested_until=max(rested, default=None),
        ran=ran,
        due=counted,
    )


def silent_after(
    schedule: Schedule, policies: Policies, last_activity: datetime
) -> datetime | None:
    """When a cron schedule becomes overdue that was last active at `last_activity`.

    That is its next tick, plus jitter, the grace within which the run may start and the timeout of
    the run. None for an interval, for which `judge` has a rule.
    """
    if not isinstance(schedule.rule, Cron):
        return None
    grace = policies.misfire_grace + timedelta(seconds=policies.timeout)
    return schedule.next(last_activity) + policies.jitter + grace
