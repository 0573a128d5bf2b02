"""Listings of partitions: which odds events are present, absent or withdrawn at a site.

A complete listing writes one row for its partition, and rows only for events that are absent.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from app.store.db import Connection


@dataclass(frozen=True, slots=True)
class Listing:
    """One pass through all pages of one partition of a platform, which ended at `at`.

    `seen`: the ids of the events that were parsed. `present`: those, and the ids of events that
    could not be parsed.
    """

    platform: str
    partition: str
    seen: Collection[str]
    present: Collection[str]
    at: datetime


# Only events that move to another partition are written; most are where they were.
ASSIGN_PARTITION = """
UPDATE odds_events SET partition = $2
WHERE platform = $1 AND platform_event_id = ANY ($3::text[]) AND partition IS DISTINCT FROM $2
"""

# One row per partition, however many events: a listing does not write to each event.
SAVE_LISTING = """
INSERT INTO odds_boards (platform, partition, events, listed_at, run_id)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (platform, partition) DO UPDATE
  SET events = excluded.events, listed_at = excluded.listed_at, run_id = excluded.run_id
"""

# An event that another transaction is writing, or that a later page wrote, is not absent. A match
# that has begun is no longer listed, and its last prices stay as they were. An absence that this
# run recorded is not repeated. The keys are hashed: with `= ANY`, a plan without their values would
# compare each event with each key.
ABSENT = """
SELECT id, absent_since IS NOT NULL AS again FROM odds_events
WHERE platform = $1 AND partition = $2 AND platform_event_id NOT IN (SELECT unnest($3::text[]))
  AND kickoff > $4 AND withdrawn_at IS NULL
  AND CASE WHEN page_order() IS NULL THEN seen_at <= $4 ELSE page_order <= page_order() END
  AND (absent_since IS NULL
       OR absent_since < coalesce((SELECT queued_at FROM runs WHERE execution_id = $5), 'infinity'))
ORDER BY platform_event_id
FOR NO KEY UPDATE SKIP LOCKED
"""

# As ABSENT, for events whose partition the platform does not have any more.
ABSENT_PARTITIONS = """
SELECT id, absent_since IS NOT NULL AS again FROM odds_events
WHERE platform = $1 AND partition NOT IN (SELECT unnest($2::text[]))
  AND kickoff > $3 AND seen_at <= $3 AND withdrawn_at IS NULL
  AND (absent_since IS NULL
       OR absent_since < coalesce((SELECT queued_at FROM runs WHERE execution_id = $4), 'infinity'))
ORDER BY platform_event_id
FOR NO KEY UPDATE SKIP LOCKED
"""

# A null fingerprint forces a full comparison when the event is listed again.
MARK_ABSENT = """
UPDATE odds_events SET absent_since = $2, fingerprint = NULL WHERE id = ANY ($1::bigint[])
"""

# Event and prices in one statement: no reader sees a price of an event that is withdrawn.
WITHDRAW = """
WITH withdrawn AS (
  UPDATE odds_events SET absent_since = coalesce(absent_since, $2), withdrawn_at = $2,
                         fingerprint = NULL
  WHERE id = ANY ($1::bigint[])
  RETURNING id
), logged AS (
  INSERT INTO odds_event_changes (event_id, what, observed_at, run_id)
  SELECT id, 'withdrawn', $2, $3 FROM withdrawn ORDER BY id
), prices AS (
  UPDATE odds_prices SET price = NULL, active = false, changed_at = $2, run_id = $3
  WHERE event_id = ANY ($1::bigint[]) AND price IS NOT NULL
  RETURNING event_id, market, line, outcome
)
INSERT INTO odds_price_changes (event_id, market, line, outcome, price, active, observed_at, run_id)
SELECT event_id, market, line, outcome, NULL, false, $2, $3 FROM prices
"""

# Locks in the order of ABSENT, so that two runs cannot deadlock. What was withdrawn stays.
REVERT_ABSENCES = """
UPDATE odds_events SET absent_since = NULL WHERE id IN (
  SELECT id FROM odds_events
  WHERE platform = $1 AND withdrawn_at IS NULL
    AND absent_since >= (SELECT queued_at FROM runs WHERE execution_id = $2)
  ORDER BY platform_event_id FOR NO KEY UPDATE)
"""

# Never moves `seen_at` back, and leaves the partition and absences as they are.
SAVE_PARTIAL_LISTING = """
UPDATE odds_events SET seen_at = $3, seen_run_id = $4
WHERE platform = $1 AND platform_event_id = ANY ($2::text[]) AND seen_at < $3
"""


async def record_listing(connection: Connection, listing: Listing, run_id: UUID) -> None:
    """Record a complete listing of a partition, and mark or withdraw the events it lacks.

    They are marked as absent, and withdrawn when the complete listing of a later run lacks them
    too. One listing proves nothing, even if it has as many events as the site reports: its pages
    are read at different instants, and an event is skipped if rows move up in between.
    """
    partition = (listing.platform, listing.partition)
    await connection.execute(ASSIGN_PARTITION, *partition, list(listing.seen))
    rows = await connection.fetch(ABSENT, *partition, list(listing.present), listing.at, run_id)
    await _absent(connection, [(row[0], row[1]) for row in rows], listing.at, run_id)
    await connection.execute(SAVE_LISTING, *partition, len(listing.present), listing.at, run_id)


async def record_partial_listing(connection: Connection, listing: Listing, run_id: UUID) -> None:
    """Record the events seen in an incomplete listing, which says nothing about missing ones."""
    await connection.execute(
        SAVE_PARTIAL_LISTING, listing.platform, list(listing.seen), listing.at, run_id
    )


async def record_partitions(
    connection: Connection, platform: str, partitions: Sequence[str], at: datetime, run_id: UUID
) -> None:
    """Record that a platform has exactly these partitions, all of which were listed.

    Events of other partitions are marked as absent, or withdrawn if they were absent before.
    """
    rows = await connection.fetch(ABSENT_PARTITIONS, platform, list(partitions), at, run_id)
    await _absent(connection, [(row[0], row[1]) for row in rows], at, run_id)


async def revert_absences(connection: Connection, platform: str, run_id: UUID) -> None:
    """Revert the absences that this run recorded: the platform did not meet its expectations."""
    await connection.execute(REVERT_ABSENCES, platform, run_id)


async def _absent(
    connection: Connection, found: Sequence[tuple[int, bool]], at: datetime, run_id: UUID
) -> None:
    withdrawn = [event_id for event_id, confirmed in found if confirmed]
    absent = [event_id for event_id, confirmed in found if not confirmed]
    if withdrawn:
        await connection.execute(WITHDRAW, withdrawn, at, run_id)
    if absent:
        await connection.execute(MARK_ABSENT, absent, at)
