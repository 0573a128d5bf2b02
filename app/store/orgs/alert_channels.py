"""Statements for organisations' alert channels. Their messages are rows of `notifications`."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.store.db import Connection


@dataclass(frozen=True, slots=True)
class NewAlertChannel:
    """A channel to store. `secret`: its URL, encrypted."""

    id: UUID
    org_id: UUID
    label: str
    service: str
    secret: bytes
    collections: Sequence[str]
    severities: Sequence[str]


@dataclass(frozen=True, slots=True)
class StoredAlertChannel:
    """A channel and what came of its messages. `last_error`: of the newest that was not sent."""

    id: UUID
    label: str
    service: str
    collections: list[str]
    severities: list[str]
    created_at: datetime
    created_by: str
    waiting: int
    last_sent_at: datetime | None
    last_error: str | None


# The id comes from the caller: the secret is encrypted for it before there is a row.
ADD = """
INSERT INTO alert_channels
  (id, org_id, label, service, secret, collections, severities, created_at, created_by)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
# Channels with what came of their messages, in one statement, by the index on their channel.
LIST = """
SELECT c.id, c.label, c.service, c.collections, c.severities, c.created_at, c.created_by,
       n.waiting, n.last_sent_at, n.last_error
FROM alert_channels c
CROSS JOIN LATERAL (
  SELECT count(*) FILTER (WHERE sent_at IS NULL AND given_up_at IS NULL) AS waiting,
         max(sent_at) AS last_sent_at,
         (array_agg(last_error ORDER BY id DESC)
            FILTER (WHERE sent_at IS NULL AND last_error IS NOT NULL))[1] AS last_error
  FROM notifications WHERE channel_id = c.id) n
WHERE c.org_id = $1 AND ($2::uuid IS NULL OR c.id = $2) ORDER BY c.created_at, c.id
"""
# Locked in order of their ids while all secrets are encrypted with a new key.
LOCK_ALL = "SELECT id, org_id, secret FROM alert_channels ORDER BY id FOR UPDATE"


async def add(connection: Connection, channel: NewAlertChannel, now: datetime, by: str) -> None:
    await connection.execute(
        ADD,
        channel.id,
        channel.org_id,
        channel.label,
        channel.service,
        channel.secret,
        list(channel.collections),
        list(channel.severities),
        now,
        by,
    )


async def all_of(connection: Connection, org_id: UUID) -> list[StoredAlertChannel]:
    """Return the organisation's channels, oldest first."""
    return [StoredAlertChannel(*row) for row in await connection.fetch(LIST, org_id, None)]


async def one(connection: Connection, org_id: UUID, channel_id: UUID) -> StoredAlertChannel | None:
    """Return one channel of the organisation; None if it has no such one."""
    row = await connection.fetchrow(LIST, org_id, channel_id)
    return None if row is None else StoredAlertChannel(*row)


async def remove(connection: Connection, org_id: UUID, channel_id: UUID) -> bool:
    tag = await connection.execute(
        "DELETE FROM alert_channels WHERE org_id = $1 AND id = $2", org_id, channel_id
    )
    return tag == "DELETE 1"


async def lock_all(connection: Connection) -> list[tuple[UUID, UUID, bytes]]:
    """Return id, organisation and encrypted URL of every channel, locked."""
    return [(row[0], row[1], row[2]) for row in await connection.fetch(LOCK_ALL)]


async def set_secret(connection: Connection, channel_id: UUID, secret: bytes) -> None:
    """Replace the encrypted URL of a channel."""
    await connection.execute(
        "UPDATE alert_channels SET secret = $2 WHERE id = $1", channel_id, secret
    )
