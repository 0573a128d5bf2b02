"""Every statement about flips and the messages they made. A row each, however many watch."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from app.store.db import Connection, Pool
from app.store.health import JUDGED, LAST_ERROR, STATE

ONE_AT_A_TIME = 0x726F_6C6C_0002  # an advisory lock's number
LEASE = 60.0  # seconds in which a message that is being sent is nobody else's
KEPT_FOR = timedelta(days=30)

# A process that is stopped in the midst of it must not keep the others from judging.
ALONE = """
SELECT pg_try_advisory_xact_lock($1), clock_timestamp(),
       set_config('idle_in_transaction_session_timeout', '15s', true)
"""

STATES = """
SELECT key, status, reason, ill, since, ill_since, flipped_at, sequence, told_at, reminded_at
FROM health_states
"""

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
    flipped_at = CASE WHEN excluded.ill = h.ill THEN h.flipped_at ELSE $7 END
  RETURNING key, sequence
)
INSERT INTO health_flips (key, sequence, at, before, before_reason, after, after_reason, since,
                          detail)
SELECT s.key, f.sequence, $7, coalesce(b.status, 'unknown'), b.reason, s.status, s.reason, s.since,
       nullif(s.detail, '')
FROM seen s JOIN flipped f USING (key) LEFT JOIN before b USING (key)
WHERE b.key IS NOT NULL OR s.ill
"""

TOLD = """
UPDATE health_states SET
  told_at = CASE WHEN key = ANY ($3::text[]) THEN NULL ELSE coalesce(told_at, $4) END,
  reminded_at = CASE WHEN key = ANY ($2::text[]) THEN $4 END,
  ill_since = CASE WHEN key = ANY ($3::text[]) AND key <> 'scheduler' THEN NULL ELSE ill_since END
WHERE key = ANY ($1::text[] || $2::text[] || $3::text[])
"""

QUEUE = """
INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts)
SELECT channel, $2, $3, $4, $4, 0 FROM unnest($1::text[]) AS channel
"""

CLAIM = """
UPDATE notifications SET attempts = attempts + 1,
       next_try_at = now() + $2::float8 * interval '1 second'
WHERE id = (
  SELECT id FROM notifications
  WHERE sent_at IS NULL AND given_up_at IS NULL AND next_try_at <= now() AND channel = ANY ($1)
  ORDER BY next_try_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
RETURNING id, channel, title, body, attempts
"""

# Ten seconds, then twice as long each time, up to an hour; after three days it is no news.
FAILED = """
UPDATE notifications SET last_error = $2,
       next_try_at = now() + least(10 * 2 ^ least(attempts - 1, 20), 3600) * interval '1 second',
       given_up_at = CASE WHEN created_at < now() - interval '3 days' THEN now() END
WHERE id = $1
"""

PENDING = """
SELECT count(*), min(created_at) FILTER (WHERE last_error IS NOT NULL),
       (array_agg(last_error ORDER BY id DESC) FILTER (WHERE last_error IS NOT NULL))[1]
FROM notifications WHERE sent_at IS NULL AND given_up_at IS NULL
"""

ILL_COLLECTIONS = f"""
SELECT j.key, j.state, j.error, j.next_tick_at, o.name
FROM (SELECT s.key, s.org_id, s.next_tick_at, {STATE} AS state, {LAST_ERROR} AS error
      FROM schedules s WHERE s.notify AND {JUDGED}) AS j
JOIN organizations o ON o.id = j.org_id
WHERE j.state IN ('overdue', 'failing') ORDER BY j.key LIMIT 500
"""  # noqa: S608 - our own text


@dataclass(frozen=True, slots=True)
class Flip:
    """How something stands now that stood otherwise before."""

    key: str
    status: str
    reason: str | None
    ill: bool
    since: datetime
    detail: str


@dataclass(frozen=True, slots=True)
class Claimed:
    """A message that is ours to send for a minute."""

    id: int
    channel: str
    title: str
    body: str
    attempts: int


@dataclass(frozen=True, slots=True)
class Pending:
    """How many messages wait, and since when and why they cannot be sent, if that is so."""

    count: int
    failing_since: datetime | None
    error: str | None


async def alone(connection: Connection) -> datetime | None:
    """Be the only one who judges until the transaction ends; the instant, or None if one is."""
    row = await connection.fetchrow(ALONE, ONE_AT_A_TIME)
    return row[1] if row is not None and row[0] else None


async def states(connection: Connection) -> list[dict[str, Any]]:
    """Everything that was ever judged, as plain rows."""
    return [dict(row) for row in await connection.fetch(STATES)]


async def flip(connection: Connection, flips: Sequence[Flip], now: datetime) -> None:
    """Write down how these stand now, and that they did not before."""
    await connection.execute(
        FLIP,
        [one.key for one in flips],
        [one.status for one in flips],
        [one.reason for one in flips],
        [one.ill for one in flips],
        [one.since for one in flips],
        [one.detail for one in flips],
        now,
    )


async def told(
    connection: Connection, plan: tuple[Sequence[str], Sequence[str], Sequence[str]], now: datetime
) -> None:
    """Write down who was told: keys newly ill, ill still, and well again."""
    await connection.execute(TOLD, *(list(keys) for keys in plan), now)


async def queue(
    connection: Pool | Connection, channels: Sequence[str], message: tuple[str, str], now: datetime
) -> None:
    """Put a message (title, body) out for each of the channels."""
    await connection.execute(QUEUE, list(channels), *message, now)


async def claim(pool: Pool, channels: Sequence[str]) -> Claimed | None:
    """The next message that is due to one of these channels; None if there is none."""
    row = await pool.fetchrow(CLAIM, list(channels), LEASE)
    return None if row is None else Claimed(*row)


async def sent(pool: Pool, message: Claimed) -> None:
    """It has arrived."""
    await pool.execute("UPDATE notifications SET sent_at = now() WHERE id = $1", message.id)


async def failed(pool: Pool, message: Claimed, error: str) -> None:
    """It has not; it is tried again later."""
    await pool.execute(FAILED, message.id, error)


async def pending(pool: Pool) -> Pending:
    """What waits to be sent."""
    row = await pool.fetchrow(PENDING)
    return Pending(0, None, None) if row is None else Pending(*row)


async def ill_collections(connection: Connection, now: datetime) -> list[dict[str, Any]]:
    """The collections that want to be told of and are ill, at most 500."""
    return [dict(row) for row in await connection.fetch(ILL_COLLECTIONS, now, timeout=20)]


async def flips(pool: Pool, key: str, limit: int) -> list[dict[str, Any]]:
    """The last flips of one job, newest first, as plain rows."""
    rows = await pool.fetch(
        "SELECT * FROM health_flips WHERE key = $1 ORDER BY sequence DESC LIMIT $2", key, limit
    )
    return [dict(row) for row in rows]


async def prune(pool: Pool) -> None:
    """Forget messages that are long sent or given up. Flips are kept."""
    await pool.execute(
        "DELETE FROM notifications WHERE coalesce(sent_at, given_up_at) < now() - $1::interval",
        KEPT_FOR,
    )
