"""Statements for health states, their flips, and the notifications about them."""

from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass
from datetime import datetime, timedelta
from typing import Any

import asyncpg

from app.core.alert_message import AlertMessage
from app.core.enums import AlertSeverity
from app.store.db import Connection, Pool

JUDGE_LOCK = 0x726F_6C6C_0002  # key of an advisory lock
LEASE = 60.0  # seconds for which a claimed notification is reserved to its sender
RETENTION = timedelta(days=30)

# The timeout releases the lock of a process that is suspended inside the transaction.
TRY_LOCK = """
SELECT pg_try_advisory_xact_lock($1), clock_timestamp(),
       set_config('idle_in_transaction_session_timeout', '15s', true)
"""

# All in one statement: a pass of alerting compares every job with its last state.
STATES = """
SELECT key, status, reason, ill, since, ill_since, flipped_at, sequence, told_at, reminded_at,
       acknowledged_at, acknowledged_by, acknowledged_note, acknowledged_reason, snoozed_until
FROM health_states
"""

RETIRED = "SELECT key FROM schedules WHERE key = ANY ($1::text[]) AND retired_at IS NOT NULL"

# New state and flip in one statement: the number of a flip is that of its state.
FLIP = """
WITH seen AS (
  SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::timestamptz[],
                       $6::text[]) AS s (key, status, reason, ill, since, detail)
), before AS (
  SELECT h.* FROM health_states h JOIN seen USING (key)
), flipped AS (
  INSERT INTO health_states AS h (key, status, reason, ill, since, ill_since, flipped_at, sequence)
  SELECT key, status, reason, ill, since, CASE WHEN ill THEN since END, $7, 1 FROM seen
  ORDER BY key
  ON CONFLICT (key) DO UPDATE SET
    status = excluded.status, reason = excluded.reason, ill = excluded.ill,
    since = excluded.since, sequence = h.sequence + 1,
    ill_since = CASE WHEN excluded.ill AND NOT h.ill AND h.told_at IS NULL THEN excluded.since
                     ELSE coalesce(h.ill_since, excluded.ill_since) END,
    flipped_at = CASE WHEN excluded.ill = h.ill THEN h.flipped_at ELSE $7 END,
    acknowledged_at = CASE WHEN excluded.ill THEN h.acknowledged_at END,
    acknowledged_by = CASE WHEN excluded.ill THEN h.acknowledged_by END,
    acknowledged_note = CASE WHEN excluded.ill THEN h.acknowledged_note END,
    acknowledged_reason = CASE WHEN excluded.ill THEN h.acknowledged_reason END,
    snoozed_until = CASE WHEN excluded.ill THEN h.snoozed_until END
  RETURNING key, sequence
)
INSERT INTO health_flips (key, sequence, at, before, before_reason, after, after_reason, since,
                          detail)
SELECT s.key, f.sequence, $7, coalesce(b.status, 'unknown'), b.reason, s.status, s.reason, s.since,
       nullif(s.detail, '')
FROM seen s JOIN flipped f USING (key) LEFT JOIN before b USING (key)
WHERE b.key IS NOT NULL OR s.ill
"""

# What is reported is not acknowledged, or not any more.
MARK_NOTIFIED = """
UPDATE health_states SET
  told_at = CASE WHEN key = ANY ($3::text[]) THEN NULL ELSE coalesce(told_at, $4) END,
  reminded_at = CASE WHEN key = ANY ($1::text[] || $2::text[]) THEN $4 END,
  acknowledged_at = NULL, acknowledged_by = NULL, acknowledged_note = NULL,
  acknowledged_reason = NULL, snoozed_until = NULL,
  ill_since = CASE WHEN key = ANY ($3::text[]) AND key <> 'scheduler' THEN NULL ELSE ill_since END
WHERE key = ANY ($1::text[] || $2::text[] || $3::text[])
"""

# One row per channel, so that one that fails does not delay or repeat the others.
QUEUE = """
INSERT INTO notifications
  (channel, title, body, severity, incident, created_at, next_try_at, attempts)
SELECT channel, $2, $3, $4, $5, $6, $6, 0 FROM unnest($1::text[]) AS channel
"""

# A message about an incident waits for the earlier ones: a problem that is delivered after its
# recovery would stay open for ever.
CLAIM = """
UPDATE notifications SET attempts = attempts + 1,
       next_try_at = now() + $2::float8 * interval '1 second'
WHERE id = (
  SELECT id FROM notifications n
  WHERE sent_at IS NULL AND given_up_at IS NULL AND next_try_at <= now() AND channel = ANY ($1)
    AND NOT EXISTS (
      SELECT FROM notifications earlier
      WHERE earlier.sent_at IS NULL AND earlier.given_up_at IS NULL
        AND earlier.channel = n.channel AND earlier.incident = n.incident AND earlier.id < n.id)
  ORDER BY next_try_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, channel, title, body, severity, incident, attempts
"""

