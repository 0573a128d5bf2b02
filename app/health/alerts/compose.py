"""Alert messages: what to send now, grouped into one message, and its text. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from app.core import printable
from app.core.alert_message import AlertMessage
from app.core.alert_routes import AlertRoute, taken
from app.core.collection_keys import is_collection
from app.core.durations import span
from app.core.enums import AlertSeverity, JobStatus
from app.core.quiet_hours import QuietHours
from app.health.alerts.job_state import SCHEDULER, CurrentStates, JobState, RecordedState
from app.health.explain import at
from app.health.judge import OverallReason

MAX_ENTRIES = 20  # entries listed in each section of a message
WORKER_ABSENCE_LIMIT = 30.0  # seconds before missing workers are alerted: it may be a deploy
CATCH_UP_MARGIN = timedelta(seconds=60)
MAX_HOLD = 900.0  # seconds after a recovery of the scheduler
_REDIS_PROBLEMS: dict[str, str] = {
    OverallReason.REDIS_REFUSES_WRITES: "Redis refuses writes",
    OverallReason.REDIS_UNREACHABLE: "Redis does not answer",
}


@dataclass(frozen=True, slots=True)
class AlertPolicy:
    """The settings of alerts.

    `group`: seconds for which changes are collected into one message. `remind`: interval between
    reminders, None for no reminders. `quiet`: hours in which nothing is sent.
    """

    group: float = 30.0
    remind: timedelta | None = timedelta(hours=24)
    quiet: QuietHours | None = None
    public_url: str | None = None


@dataclass(frozen=True, slots=True)
class AlertChannel:
    """A notifier. `tracks_incidents`: it gets a message for each job, which opens or closes one."""

    name: str
    routes: Sequence[AlertRoute] = (AlertRoute(),)
    tracks_incidents: bool = False


# Keys to report, by severity: newly unhealthy, still unhealthy, and recovered; none is left out.
AlertPlan = Mapping[AlertSeverity, Sequence[str]]
_HEADS = {AlertSeverity.WARNING: "Still unhealthy:", AlertSeverity.SUCCESS: "Recovered:"}


def plan(
    current: CurrentStates, recorded: Mapping[str, RecordedState], policy: AlertPolicy
) -> AlertPlan:
    """What to report now. In quiet hours nothing; what lasts is reported after them.

    What is acknowledged is reported when it gets worse, or its snooze ends.
    """
    if policy.quiet is not None and policy.quiet.covers(current.now):
        return {}
    tracked = [state for key, state in recorded.items() if key in current.states]
    unreported = [
        s
        for s in tracked
        if s.ill
        and (s.told_at is None or s.worse)
        and not s.silenced(current.now)
        and _may_report(s, current, recorded)
    ]
    grouped = _group_is_due(unreported, current, policy)
    reported = {
        AlertSeverity.FAILURE: _keys(s for s in unreported if grouped or s.key == SCHEDULER),
        AlertSeverity.WARNING: _keys(s for s in tracked if _is_reminded(s, current.now, policy)),
        AlertSeverity.SUCCESS: _recovered(recorded.values(), current.now, policy),
    }
    return {severity: keys for severity, keys in reported.items() if keys}


def _keys(recorded: Iterable[RecordedState]) -> list[str]:
    return sorted(state.key for state in recorded)


def _may_report(
    state: RecordedState, current: CurrentStates, recorded: Mapping[str, RecordedState]
) -> bool:
    """Whether to report the state: not while the scheduler is down, nor while it catches up."""
    scheduler = recorded.get(SCHEDULER)
    if state.key == SCHEDULER:
        interval = current.states[SCHEDULER].interval
        patience = (
            WORKER_ABSENCE_LIMIT if interval is None else min(WORKER_ABSENCE_LIMIT, interval / 3)
        )
        return current.now - state.flipped_at >= timedelta(seconds=patience)
    if scheduler is None or scheduler.ill_since is None:
        return True
    if scheduler.ill:
        return False
    interval = current.states[state.key].interval or MAX_HOLD
    hold = timedelta(seconds=min(interval, MAX_HOLD)) + CATCH_UP_MARGIN
    return current.now >= scheduler.flipped_at + hold


def _group_is_due(
    unreported: Sequence[RecordedState], current: CurrentStates, policy: AlertPolicy
) -> bool:
    oldest = min((s.flipped_at for s in unreported if s.key != SCHEDULER), default=None)
    return oldest is not None and current.now - oldest >= timedelta(seconds=policy.group)


def _is_reminded(state: RecordedState, now: datetime, policy: AlertPolicy) -> bool:
    last = state.reminded_at or state.told_at
    if not state.ill or last is None or state.silenced(now) or state.worse:
        return False
    snooze_ended = state.acknowledged
    return snooze_ended or (policy.remind is not None and now - last >= policy.remind)


def _recovered(recorded: Iterable[RecordedState], now: datetime, policy: AlertPolicy) -> list[str]:
    recovered = [state for state in recorded if not state.ill and state.told_at is not None]
    oldest = min((state.flipped_at for state in recovered), default=None)
    grouped = oldest is not None and now - oldest >= timedelta(seconds=policy.group)
    return _keys(recovered) if grouped else []


def channel_messages(
    channel: AlertChannel,
    plan_: AlertPlan,
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
    policy: AlertPolicy,
) -> list[AlertMessage]:
    """The messages for a plan to this notifier: about what its routes take."""
    own = {
        severity: [key for key in keys if taken(channel.routes, key, severity)]
        for severity, keys in plan_.items()
    }
    if not channel.tracks_incidents:
        return messages(own, current, recorded, policy)
    return [
        replace(message, incident=key)
        for severity, keys in own.items()
        for key in keys
        for message in messages({severity: [key]}, current, recorded, policy)
    ]


def messages(
    plan_: AlertPlan,
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
    policy: AlertPolicy,
) -> list[AlertMessage]:
    """The messages for a plan: one for each severity, because a notifier maps the whole message.

    Problems first, then reminders, then recoveries.
    """
    return [
        _message(severity, keys, current, recorded, policy)
        for severity, keys in plan_.items()
        if keys
    ]


def _message(
    severity: AlertSeverity,
    keys: Sequence[str],
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
    policy: AlertPolicy,
) -> AlertMessage:
    parts = [_HEADS[severity]] if severity in _HEADS else []
    for key in keys[:MAX_ENTRIES]:
        recovered = severity is AlertSeverity.SUCCESS
        state = recorded[key]
        parts.append(_recovery(state) if recovered else _problem(key, current, state, policy))
    if len(keys) > MAX_ENTRIES:
        parts.append(f"… and {len(keys) - MAX_ENTRIES} more.")
    if policy.public_url is not None:
        parts.append(f"Dashboard: {policy.public_url}/")
    title = _title(severity, keys, current, recorded)
    return AlertMessage(f"[rollcall] {title}", "\n\n".join(parts), severity)


def _title(
    severity: AlertSeverity,
    keys: Sequence[str],
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
) -> str:
    if severity is AlertSeverity.WARNING:
        return f"{_named(keys)} still unhealthy"
    if severity is AlertSeverity.SUCCESS:
        healthy = all(recorded[key].status == JobStatus.HEALTHY for key in keys)
        return f"{_named(keys)} {'healthy again' if healthy else 'no longer unhealthy'}"
    parts = [_scheduler_problem(current)] if SCHEDULER in keys else []
    jobs = [key for key in keys if key != SCHEDULER]
    return "; ".join([*parts, *([_new_problems(jobs, current)] if jobs else [])])


def _scheduler_problem(current: CurrentStates) -> str:
    state = current.states.get(SCHEDULER)
    no_worker = "the scheduler is down: no live worker"
    if state is None:
        return no_worker
    return state.title or _REDIS_PROBLEMS.get(state.reason or "", no_worker)


def _new_problems(jobs: Sequence[str], current: CurrentStates) -> str:
    if len(jobs) > 1:
        return f"{len(jobs)} jobs are unhealthy"
    state = current.states[jobs[0]]
    return f"{jobs[0]} is {_as_text(state.reason)}"


def _named(keys: Sequence[str]) -> str:
    return keys[0] + " is" if len(keys) == 1 else f"{len(keys)} are"


def _problem(key: str, current: CurrentStates, recorded: RecordedState, policy: AlertPolicy) -> str:
    state: JobState = current.states[key]
    since = recorded.ill_since or state.since
    detail = printable.line(state.detail)
    lines = [f"{key}: {_as_text(state.reason)} since {at(since)}: {detail}."]
    if state.expected is not None:
        lines.append(f"Expected by: {at(state.expected)}.")
    if state.last_error:
        lines.append(f"Last error: {printable.line(state.last_error)}")
    if recorded.acknowledged:
        after = "got worse after" if recorded.worse else "outlasted a snooze by"
        lines.append(f"It {after} {recorded.acknowledged_by}: {recorded.acknowledged_note}")
    if policy.public_url is not None and key != SCHEDULER and not is_collection(key):
        lines.append(f"{policy.public_url}/jobs/{key}")
    return "\n".join(lines)


def _recovery(state: RecordedState) -> str:
    duration = (state.flipped_at - (state.ill_since or state.flipped_at)).total_seconds()
    since = f"{_as_text(state.status)} since {at(state.flipped_at)}"
    return f"{state.key}: {since}, unhealthy for {span(duration)}."


def _as_text(value: str | None) -> str:
    return (value or "unknown").replace("_", " ")
