"""Statements for webhooks and the ledger of their deliveries.

A delivery is a stretch of the organisation's feed, and stretches follow one another without a gap.
So each change after a webhook's creation is in exactly one delivery, or in none yet.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import DeliveryState
from app.store.content.changes import Change
from app.store.db import Connection, Pool

BATCH = 100  # changes of one delivery
FORMED_AT_ONCE = 500  # webhooks that get a delivery in one statement
LEASE_SECONDS = 60  # after which a delivery whose worker died is tried again


@dataclass(frozen=True, slots=True)
class Webhook:
    """An address that gets the changes of an organisation.

    `next`: the place up to which deliveries were formed. `waiting`: deliveries of changes that are
    not made yet.
    """

    id: UUID
    url: str
    created_at: datetime
    created_by: str
    paused_at: datetime | None
    paused_reason: str | None
    next: str
    waiting: int


@dataclass(frozen=True, slots=True)
class ClaimedDelivery:
    """A delivery that this worker sends. `attempts`: this one included."""

    id: UUID
    webhook_id: UUID
    org_id: UUID
    url: str
    secret: bytes
    count: int
    attempts: int
    created_at: datetime


@dataclass(frozen=True, slots=True)
class DeliveryAccount:
    """What became of the changes of one webhook. `unaccounted` is 0 unless the ledger is broken."""

    webhook_id: UUID
    delivered: int
    undelivered: dict[str, int]
    waiting: int
    unaccounted: int


# Begins right before what open transactions may still write, so that no later change is missed.
ADD = """
INSERT INTO webhooks (id, org_id, url, secret, position, change_id, created_at, created_by)
SELECT $1, $2, $3, $4, base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint - 1,
       9223372036854775807, $5, $6
FROM change_clock
"""
# `waiting` is counted by the partial index of deliveries that wait.
LIST = """
SELECT w.id, w.url, w.created_at, w.created_by, w.paused_at, w.paused_reason,
       w.position || '.' || w.change_id AS next,
       (SELECT count(*) FROM webhook_deliveries d
        WHERE d.webhook_id = w.id AND d.state = 'waiting' AND d.count > 0) AS waiting
FROM webhooks w WHERE w.org_id = $1 AND ($2::uuid IS NULL OR w.id = $2) ORDER BY w.created_at, w.id
"""
# Pauses and, with nulls, resumes.
PAUSE = "UPDATE webhooks SET paused_at = $3, paused_reason = $4 WHERE org_id = $1 AND id = $2"
# After a resume: what waits is not left until the end of its backoff.
DUE_NOW = """
UPDATE webhook_deliveries SET next_try_at = now() WHERE webhook_id = $1 AND state = 'waiting'
"""
# An empty stretch at the webhook's own place, so that the account of changes stays whole.
TEST = """
INSERT INTO webhook_deliveries (id, webhook_id, org_id, after_position, after_id, through_position,
                                through_id, count, state, attempts, created_at, next_try_at)
SELECT $3, id, org_id, position, change_id, position, change_id, 0, 'waiting', 0, now(), now()
FROM webhooks WHERE org_id = $1 AND id = $2
"""
# The same deliveries with their ids, so that a receiver recognises them; tests are left out.
REPLAY = """
UPDATE webhook_deliveries
SET state = 'waiting', attempts = 0, next_try_at = now(), ended_at = NULL, status = NULL,
    reason = NULL
WHERE org_id = $1 AND webhook_id = $2 AND state <> 'waiting' AND count > 0
  AND (through_position, through_id) > ($3, $4)
"""
# By the index on (webhook_id, number); `number < $4` is the place to go on from.
DELIVERIES = """
SELECT id, number, count, state, attempts, created_at, ended_at, status, reason,
       CASE state WHEN 'waiting' THEN next_try_at END AS next_try_at,
       after_position || '.' || after_id AS after, through_position || '.' || through_id AS next
FROM webhook_deliveries
WHERE org_id = $1 AND webhook_id = $2 AND ($3::text IS NULL OR state = $3) AND number < $4
ORDER BY number DESC LIMIT $5
"""

# The next stretch of each webhook that has none waiting, if its organisation is not disabled. One
# statement has one snapshot, so that no change below the horizon is missing in it.
FORM = """
WITH due AS (
  SELECT w.id, w.org_id, w.position, w.change_id, h.horizon
  FROM webhooks w
  JOIN organizations o ON o.id = w.org_id AND o.disabled_at IS NULL
  CROSS JOIN (SELECT base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon
              FROM change_clock) h
  WHERE w.paused_at IS NULL
    AND NOT EXISTS (SELECT FROM webhook_deliveries d
                    WHERE d.webhook_id = w.id AND d.state = 'waiting' AND d.count > 0)
    AND EXISTS (SELECT FROM changes c
                WHERE c.org_id = w.org_id AND (c.position, c.id) > (w.position, w.change_id)
                  AND c.position < h.horizon)
  LIMIT $1 FOR NO KEY UPDATE OF w SKIP LOCKED
), formed AS (
  SELECT due.*, s.count, s.last[1] AS last_position, s.last[2] AS last_id
  FROM due CROSS JOIN LATERAL (
    SELECT count(*) AS count, max(ARRAY[position, id]) AS last
    FROM (SELECT position, id FROM changes c
          WHERE c.org_id = due.org_id AND (c.position, c.id) > (due.position, due.change_id)
            AND c.position < due.horizon
          ORDER BY position, id LIMIT $2) AS batch) s
), moved AS (
  UPDATE webhooks w SET position = f.last_position, change_id = f.last_id
  FROM formed f WHERE w.id = f.id
)
INSERT INTO webhook_deliveries (id, webhook_id, org_id, after_position, after_id, through_position,
                                through_id, count, state, attempts, created_at, next_try_at)
