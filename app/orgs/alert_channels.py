"""Organisations' alert channels: Apprise URLs of services with a host of their own, encrypted.

A service of the list is requested at its own host, whatever its URL has, and no URL may name files,
other hosts or how certificates are checked. So no message can reach an address of this network;
other receivers are webhooks, which pass the SSRF guard.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from app.core.alert_message import AlertMessage
from app.core.config import Config
from app.core.enums import AlertSeverity
from app.core.errors import Conflict, InvalidValue
from app.health.alerts.org_alerts import TEST_TITLE
from app.orgs import secret_box
from app.store import tenancy
from app.store.db import Connection, Pool
from app.store.orgs import alert_channels as store
from app.store.orgs import collection
from app.store.orgs.alert_channels import NewAlertChannel, StoredAlertChannel
from app.store.reports import org_alerts as outbox
from app.store.reports.org_alerts import ClaimedOrgMessage

MAX_CHANNELS = 20  # channels per organisation
MAX_URL_LENGTH = 2_000
# Each is requested at hosts of the service only, which a test holds.
SERVICES = (
    *("brevo", "discord", "firehydrant", "flock", "gchat", "ifttt", "ilert", "jira", "opsgenie"),
    *("pagerduty", "pbul", "postmark", "pover", "resend", "sendgrid", "signl4", "slack"),
    *("squadcast", "tgram", "twilio", "webex", "wxteams", "zoom"),
)
# Parameters that choose a recipient or a look. Others name files, hosts or time limits.
PARAMETERS = frozenset(
    {"action", "alias", "bcc", "cc", "class", "component", "dedup", "entity", "from", "group"}
    | {"mode", "name", "priority", "region", "reply", "severity", "silent", "sound", "source"}
    | {"tags", "thread", "to", "token", "topic", "tts"}
)


@dataclass(frozen=True, slots=True)
class ChannelRequest:
    """A channel as it is requested. `collections`, `severities`: what it gets; empty is all."""

    label: str
    url: SecretStr
    collections: Sequence[str] = ()
    severities: Sequence[AlertSeverity] = ()


def check_url(url: str) -> str:
    """Return the service of an Apprise URL. Raises InvalidValue, without what the URL has.

    Loads Apprise, so call it in a thread.
    """
    service, separator, _ = url.partition("://")
    service = service.lower()
    if not separator or service not in SERVICES:
        raise InvalidValue(
            "url",
            f"must be the Apprise URL of one of {', '.join(SERVICES)}; for an address of your own"
            " create a webhook, which gets changes of health too",
        )
    if not url.isascii() or not url.isprintable() or {" ", ","} & set(url):
        raise InvalidValue("url", "must be printable ASCII without spaces and commas (%20, %2C)")
    if len(url) > MAX_URL_LENGTH:
        raise InvalidValue("url", f"must have at most {MAX_URL_LENGTH} characters")
    _check_parameters(url)
    return service


def _check_parameters(url: str) -> None:
    import apprise  # noqa: PLC0415 - slow to import, and needed by few requests
    from apprise.utils import parse  # noqa: PLC0415 - as above

    library: Any = apprise.Apprise
    parser: Any = parse
    parsed: Mapping[str, Any] = parser.parse_url(url, verify_host=False, sanitize=False) or {}
    query: Mapping[str, str] = parsed.get("qsd") or {}
    unknown = sorted(name for name in query if name not in PARAMETERS)
    if unknown:
        raise InvalidValue(
            "url",
            f"must not have the parameter {unknown[0][:40]!r}; allowed are"
            f" {', '.join(sorted(PARAMETERS))}",
        )
    if library.instantiate(url, suppress_exceptions=True) is None:
        raise InvalidValue("url", "is not complete: Apprise does not accept it")


async def create(
    pool: Pool, config: Config, org_id: UUID, wanted: ChannelRequest, by: str, now: datetime
) -> StoredAlertChannel:
    """Create a channel.

    Raises InvalidValue for the URL, Conflict for too many, BadConfig without SECRETS_KEY.
    """
    box = secret_box.from_config(config)
    service = await asyncio.to_thread(check_url, wanted.url.get_secret_value())
    channel_id = uuid4()
    channel = NewAlertChannel(
        channel_id,
        org_id,
        wanted.label,
        service,
        box.seal(org_id, secret_name(channel_id), wanted.url),
        wanted.collections,
        [severity.value for severity in wanted.severities],
    )
    async with tenancy.org_transaction(pool, org_id) as connection:
        await collection.lock_org(connection, org_id)  # one at a time, so that the count holds
        if len(await store.all_of(connection, org_id)) >= MAX_CHANNELS:
            raise Conflict(f"an organisation can have at most {MAX_CHANNELS} alert channels")
        await store.add(connection, channel, now, by)
        (created,) = [c for c in await store.all_of(connection, org_id) if c.id == channel_id]
    return created


async def enqueue_test(
    connection: Connection, org_id: UUID, channel: StoredAlertChannel, now: datetime
) -> None:
    """Queue a message that says that the channel works. Raises Conflict while one waits."""
    if await outbox.tests_waiting(connection, channel.id, TEST_TITLE):
        raise Conflict("a test of this channel waits to be sent")
    body = f"The alert channel {channel.label} works."
    message = AlertMessage(TEST_TITLE, body, AlertSeverity.SUCCESS)
    await outbox.enqueue(connection, (channel.id, org_id, channel.service), message, now)


def open_url(config: Config, sealed: ClaimedOrgMessage) -> str:
    """Return the URL of a channel, without redirects. Raises BadConfig if no key decrypts it."""
    box = secret_box.from_config(config)
    url = box.open(sealed.org_id, secret_name(sealed.channel_id), sealed.secret).get_secret_value()
    return f"{url}{'&' if '?' in url else '?'}redirect=no"


def secret_name(channel_id: UUID) -> str:
    """Return the name for which the URL of a channel is encrypted."""
    return f"alert-channel/{channel_id}"
