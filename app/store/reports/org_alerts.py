"""Statements for alerts of collections: to their organisations' channels and in their feeds."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.alert_message import AlertMessage
from app.core.enums import AlertSeverity
from app.store.db import Connection, Pool
from app.store.reports.alerts import LEASE
from app.store.reports.health import COLLECTION_STATE

# Unhealthy collections, and those that were unhealthy, for which a recovery may be due.
JUDGED_COLLECTIONS = f"""
SELECT j.key, j.state, j.error, j.next_tick_at, o.name
FROM (SELECT s.key, s.org_id, s.next_tick_at,
             (SELECT r.error_message FROM runs r
              WHERE r.schedule_id = s.id AND r.completed_at IS NOT NULL
              ORDER BY r.created_at DESC LIMIT 1) AS error,
       {COLLECTION_STATE} AS state
      FROM schedules s
      WHERE s.notify AND s.org_id IS NOT NULL AND s.next_tick_at IS NOT NULL) AS j
JOIN organizations o ON o.id = j.org_id
WHERE j.state IN ('overdue', 'failing') OR j.key = ANY ($2::text[]) ORDER BY j.key
"""  # noqa: S608 - a constant

# Its position comes from the database, so that readers of the feed do not miss it.
REMIND = """
INSERT INTO changes (position, org_id, at, kind, key, fields)
SELECT change_position(), s.org_id, $2, 'health', s.key, jsonb_build_object(
  'status', jsonb_build_object('to', h.status), 'reason', jsonb_build_object('to', h.reason),
  'severity', jsonb_build_object('to', 'warning'))
FROM schedules s JOIN health_states h ON h.key = s.key
WHERE s.key = ANY ($1::text[]) AND s.org_id IS NOT NULL
"""

# One statement for all organisations that have something to be told.
CHANNELS = """
SELECT id, org_id, service, collections, severities FROM alert_channels
WHERE org_id = ANY ($1::uuid[]) ORDER BY created_at, id
"""
# As the operator's, with the owner and the channel whose deletion deletes the message.
QUEUE = """
INSERT INTO notifications (channel, title, body, severity, incident, created_at, next_try_at,
                           attempts, org_id, channel_id)
VALUES ($3::text, $4, $5, $6, $7, $8, $8, 0, $2, $1)
"""
# Tests are told from alerts by their title.
TESTS_WAITING = """
SELECT count(*) FROM notifications
WHERE channel_id = $1 AND title = $2 AND sent_at IS NULL AND given_up_at IS NULL
"""

# As for the operator's: a message about an incident waits for the earlier ones. None of a disabled
# organisation.
CLAIM = """
UPDATE notifications n SET attempts = n.attempts + 1,
       next_try_at = now() + $1::float8 * interval '1 second'
FROM alert_channels c
WHERE c.id = n.channel_id AND n.id = (
  SELECT n.id FROM notifications n
  JOIN organizations o ON o.id = n.org_id AND o.disabled_at IS NULL
  WHERE channel_id IS NOT NULL AND sent_at IS NULL AND given_up_at IS NULL AND next_try_at <= now()
    AND NOT EXISTS (
      SELECT FROM notifications earlier
      WHERE earlier.sent_at IS NULL AND earlier.given_up_at IS NULL
        AND earlier.channel_id = n.channel_id AND earlier.incident = n.incident
        AND earlier.id < n.id)
  ORDER BY next_try_at, n.id LIMIT 1 FOR UPDATE OF n SKIP LOCKED)
RETURNING n.id, c.id, c.org_id, c.service, c.secret, n.title, n.body, n.severity, n.incident,
          n.attempts
"""
# What waited while the organisation was disabled is given up as what has failed for as long.
GIVE_UP_OLD = """
UPDATE notifications SET given_up_at = now(), last_error = 'the organisation was disabled'
WHERE org_id = $1 AND channel_id IS NOT NULL AND sent_at IS NULL AND given_up_at IS NULL
  AND created_at < now() - interval '3 days'
"""


@dataclass(frozen=True, slots=True)
class ChannelRoute:
    """What an organisation's channel gets: of these collections and severities, if they are set."""

    id: UUID
    org_id: UUID
    service: str
    collections: list[str]
    severities: list[str]


@dataclass(frozen=True, slots=True)
class ClaimedOrgMessage:
    """A message to a channel that this process has claimed. `secret`: the URL, encrypted."""

    id: int
    channel_id: UUID
    org_id: UUID
    service: str
    secret: bytes
    message: AlertMessage
    attempts: int


async def judged_collections(
    connection: Connection, now: datetime, recorded: Collection[str]
) -> list[dict[str, Any]]:
    """Return the collections with `notify` that are unhealthy, or one of `recorded`."""
    rows = await connection.fetch(JUDGED_COLLECTIONS, now, list(recorded), timeout=20)
    return [dict(row) for row in rows]


async def remind(connection: Connection, keys: Sequence[str], now: datetime) -> None:
    """Add a reminder to the feed of each collection's organisation."""
    if keys:
        await connection.execute(REMIND, list(keys), now)


async def channels(connection: Connection, org_ids: Collection[UUID]) -> list[ChannelRoute]:
    rows = await connection.fetch(CHANNELS, list(org_ids))
    return [ChannelRoute(*row) for row in rows]


async def enqueue(
    connection: Connection, channel: tuple[UUID, UUID, str], message: AlertMessage, now: datetime
) -> None:
    """Insert a message to a channel (id, organisation, service)."""
    texts = (message.title, message.body, message.severity.value, message.incident)
    await connection.execute(QUEUE, *channel, *texts, now)


async def tests_waiting(connection: Connection, channel_id: UUID, title: str) -> int:
    """Return how many tests of the channel, which have this title, wait."""
    return await connection.fetchval(TESTS_WAITING, channel_id, title)


async def claim_next(pool: Pool) -> ClaimedOrgMessage | None:
    """Claim the next due message to any organisation's channel; None if there is none."""
    row = await pool.fetchrow(CLAIM, LEASE)
    if row is None:
        return None
    id_, channel_id, org_id, service, secret, title, body, severity, incident, attempts = row
    message = AlertMessage(title, body, AlertSeverity(severity), incident)
    return ClaimedOrgMessage(id_, channel_id, org_id, service, secret, message, attempts)


async def give_up_old(connection: Connection, org_id: UUID) -> None:
    """Give up the messages to the organisation's channels that are too old to be sent."""
    await connection.execute(GIVE_UP_OLD, org_id)