SELECT gen_random_uuid(), id, org_id, position, change_id, last_position, last_id, count, 'waiting',
       0, now(), now()
FROM formed
"""

# Only the first one that waits, so that a receiver gets changes in their order; none of a disabled
# organisation. A test waits for nothing but earlier tests, not for a pause either; it takes a slot
# of the retries, as its receiver may hang.
CLAIM = """
UPDATE webhook_deliveries d
SET attempts = d.attempts + 1, next_try_at = now() + $3 * interval '1 second'
FROM (
  SELECT x.id FROM webhook_deliveries x
  JOIN webhooks w ON w.id = x.webhook_id AND (w.paused_at IS NULL OR x.count = 0)
  JOIN organizations o ON o.id = w.org_id AND o.disabled_at IS NULL
  WHERE x.state = 'waiting' AND x.next_try_at <= now() AND (x.attempts > 0 OR x.count = 0) = $2
    AND NOT EXISTS (SELECT FROM webhook_deliveries e
                    WHERE e.webhook_id = x.webhook_id AND e.state = 'waiting'
                      AND e.number < x.number AND (e.count = 0) = (x.count = 0))
  ORDER BY x.next_try_at LIMIT $1 FOR UPDATE OF x SKIP LOCKED
) due, webhooks w
WHERE d.id = due.id AND w.id = d.webhook_id
RETURNING d.id, d.webhook_id, d.org_id, w.url, w.secret, d.count, d.attempts, d.created_at
"""
CHANGES = """
SELECT c.id, c.position, c.at, c.kind, c.source, c.key, c.run_id, c.fields
FROM webhook_deliveries d
JOIN changes c ON c.org_id = d.org_id
  AND (c.position, c.id) > (d.after_position, d.after_id)
  AND (c.position, c.id) <= (d.through_position, d.through_id)
WHERE d.id = $1 ORDER BY c.position, c.id
"""
END = """
UPDATE webhook_deliveries SET state = $2, ended_at = now(), status = $3, reason = $4
WHERE id = $1 AND state = 'waiting'
"""
RETRY = """
UPDATE webhook_deliveries
SET next_try_at = now() + $2 * interval '1 second', status = $3, reason = $4
WHERE id = $1 AND state = 'waiting'
"""
STOP = """
UPDATE webhooks SET paused_at = now(), paused_reason = $2 WHERE id = $1 AND paused_at IS NULL
"""

# Stretches must follow one another, from where the webhook began to where it is.
ACCOUNT = """
SELECT w.id,
       coalesce(sum(d.count) FILTER (WHERE d.state = 'delivered'), 0)::bigint AS delivered,
       coalesce(sum(d.count) FILTER (WHERE d.state = 'waiting'), 0)::bigint AS waiting,
       count(*) FILTER (WHERE d.follows IS FALSE)
         + count(*) FILTER (WHERE d.last AND d.through <> ARRAY[w.position, w.change_id])
         AS unaccounted
FROM webhooks w
LEFT JOIN LATERAL (
  SELECT count, state, ARRAY[through_position, through_id] AS through,
         lag(ARRAY[through_position, through_id]) OVER stretch
           = ARRAY[after_position, after_id] AS follows,
         lead(id) OVER stretch IS NULL AS last
  FROM webhook_deliveries x WHERE x.webhook_id = w.id AND x.count > 0
  WINDOW stretch AS (ORDER BY number)) d ON true
