"""Alert messages: what to send now, grouped into one message, and its text. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
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


@dataclass(frozen=True, slots=True)
class AlertPlan:
    """Keys to report: newly unhealthy, still unhealthy, and recovered."""

    unhealthy: Sequence[str] = ()
    reminded: Sequence[str] = ()
    recovered: Sequence[str] = ()

    def __bool__(self) -> bool:
        return bool(self.unhealthy or self.reminded or self.recovered)


def plan(
    current: CurrentStates, recorded: Mapping[str, RecordedState], policy: AlertPolicy
) -> AlertPlan:
    """What to report now. In quiet hours nothing; what lasts is reported after them.

    What is acknowledged is reported when it gets worse, or its snooze ends.
    """
    if policy.quiet is not None and policy.quiet.covers(current.now):
        return AlertPlan()
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
    return AlertPlan(
        unhealthy=_keys(unreported)
        if grouped
        else _keys(s for s in unreported if s.key == SCHEDULER),
        reminded=_keys(s for s in tracked if _reminder_is_due(s, current.now, policy)),
        recovered=_recovered(recorded.values(), current.now, policy),
    )


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


def _reminder_is_due(state: RecordedState, now: datetime, policy: AlertPolicy) -> bool:
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

    def part(keys: Sequence[str], severity: AlertSeverity) -> list[str]:
        return [key for key in keys if taken(channel.routes, key, severity)]

    own = AlertPlan(
        part(plan_.unhealthy, AlertSeverity.FAILURE),
        part(plan_.reminded, AlertSeverity.WARNING),
        part(plan_.recovered, AlertSeverity.SUCCESS),
    )
    compose = incident_messages if channel.tracks_incidents else messages
    return compose(own, current, recorded, policy)


def messages(
    plan_: AlertPlan,
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
    policy: AlertPolicy,
) -> list[AlertMessage]:
    """The messages for a plan: one for each severity, because a notifier maps the whole message.

    Problems first, then reminders, then recoveries.
    """
    kinds = (
        (AlertSeverity.FAILURE, AlertPlan(unhealthy=plan_.unhealthy)),
        (AlertSeverity.WARNING, AlertPlan(reminded=plan_.reminded)),
        (AlertSeverity.SUCCESS, AlertPlan(recovered=plan_.recovered)),
    )
    return [_message(part, severity, current, recorded, policy) for severity, part in kinds if part]


def incident_messages(
    plan_: AlertPlan,
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
    policy: AlertPolicy,
) -> list[AlertMessage]:
    """The messages for a plan, one for each key, for notifiers that track incidents."""
    parts = [
        *((key, AlertPlan(unhealthy=[key])) for key in plan_.unhealthy),
        *((key, AlertPlan(reminded=[key])) for key in plan_.reminded),
        *((key, AlertPlan(recovered=[key])) for key in plan_.recovered),
    ]
    return [
        replace(message, incident=key)
        for key, part in parts
        for message in messages(part, current, recorded, policy)
    ]


def _message(
    plan_: AlertPlan,
    severity: AlertSeverity,
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
    policy: AlertPolicy,
) -> AlertMessage:
    parts = [
        *_section(plan_.unhealthy, "", lambda key: _problem(key, current, recorded, policy)),
        *_section(
            plan_.reminded, "Still unhealthy:", lambda key: _problem(key, current, recorded, policy)
        ),
        *_section(plan_.recovered, "Recovered:", lambda key: _recovery(recorded[key])),
    ]
    if policy.public_url is not None:
        parts.append(f"Dashboard: {policy.public_url}/")
    return AlertMessage(
        f"[rollcall] {_title(plan_, current, recorded)}", "\n\n".join(parts), severity
    )


def _title(plan_: AlertPlan, current: CurrentStates, recorded: Mapping[str, RecordedState]) -> str:
    parts: list[str] = []
    if SCHEDULER in plan_.unhealthy:
        parts.append(_scheduler_problem(current))
    jobs = [key for key in plan_.unhealthy if key != SCHEDULER]
    if jobs:
        parts.append(_new_problems(jobs, current))
    if plan_.reminded:
        parts.append(f"{_named(plan_.reminded)} still unhealthy")
    if plan_.recovered:
        healthy = all(recorded[key].status == JobStatus.HEALTHY for key in plan_.recovered)
        what = "healthy again" if healthy else "no longer unhealthy"
        parts.append(f"{_named(plan_.recovered)} {what}")
    return "; ".join(parts)


def _scheduler_problem(current: CurrentStates) -> str:
    state = current.states.get(SCHEDULER)
    no_worker = "the scheduler is down: no live worker"
    return no_worker if state is None else _REDIS_PROBLEMS.get(state.reason or "", no_worker)


def _new_problems(jobs: Sequence[str], current: CurrentStates) -> str:
    if len(jobs) > 1:
        return f"{len(jobs)} jobs are unhealthy"
    state = current.states[jobs[0]]
    return f"{jobs[0]} is {_as_text(state.reason)}"


def _named(keys: Sequence[str]) -> str:
    return keys[0] + " is" if len(keys) == 1 else f"{len(keys)} are"


def _section(keys: Sequence[str], head: str, line: Callable[[str], str]) -> list[str]:
    if not keys:
        return []
    lines = [line(key) for key in keys[:MAX_ENTRIES]]
    if len(keys) > MAX_ENTRIES:
        lines.append(f"… and {len(keys) - MAX_ENTRIES} more.")
    return [*([head] if head else []), *lines]


def _problem(
    key: str, current: CurrentStates, recorded: Mapping[str, RecordedState], policy: AlertPolicy
) -> str:
    state: JobState = current.states[key]
    since = recorded[key].ill_since or state.since
    detail = printable.line(state.detail)
    lines = [f"{key}: {_as_text(state.reason)} since {at(since)}: {detail}."]
    if state.expected is not None:
        lines.append(f"Expected by: {at(state.expected)}.")
    if state.last_error:
        lines.append(f"Last error: {printable.line(state.last_error)}")
    if recorded[key].acknowledged:
        after = "got worse after" if recorded[key].worse else "outlasted a snooze by"
        lines.append(
            f"It {after} {recorded[key].acknowledged_by}: {recorded[key].acknowledged_note}"
        )
    if policy.public_url is not None and key != SCHEDULER and not is_collection(key):
        lines.append(f"{policy.public_url}/jobs/{key}")
    return "\n".join(lines)


def _recovery(state: RecordedState) -> str:
    duration = (state.flipped_at - (state.ill_since or state.flipped_at)).total_seconds()
    since = f"{_as_text(state.status)} since {at(state.flipped_at)}"
    return f"{state.key}: {since}, unhealthy for {span(duration)}."


def _as_text(value: str | None) -> str:
    return (value or "unknown").replace("_", " ")
