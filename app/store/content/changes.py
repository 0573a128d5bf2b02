"""Statements for changes: the history of an item, and the feed of an organisation.

A transaction's changes have its position. A reader gets those of transactions that are older than
the oldest one still open, in the order of (position, id): no change can appear before them later,
so a reader that continues after the last one it got misses nothing and gets nothing twice.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.errors import Gone
from app.store.content.items import for_owner
from app.store.db import Connection, Pool

LAST_ID = 2**63 - 1
NOT_KEPT = "not all of its changes are still kept (CHANGE_DAYS)"  # why a delivery is undelivered


@dataclass(frozen=True, slots=True, order=True)
class FeedPosition:
    """A place in the feed, after the change with this position and id."""

    position: int = 0
    id: int = 0

    def __str__(self) -> str:
        return f"{self.position}.{self.id}"


def parse_id(text: str) -> int:
    """Return the number that the digits are. Raises ValueError if they are none, or no bigint."""
    if not (text.isascii() and text.isdigit()) or int(text) > LAST_ID:
        raise ValueError(text)
    return int(text)


@dataclass(frozen=True, slots=True)
class Change:
    """One change of an item, or of the status of a run (`kind` is `run`)."""

    id: int
    position: int
    at: datetime
    kind: str
    source: str | None
    key: str | None
    run_id: UUID | None
    fields: dict[str, Any] | None

    @property
    def place(self) -> FeedPosition:
        """The place in the feed after this change."""
        return FeedPosition(self.position, self.id)


# One statement has one snapshot, so that the horizon fits the rows. What is kept from before the
# last dropped change is left out: a reader that goes on after it would start again for ever.
FEED = """
SELECT h.horizon, h.dropped_through, c.id, c.position, c.at, c.kind, c.source, c.key, c.run_id,
       c.fields
FROM (SELECT base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint AS horizon,
             dropped_through
      FROM change_clock) h
LEFT JOIN LATERAL (
  SELECT * FROM changes
  WHERE org_id = $1 AND (position, id) > ($2, $3) AND position < h.horizon
    AND position > h.dropped_through
    AND ($5::text[] IS NULL OR kind = ANY ($5))
  ORDER BY position, id LIMIT $4) c ON true
ORDER BY c.position, c.id
"""

# By the index on (org_id, key, id), newest first; `id < $4` is the place to go on from.
HISTORY = """
SELECT id, position, at, kind, source, key, run_id, fields FROM changes i
WHERE {owner} AND key = $2 AND ($3::text IS NULL OR source = $3)
  AND id < $4
ORDER BY id DESC LIMIT $5
"""

# After a dump is restored into another server, its ids may be smaller than readers have seen.
# No server has had 2^40 transactions.
CONTINUE_CLOCK = """
UPDATE change_clock c
SET base = CASE WHEN c.system IS NULL THEN c.base ELSE c.base + 1099511627776 END,
    system = s.system_identifier
FROM pg_control_system() s WHERE c.system IS DISTINCT FROM s.system_identifier
"""

# The feed reports to its readers that changes they have not read were dropped, and those that are
# in no delivery of a webhook yet (it is paused, or waits for its receiver) become undelivered.
BEFORE_DROP = f"""
WITH noted AS (
  UPDATE change_clock SET dropped_through = greatest(
    dropped_through, (SELECT coalesce(max(position), 0) FROM changes WHERE {{where}}))
), missed AS (
  SELECT w.id, w.org_id, w.position, w.change_id, (
    SELECT max(ARRAY[position, id]) FROM changes
    WHERE {{where}} AND org_id = w.org_id AND (position, id) > (w.position, w.change_id)) AS last
  FROM webhooks w FOR NO KEY UPDATE OF w
), moved AS (
  UPDATE webhooks w SET position = m.last[1], change_id = m.last[2]
  FROM missed m WHERE w.id = m.id AND m.last IS NOT NULL
)
INSERT INTO webhook_deliveries (id, webhook_id, org_id, after_position, after_id, through_position,
                                through_id, count, state, attempts, created_at, next_try_at,
                                ended_at, reason)
SELECT gen_random_uuid(), m.id, m.org_id, m.position, m.change_id, m.last[1], m.last[2], (
         SELECT count(*) FROM changes c
         WHERE c.org_id = m.org_id AND (c.position, c.id) > (m.position, m.change_id)
           AND (c.position, c.id) <= (m.last[1], m.last[2])),
       'undelivered', 0, now(), now(), now(), '{NOT_KEPT}'
FROM missed m WHERE m.last IS NOT NULL
"""  # noqa: S608 - a constant


async def feed(
    connection: Connection,
    org_id: UUID,
    after: FeedPosition,
    limit: int,
    kinds: Sequence[str] | None = None,
) -> tuple[list[Change], FeedPosition]:
    """Return up to `limit` changes after that place, oldest first, and where to go on.

    Raises Gone if retention has dropped changes after that place, and if the feed has not reached
    it, since its database was restored.
    """
    rows = await connection.fetch(FEED, org_id, after.position, after.id, limit, kinds)
    if after.position >= rows[0]["horizon"]:
        raise Gone("the feed has not reached this position yet: start again with after=0")
    if after != FeedPosition() and after.position <= rows[0]["dropped_through"]:
        raise Gone("changes after this position are no longer kept: start again with after=0")
    found = [Change(*tuple(row)[2:]) for row in rows if row["id"] is not None]
    if len(found) == limit:
        return found, found[-1].place
    # All transactions below the horizon have been seen, also those without a matching change.
    return found, max(after, FeedPosition(rows[0]["horizon"] - 1, LAST_ID))


async def history(
    connection: Connection,
    org_id: UUID | None,
    key: str,
    limit: int,
    *,
    source: str | None = None,
    before: int | None = None,
) -> list[Change]:
    """Return the changes of the items with this key, newest first. `before`: an id.

    `org_id`: None is the operator.
    """
    statement, before = for_owner(HISTORY, org_id), LAST_ID if before is None else before
    rows = await connection.fetch(statement, org_id, key, source, before, limit)
    return [Change(*row) for row in rows]


async def continue_clock(connection: Pool | Connection) -> None:
    """Let positions go on after those of the server from which the data came, if it is another."""
    await connection.execute(CONTINUE_CLOCK)