GROUP BY w.id ORDER BY w.id
"""
REASONS = """
SELECT webhook_id, reason, sum(count)::bigint AS count FROM webhook_deliveries
WHERE state = 'undelivered' AND count > 0 GROUP BY 1, 2
"""


async def add(
    connection: Connection, org_id: UUID, webhook: tuple[UUID, str, bytes], now: datetime, by: str
) -> None:
    """Insert a webhook (id, URL, encrypted secret). It gets what changes from now on."""
    webhook_id, url, secret = webhook
    await connection.execute(ADD, webhook_id, org_id, url, secret, now, by)


async def lock_all(connection: Connection) -> list[tuple[UUID, UUID, bytes]]:
    """Return id, organisation and encrypted secret of every webhook, locked."""
    rows = await connection.fetch("SELECT id, org_id, secret FROM webhooks ORDER BY id FOR UPDATE")
    return [(row["id"], row["org_id"], row["secret"]) for row in rows]


async def set_secret(connection: Connection, webhook_id: UUID, secret: bytes) -> None:
    """Replace the encrypted secret of a webhook."""
    await connection.execute("UPDATE webhooks SET secret = $2 WHERE id = $1", webhook_id, secret)


async def all_of(connection: Connection, org_id: UUID) -> list[Webhook]:
    """Return the organisation's webhooks, oldest first."""
    return [Webhook(*row) for row in await connection.fetch(LIST, org_id, None)]


async def one(connection: Connection, org_id: UUID, webhook_id: UUID) -> Webhook | None:
    """Return one webhook of the organisation; None if it has no such one."""
    row = await connection.fetchrow(LIST, org_id, webhook_id)
    return None if row is None else Webhook(*row)


async def remove(connection: Connection, org_id: UUID, webhook_id: UUID) -> bool:
    tag = await connection.execute(
        "DELETE FROM webhooks WHERE org_id = $1 AND id = $2", org_id, webhook_id
    )
    return tag == "DELETE 1"


async def pause(
    connection: Connection, org_id: UUID, webhook_id: UUID, at: datetime, reason: str
) -> None:
    """Pause a webhook: nothing is sent to it until it is resumed."""
    await connection.execute(PAUSE, org_id, webhook_id, at, reason)


async def resume(connection: Connection, org_id: UUID, webhook_id: UUID) -> None:
    """Resume a webhook; what waits is tried at once."""
    await connection.execute(PAUSE, org_id, webhook_id, None, None)
    await connection.execute(DUE_NOW, webhook_id)


async def add_test(
    connection: Connection, org_id: UUID, webhook_id: UUID, delivery_id: UUID
) -> None:
    """Add a delivery without changes, which is sent once, also while the webhook is paused."""
    await connection.execute(TEST, org_id, webhook_id, delivery_id)


async def replay(
    connection: Connection, org_id: UUID, webhook_id: UUID, after: tuple[int, int]
) -> int:
    """Send the deliveries with changes after that place again, with their ids; returns how many."""
    tag = await connection.execute(REPLAY, org_id, webhook_id, *after)
    return int(tag.removeprefix("UPDATE "))


async def deliveries(
    connection: Connection, of: tuple[UUID, UUID], state: str | None, before: int | None, limit: int
) -> list[dict[str, Any]]:
    """Return deliveries of a webhook (organisation, id), newest first. `before`: a number."""
    latest = 2**63 - 1 if before is None else before
    return [dict(row) for row in await connection.fetch(DELIVERIES, *of, state, latest, limit)]


async def form(pool: Pool) -> int:
    """Make the next delivery of each webhook that has changes and none that waits."""
    tag = await pool.execute(FORM, FORMED_AT_ONCE, BATCH)
    return int(tag.rpartition(" ")[2])


async def claim(pool: Pool, limit: int, *, retries: bool) -> list[ClaimedDelivery]:
    """Claim deliveries that are due: new ones, or tests and those that have failed before."""
    rows = await pool.fetch(CLAIM, limit, retries, LEASE_SECONDS)
    return [ClaimedDelivery(*row) for row in rows]


async def changes_of(pool: Pool, delivery_id: UUID) -> list[Change]:
    """Return the changes of a delivery, oldest first."""
    return [Change(*row) for row in await pool.fetch(CHANGES, delivery_id)]


async def end(
    pool: Pool, delivery_id: UUID, state: DeliveryState, status: int | None, reason: str | None
) -> None:
    """Record that a delivery was made or given up, with the receiver's status."""
    await pool.execute(END, delivery_id, state.value, status, reason)


async def retry(
    pool: Pool, delivery_id: UUID, seconds: float, status: int | None, reason: str
) -> None:
    """Record a failed attempt; the next one is in `seconds`."""
    await pool.execute(RETRY, delivery_id, seconds, status, reason)


async def stop(pool: Pool, webhook_id: UUID, reason: str) -> None:
    """Pause a webhook whose receiver has failed for too long."""
    await pool.execute(STOP, webhook_id, reason)


async def account(pool: Pool) -> list[DeliveryAccount]:
    """Return what became of the changes of every webhook."""
    undelivered: dict[UUID, dict[str, int]] = {}
    for row in await pool.fetch(REASONS):
        undelivered.setdefault(row["webhook_id"], {})[row["reason"]] = row["count"]
    return [
        DeliveryAccount(
            row["id"],
            row["delivered"],
            undelivered.get(row["id"], {}),
            row["waiting"],
            row["unaccounted"],
        )
        for row in await pool.fetch(ACCOUNT)
    ]
