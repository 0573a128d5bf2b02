"""Explains the health of a job in a sentence, for alerts and health responses. Pure."""

from collections.abc import Callable, Collection
from datetime import datetime

from app.core.durations import span
from app.core.enums import HealthReason
from app.health.facts import JobFacts, SourceFacts
from app.health.judge import HealthStatus, expected_by

MAX_ERROR_LENGTH = 300  # characters of an error


def sentence(facts: JobFacts, health: HealthStatus) -> str:
    """Why the job has its status, as a clause; empty if there is no reason."""
    if health.reason is None:
        return ""
    if health.reason is HealthReason.SOURCE_FAILING:
        return _source_failing(facts, health.sources)
    return _SENTENCES[health.reason](facts)


def at(instant: datetime | None) -> str:
    """`2026-03-01 12:00:05 UTC`."""
    return "an unknown time" if instant is None else f"{instant:%Y-%m-%d %H:%M:%S} UTC"


def error(facts: JobFacts) -> str | None:
    """The last error, cut to MAX_ERROR_LENGTH characters."""
    return facts.last_error and facts.last_error[:MAX_ERROR_LENGTH]


def _overdue(facts: JobFacts) -> str:
    last = "it has never run" if facts.last_run is None else f"it last ran at {at(facts.last_run)}"
    expected = expected_by(facts)
    if facts.next_run is not None and (expected is None or facts.next_run < expected):
        return f"{last} and was due at {at(facts.next_run)}"
    return f"{last} and was expected to run by {at(expected)}"


def _failing(facts: JobFacts) -> str:
    count = facts.consecutive_failures or 0
    if not count:
        return "it failed repeatedly and has not recovered yet"
    return f"the last {count} runs failed" if count > 1 else "the last run failed"


def _source_failing(facts: JobFacts, sources: Collection[str]) -> str:
    found = [one for one in facts.sources if one.source in sources]
    return "; ".join(_of_source(facts, one) for one in found)


def _of_source(facts: JobFacts, one: SourceFacts) -> str:
    if one.failures:
        why = f": {one.last_error}" if one.last_error else ""
        runs = f"the last {one.failures} runs" if one.failures > 1 else "the last run"
        return f"{one.source} failed in {runs}{why}"[:MAX_ERROR_LENGTH]
    return f"{one.source} has stored nothing new since {at(one.last_new or facts.registered_at)}"


def _skipping(facts: JobFacts) -> str:
    why = f" ({facts.skip_reason.replace('_', ' ')})" if facts.skip_reason else ""
    return f"the last {facts.skip_streak} ticks did not run{why}"


def _late(facts: JobFacts) -> str:
    return (
        f"the last three runs started at least {span(facts.late_by or 0)} late; "
        f"the grace is {span(facts.grace_seconds or 0)}"
    )


def _stale(facts: JobFacts) -> str:
    if facts.breach is HealthReason.STALE_DATA:
        return "its data is older than expected"
    return f"it has stored nothing new since {at(facts.last_new or facts.registered_at)}"


def _paused(facts: JobFacts) -> str:
    note = f": {facts.paused_note}" if facts.paused_note else ""
    return f"it is paused by {facts.paused_by or 'unknown'}{note}"


def _unreadable(facts: JobFacts) -> str:
    fault = facts.unreadable or "the fault is not known"
    return f"its schedule cannot be read, and its ticks are held until it is edited: {fault}"


def _unknown(facts: JobFacts) -> str:
    if facts.history and not facts.history[0]:
        return "the network of the workers is down, so its state is unknown"
    return "its interval is unknown, or the clocks differ too much"


_SENTENCES: dict[HealthReason, Callable[[JobFacts], str]] = {
    HealthReason.NEVER_RAN: lambda _: "it has not run yet",
    HealthReason.OVERDUE: _overdue,
    HealthReason.FAILING: _failing,
    HealthReason.SKIP_STREAK: _skipping,
    HealthReason.LATE: _late,
    HealthReason.STALE_DATA: _stale,
    HealthReason.DRIFT: lambda _: "the shape of its data has changed",
    HealthReason.DISABLED: lambda _: "it is disabled in the settings",
    HealthReason.PAUSED: _paused,
    HealthReason.UNREADABLE: _unreadable,
    HealthReason.ORPHANED: lambda _: (
        "no live worker knows it: retire it if it was removed, or see `doctor` for a file that"
        " cannot be loaded"
    ),
    HealthReason.UNKNOWN: _unknown,
}
