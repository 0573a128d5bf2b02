"""Delivery of queued alerts through Apprise, in threads because notifiers block.

Some notifiers track incidents: a success closes the incident that a failure of the same key opened.
They get a message for each job, with the job as the key.
"""

import asyncio
import contextlib
import hashlib
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, InvalidStateError
from dataclasses import dataclass, field, replace
from typing import Any, cast
from urllib.parse import parse_qs, quote, urlencode

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core import alert_routes, log
from app.core.alert_message import AlertMessage
from app.core.alert_routes import AlertRoute, taken
from app.core.enums import AlertSeverity
from app.core.tasks import cancel_all
from app.health import keys
from app.health.alerts.compose import AlertChannel
from app.health.facts import SystemFacts
from app.store.db import Pool
from app.store.reports import alerts as store

DELIVERY_WAIT = 2.0  # seconds that `deliver` waits; a slow notifier goes on behind it
SEND_TIMEOUT = 20.0  # seconds for one message to one notifier, after which it counts as not sent
LATE_TIMEOUT = 600.0  # seconds more, in which a slow notifier may deliver it all the same
MAX_MESSAGES = 20  # messages to each notifier per call of `deliver`
# The parameter of an Apprise URL that is the key of an incident, by scheme.
INCIDENT_KEYS = {
    "firehydrant": "dedup",
    "goalert": "dedup",
    "goalerts": "dedup",
    "ilert": "dedup",
    "incidentio": "dedup",
    "jira": "alias",
    "opsgenie": "alias",
    "pagerduty": "dedup",
    "pagertree": "dedup",
    "signl4": "dedup",
    "splunk": "entity_id",
    "squadcast": "dedup",
    "victorops": "entity_id",
}

_log = log.logger(__name__)


@dataclass(slots=True)
class Notifiers:
    """Notifier URLs by channel name, which is the URL scheme and a digest without secrets.

    `routes`: what each channel gets.
    """

    urls: Mapping[str, str]
    routes: Mapping[str, Sequence[AlertRoute]]
    send_timeout: float = SEND_TIMEOUT
    _sending: dict[str, asyncio.Future[str | None]] = field(
        default_factory=dict[str, "asyncio.Future[str | None]"]
    )
    _tasks: dict[str, asyncio.Task[None]] = field(default_factory=dict[str, asyncio.Task[None]])

    @classmethod
    def from_settings(cls, urls: SecretStr | None, routes: SecretStr | None = None) -> "Notifiers":
        """The notifiers of ALERT_URLS, which get every alert, and of ALERT_ROUTES.

        An incident that a tracking notifier opens it also closes, whatever the severities.
        """
        ways = [] if routes is None else alert_routes.parse(routes.get_secret_value())
        if urls is not None:
            ways += [(AlertRoute(), url) for url in urls.get_secret_value().split()]
        found: dict[str, list[AlertRoute]] = {}
        for route, url in ways:
            severities = route.severities
            if _tracks(url) and AlertSeverity.FAILURE in severities:
                severities |= {AlertSeverity.SUCCESS}
            found.setdefault(_name(url), []).append(replace(route, severities=severities))
        return cls({_name(url): url for _, url in ways}, found)

    @property
    def channels(self) -> list[AlertChannel]:
        """What messages are composed and queued for."""
        return [
            AlertChannel(name, self.routes[name], tracks_incidents=_tracks(url))
            for name, url in self.urls.items()
        ]

    def taking(self, job: str, severity: AlertSeverity) -> list[str]:
        """The channels that get alerts of this job and severity."""
        return [name for name, routes in self.routes.items() if taken(routes, job, severity)]

    async def send(self, channel: str, message: AlertMessage) -> str | None:
        """Send one message. Returns None if it was delivered, else the error. Never raises."""
        earlier = self._sending.get(channel)
        if earlier is not None and not earlier.done():
            return f"{channel} is still busy with an earlier message"
        result: Future[str | None] = Future()
        # A daemon thread of its own: one that hangs delays neither other notifiers nor the exit.
        arguments = (result, self.urls[channel], message)
        threading.Thread(target=_run, args=arguments, name=channel, daemon=True).start()
        self._sending[channel] = asyncio.wrap_future(result)
        return await self._outcome(channel, self.send_timeout)

    async def delivered_late(self, channel: str) -> bool:
        """Whether the message whose time was up is delivered nevertheless. Never raises."""
        return await self._outcome(channel, LATE_TIMEOUT) is None

    async def _outcome(self, channel: str, seconds: float) -> str | None:
        sending = self._sending[channel]
        await asyncio.wait({sending}, timeout=seconds)
        if not sending.done():
            return f"{channel} took longer than {seconds:g} s"
        error = sending.exception()  # a faulty notifier must not stop the others
        return f"{channel} raised {type(error).__name__}" if error else sending.result()

    async def deliver(self, pool: Pool) -> None:
        """Send the messages that are due, to each notifier by a task of its own.

        Returns when all tasks have ended or after `DELIVERY_WAIT`; failures are retried later.
        Delivery is at least once: if the process dies before it records a message as sent, the
        message is sent again. Raises the errors of asyncpg.
        """
        for channel in self.urls:
            task = self._tasks.get(channel)
            if task is None or task.done():
                self._tasks[channel] = asyncio.create_task(_deliver_to(pool, self, channel))
        if self._tasks:
            ended, _ = await asyncio.wait(self._tasks.values(), timeout=DELIVERY_WAIT)
            for task in ended:
                task.result()

    async def close(self) -> None:
        """End deliveries without waiting for the threads."""
        await cancel_all(self._tasks.values())
        for sending in self._sending.values():
            sending.cancel()


