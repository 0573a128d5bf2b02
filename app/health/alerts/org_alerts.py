"""Alerts of organisations' collections: which messages each of their channels gets. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
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
    return AlertPlan(
        _collections(found.unhealthy), _collections(found.reminded), _collections(found.recovered)
    )


def _collections(keys: Iterable[str]) -> list[str]:
    return [key for key in keys if is_collection(key)]


def owners(plan_: AlertPlan) -> set[UUID]:
    return {owner_id(key) for key in (*plan_.unhealthy, *plan_.reminded, *plan_.recovered)}


@dataclass(frozen=True, slots=True)
class _Named:
    """One organisation's part of a plan, with the collections' names as keys."""

    plan: AlertPlan
    current: CurrentStates
    recorded: Mapping[str, RecordedState]


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
        for message in compose.channel_messages(
            _channel(channel), part.plan, part.current, part.recorded, AlertPolicy()
        )
    ]


def _channel(route: ChannelRoute) -> AlertChannel:
    severities = frozenset(AlertSeverity(name) for name in route.severities or AlertSeverity)
    tracks = route.service in INCIDENT_KEYS
    if tracks and AlertSeverity.FAILURE in severities:
        severities |= {AlertSeverity.SUCCESS}  # what it opens it also closes
    names = tuple(_shown(name) for name in route.collections) or ("*",)
    return AlertChannel(str(route.id), (AlertRoute(names, severities),), tracks_incidents=tracks)


def _by_owner(plan_: AlertPlan) -> dict[UUID, AlertPlan]:
    found: dict[UUID, tuple[list[str], list[str], list[str]]] = {}
    for number, keys in enumerate((plan_.unhealthy, plan_.reminded, plan_.recovered)):
        for key in keys:
            found.setdefault(owner_id(key), ([], [], []))[number].append(key)
    return {org: AlertPlan(*lists) for org, lists in found.items()}


def _part(keys: AlertPlan, current: CurrentStates, recorded: Mapping[str, RecordedState]) -> _Named:
    def named(part: Iterable[str]) -> list[str]:
        return [_shown(collection_name(key)) for key in part]

    every = (*keys.unhealthy, *keys.reminded, *keys.recovered)
    shown = {key: _shown(collection_name(key)) for key in every}
    states = {
        name: replace(current.states[key], key=name)
        for key, name in shown.items()
        if key in current.states
    }
    return _Named(
        AlertPlan(named(keys.unhealthy), named(keys.reminded), named(keys.recovered)),
        CurrentStates(current.now, states),
        {name: replace(recorded[key], key=name) for key, name in shown.items()},
    )


def _shown(name: str) -> str:
    return f"{COLLECTION_TASK}:{name}"
