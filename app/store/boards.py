"""What the sites' boards had on them: presence is the rule, and only what is gone costs a row."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.store.db import Connection


@dataclass(frozen=True, slots=True)
class Listing:
    """One way through one partition of a platform, which ended at `at`.

    `seen`: the ids of the events that were read. `present`: those, and the ids of what was there
    but could not be read.
    `counted`: the site itself says how many there are, and that many there were.
    """

    platform: str
    partition: str
    seen: Collection[str]
    present: Collection[str]
    at: datetime
    counted: bool


BELONG = """
UPDATE odds_events SET partition = $2
WHERE platform = $1 AND platform_event_id = ANY ($3::text[]) AND partition IS DISTINCT FROM $2
"""

BOARD = """
INSERT INTO odds_boards (platform, partition, events, listed_at, run_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (platform, partition) DO UPDATE
  SET events = CASE WHEN $6 THEN odds_boards.events ELSE excluded.events END,
      listed_at = excluded.listed_at, run_id = excluded.run_id
"""

# An event that somebody is writing just now is not absent. A match that has begun leaves the board
# because it has begun: its last prices stay as they were.
ABSENT = """
SELECT id, absent_since IS NOT NULL AS again FROM odds_events
WHERE platform = $1 AND partition = $2 AND NOT (platform_event_id = ANY ($3::text[]))
  AND kickoff > $4 AND seen_at <= $4 AND withdrawn_at IS NULL
ORDER BY platform_event_id
FOR NO KEY UPDATE SKIP LOCKED
"""

UNLISTED = """
SELECT id, absent_since IS NOT NULL AS again FROM odds_events
WHERE platform = $1 AND NOT (partition = ANY ($2::text[]))
  AND kickoff > $3 AND seen_at <= $3 AND withdrawn_at IS NULL
ORDER BY platform_event_id
FOR NO KEY UPDATE SKIP LOCKED
"""

# Without a fingerprint the event is looked at when it comes again, whatever it says.
MARK = """
UPDATE odds_events SET absent_since = $2, fingerprint = NULL WHERE id = ANY ($1::bigint[])
"""

WITHDRAW = """
WITH gone AS (
  UPDATE odds_events SET absent_since = coalesce(absent_since, $2), withdrawn_at = $2,
                         fingerprint = NULL
  WHERE id = ANY ($1::bigint[])
  RETURNING id
), told AS (
  INSERT INTO odds_event_changes (event_id, what, observed_at, run_id)
  SELECT id, 'withdrawn', $2, $3 FROM gone ORDER BY id
), prices AS (
  UPDATE odds_prices SET price = NULL, active = false, changed_at = $2, run_id = $3
  WHERE event_id = ANY ($1::bigint[]) AND price IS NOT NULL
  RETURNING event_id, market, line, outcome
)
INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active, observed_at, run_id)
SELECT event_id, market, line, outcome, NULL, false, $2, $3 FROM prices
"""

DOUBTED = """
UPDATE odds_events SET absent_since = NULL WHERE id IN (
  SELECT id FROM odds_events
  WHERE platform = $1 AND withdrawn_at IS NULL
    AND absent_since >= (SELECT queued_at FROM runs WHERE execution_id = $2)
  ORDER BY platform_event_id FOR NO KEY UPDATE)
"""

# So many fewer at once are not believed of a site, though it counts them itself.
SUDDEN = """
SELECT coalesce((SELECT events >= 10 AND events * 0.4 > $3 FROM odds_boards
                 WHERE platform = $1 AND partition = $2), false)
"""

GLIMPSE = """
UPDATE odds_events SET seen_at = $3, seen_run_id = $4
WHERE platform = $1 AND platform_event_id = ANY ($2::text[]) AND seen_at < $3
"""


async def listed(connection: Connection, listing: Listing, run_id: UUID) -> None:
    """Keep that a partition was listed from end to end.

    What it lacks is withdrawn if the site counts its events, and has not lost most of them at once;
    if not, it is marked as absent, and withdrawn when the next complete listing lacks it too: a
    site that is paged by kick-off hides an event when the board moves up while a page is turned.
    """
    where = (listing.platform, listing.partition)
    await connection.execute(BELONG, *where, list(listing.seen))
    rows = await connection.fetch(ABSENT, *where, list(listing.present), listing.at)
    sudden = bool(rows) and await connection.fetchval(SUDDEN, *where, len(listing.present))
    counted = listing.counted and not sudden
    await _absent(connection, [(row[0], counted or row[1]) for row in rows], listing.at, run_id)
    # What is not believed yet is not what the next listing is held against either.
    doubted = sudden and not all(row[1] for row in rows)
    told = (len(listing.present), listing.at, run_id, doubted)
    await connection.execute(BOARD, *where, *told)


async def glimpsed(connection: Connection, listing: Listing, run_id: UUID) -> None:
    """Keep what was seen in a listing that was cut short: it says nothing of what is missing."""
    await connection.execute(GLIMPSE, listing.platform, list(listing.seen), listing.at, run_id)


async def catalogued(
    connection: Connection, platform: str, partitions: Sequence[str], at: datetime, run_id: UUID
) -> None:
    """Keep that a platform has these partitions and no others, and all of them were listed.

    What belongs to none of them is absent, and withdrawn if it was absent before.
    """
    rows = await connection.fetch(UNLISTED, platform, list(partitions), at)
    await _absent(connection, [(row[0], row[1]) for row in rows], at, run_id)


async def doubted(connection: Connection, platform: str, run_id: UUID) -> None:
    """Take back that this run found events absent: the platform did not bring what it should."""
    await connection.execute(DOUBTED, platform, run_id)


async def _absent(
    connection: Connection, found: Sequence[tuple[int, bool]], at: datetime, run_id: UUID
) -> None:
    gone = [event_id for event_id, surely in found if surely]
    doubtful = [event_id for event_id, surely in found if not surely]
    if gone:
        await connection.execute(WITHDRAW, gone, at, run_id)
    if doubtful:
        await connection.execute(MARK, doubtful, at)