def _tracks(url: str) -> bool:
    return _scheme(url) in INCIDENT_KEYS


def _scheme(url: str) -> str:
    return url.partition("://")[0].lower()


def _name(url: str) -> str:
    return f"{url.partition('://')[0]}-{hashlib.sha256(url.encode()).hexdigest()[:8]}"


def _run(result: Future[str | None], url: str, message: AlertMessage) -> None:
    sent: str | None = None
    raised: Exception | None = None
    try:
        sent = _send(url, message)
    except Exception as error:  # noqa: BLE001 - raised again where the result is awaited
        raised = error
    with contextlib.suppress(InvalidStateError):  # cancelled when the process ends
        if raised is None:
            result.set_result(sent)
        else:
            result.set_exception(raised)


def _send(url: str, message: AlertMessage) -> str | None:
    import apprise  # noqa: PLC0415 - slow to import, and needed by few processes

    app: Any = apprise.Apprise()
    scheme = _scheme(url)
    if not app.add(_of_incident(url, message.incident)):
        return _unsupported(scheme)
    if _closes_by_alias(scheme, app[0], message):
        delivered = _close_alert(scheme, app[0], message)
    else:
        delivered = app.notify(
            title=message.title,
            body=message.body,
            notify_type=message.severity.value,
            body_format="text",
        )
    return None if delivered else f"the {scheme} notifier rejected the message"


def unsupported(urls: Iterable[str]) -> list[str]:
    """A sentence for each URL that Apprise cannot send to, without its secrets."""
    import apprise  # noqa: PLC0415 - as above

    return [
        _unsupported(_scheme(url)) for url in urls if not cast("Any", apprise).Apprise().add(url)
    ]


def _unsupported(scheme: str) -> str:
    return f"Apprise does not support this {scheme} URL"


def _of_incident(url: str, incident: str | None) -> str:
    """The URL with the key of the incident, and opening or closing it by severity."""
    key = INCIDENT_KEYS.get(_scheme(url))
    if key is None or incident is None:
        return url
    address, _, query = url.partition("?")
    chosen = parse_qs(query, keep_blank_values=True)
    parameters = {key: f"rollcall:{incident}", "action": "map"}
    added = urlencode({name: value for name, value in parameters.items() if name not in chosen})
    return f"{address}?{'&'.join(part for part in (query, added) if part)}"


def _closes_by_alias(scheme: str, plugin: Any, message: AlertMessage) -> bool:
    success = message.severity is AlertSeverity.SUCCESS
    if not success or INCIDENT_KEYS.get(scheme) != "alias" or not plugin.alias:
        return False
    return plugin.action == "map" and plugin.mapping["success"] == "close"


def _close_alert(scheme: str, plugin: Any, message: AlertMessage) -> bool:
    """Close an alert of Opsgenie or Jira by its alias; returns whether it was accepted.

    Apprise closes only what the same object has opened, and reports the rest as delivered.
    """
    import requests  # noqa: PLC0415 - as Apprise
    from apprise.plugins import jira, opsgenie  # noqa: PLC0415 - as above

    regions = {"jira": jira.JIRA_API_LOOKUP, "opsgenie": opsgenie.OPSGENIE_API_LOOKUP}
    alerts = regions[scheme][plugin.region_name]
    delivered, _ = plugin._fetch(  # noqa: SLF001 - held by a test with both services' shapes
        requests.post,
        f"{alerts}/{quote(plugin.alias, safe='')}/close",
        {"source": plugin.app_desc, "note": message.body},
        {"identifierType": "alias"},
    )
    return delivered


async def _deliver_to(pool: Pool, notifiers: Notifiers, channel: str) -> None:
    for _ in range(MAX_MESSAGES):
        claimed = await store.claim_next(pool, [channel])
        if claimed is None:
            return
        error = await notifiers.send(channel, claimed.message)
        if error is not None:
            await store.mark_failed(pool, claimed.id, error)
            _log.warning("alert.not_sent", error=error, tries=claimed.attempts)
            if not await notifiers.delivered_late(channel):
                return
        await store.mark_sent(pool, claimed.id)
        _log.info("alert.sent", channel=channel, title=claimed.message.title)


async def publish_delivery_state(pool: Pool, redis: Redis, channels: Sequence[str]) -> None:
    """Publish the state of alert delivery to these channels. Never raises for Redis."""
    pending = await store.pending(pool, channels)
    facts = SystemFacts(
        pending=pending.count, failing_since=pending.failing_since, notifier_error=pending.error
    )
    try:
        await keys.write_alerting(redis, facts)
    except (RedisError, OSError):
        _log.info("alert.untold")  # the next call publishes it