# Backoff from ten seconds, doubling up to an hour; given up after three days, or at once.
FAILED = """
UPDATE notifications SET last_error = $2,
       next_try_at = now() + least(10 * 2 ^ least(attempts - 1, 20), 3600) * interval '1 second',
       given_up_at = CASE WHEN $3 OR created_at < now() - interval '3 days' THEN now() END
WHERE id = $1
"""

# Count, age and last error in one statement, by the partial index on what waits.
PENDING = """
SELECT count(*), min(created_at) FILTER (WHERE last_error IS NOT NULL),
       (array_agg(last_error ORDER BY id DESC) FILTER (WHERE last_error IS NOT NULL))[1]
FROM notifications WHERE channel = ANY ($1::text[]) AND org_id IS NULL
  AND sent_at IS NULL AND given_up_at IS NULL
"""


@dataclass(frozen=True, slots=True)
class HealthFlip:
    """The new status of a job whose health status changed."""

    key: str
    status: str
    reason: str | None
    unhealthy: bool
    since: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class ClaimedNotification:
    """A notification that this process has claimed for `LEASE` seconds."""

    id: int
    channel: str
    message: AlertMessage
    attempts: int


@dataclass(frozen=True, slots=True)
class PendingNotifications:
    """The unsent notifications: their count, and the last error if sending fails.

    `failing_since`: when the oldest one that failed was created.
    """

    count: int
    failing_since: datetime | None
    error: str | None


async def try_lock(connection: Connection) -> datetime | None:
    """Take the judging lock until the transaction ends.

    Returns the database's time, or None if another process holds the lock.
    """
    row = await connection.fetchrow(TRY_LOCK, JUDGE_LOCK)
    return row[1] if row is not None and row[0] else None


async def states(connection: Connection) -> list[asyncpg.Record]:
    """Return the state of every job that was ever judged: the columns of STATES, in their order."""
    return await connection.fetch(STATES)


async def retired(connection: Connection, keys: Sequence[str]) -> list[str]:
    """Return which of these jobs are retired."""
    return [row[0] for row in await connection.fetch(RETIRED, list(keys))]


async def record_flips(connection: Connection, flips: Sequence[HealthFlip], now: datetime) -> None:
    """Store the new states and append a flip for each."""
    columns = zip(*map(astuple, flips), strict=True)
    await connection.execute(FLIP, *map(list, columns), now)


async def mark_notified(
    connection: Connection, notified: Mapping[AlertSeverity, Sequence[str]], now: datetime
) -> None:
    """Record notifications. `notified`: keys newly unhealthy, still unhealthy, and recovered."""
    keys = (list(notified.get(severity, ())) for severity in AlertSeverity)
    await connection.execute(MARK_NOTIFIED, *keys, now)


async def enqueue(
    connection: Pool | Connection, channels: Sequence[str], message: AlertMessage, now: datetime
) -> None:
    """Insert a notification for each channel."""
    texts = (message.title, message.body, message.severity.value, message.incident)
    await connection.execute(QUEUE, list(channels), *texts, now)


async def claim_next(pool: Pool, channels: Sequence[str]) -> ClaimedNotification | None:
    """Claim the next due notification of one of these channels; None if there is none."""
    row = await pool.fetchrow(CLAIM, list(channels), LEASE)
    if row is None:
        return None
    id_, to, title, body, severity, incident, attempts = row
    message = AlertMessage(title, body, AlertSeverity(severity), incident)
    return ClaimedNotification(id_, to, message, attempts)


async def mark_sent(pool: Pool, message_id: int) -> None:
    await pool.execute("UPDATE notifications SET sent_at = now() WHERE id = $1", message_id)


async def mark_failed(pool: Pool, message_id: int, error: str, *, give_up: bool = False) -> None:
    """Record a failed attempt, and schedule the next one unless this was the last."""
    await pool.execute(FAILED, message_id, error, give_up)


async def pending(pool: Pool, channels: Sequence[str]) -> PendingNotifications:
    """Return the number of unsent notifications to these channels and their last error."""
    row = await pool.fetchrow(PENDING, list(channels))
    return PendingNotifications(0, None, None) if row is None else PendingNotifications(*row)


async def flips(pool: Pool, key: str, limit: int) -> list[dict[str, Any]]:
    """Return the last flips of one job, newest first, as plain rows."""
    rows = await pool.fetch(
        "SELECT * FROM health_flips WHERE key = $1 ORDER BY sequence DESC LIMIT $2", key, limit
    )
    return [dict(row) for row in rows]


async def prune(pool: Pool) -> None:
    """Delete notifications sent or given up more than `RETENTION` ago. Flips are kept.

    Also those that wait for as long: their notifier is not configured any more.
    """
    await pool.execute(
        "DELETE FROM notifications"
        " WHERE coalesce(sent_at, given_up_at, created_at) < now() - $1::interval",
        RETENTION,
    )
