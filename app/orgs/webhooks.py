"""Webhooks: creation, and what an attempt of a delivery sends."""

from datetime import datetime
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import msgspec
from pydantic import SecretStr

from app.core.config import Config
from app.core.errors import Conflict, InvalidValue, UnsafeAddress
from app.fetch.ssrf_guard import Guard
from app.orgs import secret_box, webhook_signature
from app.store import tenancy
from app.store.content.changes import Change
from app.store.db import Pool
from app.store.orgs import collection
from app.store.orgs import webhooks as store
from app.store.orgs.webhooks import ClaimedDelivery

MAX_WEBHOOKS = 20  # webhooks per organisation
MAX_URL_LENGTH = 2_000


def check_url(config: Config, url: str) -> None:
    """Raise InvalidValue unless the URL is https, or names a host that GUARD_ALLOW lists.

    Its address is checked when connecting.
    """
    guard = Guard.allowing(config.guard_allow)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
        if not host or parts.scheme not in ("https", "http") or parts.username is not None:
            raise InvalidValue("url", "must be like https://example.com/path, without credentials")
        guard.vet(host)
    except UnsafeAddress as error:
        raise InvalidValue("url", f"is not allowed: {error}") from None
    except ValueError:
        raise InvalidValue("url", "is not a valid URL") from None
    if parts.scheme != "https" and not guard.lists(host):
        raise InvalidValue("url", "must begin with https://")
    if not url.isascii() or not url.isprintable() or " " in url or len(url) > MAX_URL_LENGTH:
        raise InvalidValue("url", f"must be printable ASCII of at most {MAX_URL_LENGTH} characters")


async def create(
    pool: Pool, config: Config, org_id: UUID, url: str, by: str, now: datetime
) -> tuple[UUID, str]:
    """Create a webhook; returns its id and its secret, which is not shown again.

    Raises InvalidValue for the URL, Conflict for too many, BadConfig without SECRETS_KEY.
    """
    check_url(config, url)
    webhook_id = uuid4()
    secret = webhook_signature.new_secret()
    sealed = secret_box.from_config(config).seal(org_id, secret_name(webhook_id), SecretStr(secret))
    async with tenancy.org_transaction(pool, org_id) as connection:
        await collection.lock_org(connection, org_id)  # one at a time, so that the count holds
        if len(await store.all_of(connection, org_id)) >= MAX_WEBHOOKS:
            raise Conflict(f"an organisation can have at most {MAX_WEBHOOKS} webhooks")
        await store.add(connection, org_id, (webhook_id, url, sealed), now, by)
    return webhook_id, secret


def payload(delivery: ClaimedDelivery, found: list[Change]) -> bytes:
    """Return the body of a delivery. It is the same for every attempt."""
    kind = "changes" if delivery.count else "test"
    data = [
        {
            "id": str(one.place),
            "at": one.at.isoformat(),
            "kind": one.kind,
            "source": one.source,
            "key": one.key,
            "run_id": one.run_id,
            "fields": one.fields,
        }
        for one in found
    ]
    body = {"type": kind, "timestamp": delivery.created_at.isoformat(), "data": {"changes": data}}
    return msgspec.json.encode(body)


def headers(
    config: Config, delivery: ClaimedDelivery, body: bytes, now: datetime
) -> dict[str, str]:
    """Return the headers of an attempt at `now`. Raises BadConfig if the secret cannot be read."""
    box = secret_box.from_config(config)
    secret = box.open(delivery.org_id, secret_name(delivery.webhook_id), delivery.secret)
    message_id, timestamp = f"msg_{delivery.id.hex}", str(int(now.timestamp()))
    return {
        "content-type": "application/json",
        "webhook-id": message_id,
        "webhook-timestamp": timestamp,
        "webhook-signature": webhook_signature.sign(
            secret.get_secret_value(), message_id, timestamp, body
        ),
    }


def secret_name(webhook_id: UUID) -> str:
    """Return the name for which the secret of a webhook is encrypted."""
    return f"webhook/{webhook_id}"
