"""Alerts of organisations' collections: which messages each of their channels gets. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from uuid import UUID

from app.core.alert_message import AlertMessage
from app.core.alert_routes import AlertRoute
from app.core.collection_keys import collection_name, is_collection, owner_id
from app.core.enums import COLLECTION_TASK, AlertSeverity
from app.health.alerts import compose
from app.health.alerts.compose import AlertChannel, AlertPlan, AlertPolicy
from app.health.alerts.job_state import SCHEDULER, CurrentStates, RecordedState
from app.health.alerts.send import INCIDENT_KEYS
from app.store.reports.org_alerts import ChannelRoute

TEST_TITLE = "[rollcall] test"


def plan(
    current: CurrentStates, recorded: Mapping[str, RecordedState], policy: AlertPolicy
) -> AlertPlan:
    """What to report of collections now. The scheduler's state only delays it.

    The operator's quiet hours and groups do not apply: collections are judged once a minute.
    """
    watched = {k: one for k, one in recorded.items() if is_collection(k) or k == SCHEDULER}
    found = compose.plan(current, watched, AlertPolicy(group=0, remind=policy.remind))
    kept = {severity: [*filter(is_collection, keys)] for severity, keys in found.items()}
    return {severity: keys for severity, keys in kept.items() if keys}


def owners(plan_: AlertPlan) -> set[UUID]:
    return {owner_id(key) for keys in plan_.values() for key in keys}


def messages(
    channels: Iterable[ChannelRoute],
    plan_: AlertPlan,
    current: CurrentStates,
    recorded: Mapping[str, RecordedState],
) -> list[tuple[ChannelRoute, AlertMessage]]:
    """The messages for a plan, each with the channel that gets it."""
    parts = {org: _part(keys, current, recorded) for org, keys in _by_owner(plan_).items()}
    return [
        (channel, message)
        for channel in channels
        if (part := parts.get(channel.org_id)) is not None
        for message in compose.channel_messages(_channel(channel), *part, AlertPolicy())
    ]


def _channel(route: ChannelRoute) -> AlertChannel:
    severities = frozenset(AlertSeverity(name) for name in route.severities or AlertSeverity)
    tracks = route.service in INCIDENT_KEYS
    if tracks and AlertSeverity.FAILURE in severities:
        severities |= {AlertSeverity.SUCCESS}  # what it opens it also closes
    names = tuple(_shown(name) for name in route.collections) or ("*",)
    return AlertChannel(str(route.id), (AlertRoute(names, severities),), tracks_incidents=tracks)


def _by_owner(plan_: AlertPlan) -> dict[UUID, AlertPlan]:
    found: dict[UUID, dict[AlertSeverity, list[str]]] = {}
    for severity, keys in plan_.items():
        for key in keys:
            found.setdefault(owner_id(key), {}).setdefault(severity, []).append(key)
    return {**found}


def _part(
    keys: AlertPlan, current: CurrentStates, recorded: Mapping[str, RecordedState]
) -> tuple[AlertPlan, CurrentStates, Mapping[str, RecordedState]]:
    """One organisation's part of a plan and the states, with the collections' names as keys."""
    shown = {key: _shown(collection_name(key)) for part in keys.values() for key in part}
    states = {
        name: replace(current.states[key], key=name)
        for key, name in shown.items()
        if key in current.states
    }
    return (
        {severity: [shown[key] for key in part] for severity, part in keys.items()},
        CurrentStates(current.now, states),
        {name: replace(recorded[key], key=name) for key, name in shown.items()},
    )


def _shown(name: str) -> str:
    return f"{COLLECTION_TASK}:{name}"
