"""Statements for source cursors and automatic intervals."""

from collections.abc import Mapping
from datetime import datetime
from uuid import UUID

from app.store.content.items import for_owner
from app.store.db import Connection, Pool

# `{owner}` is one of two conditions, each of which the index can answer; see items.py.
CURSORS = "SELECT partition, value FROM source_cursors i WHERE {owner} AND source = $2"

# A cursor never moves back: a run that fetched earlier changes nothing.
MOVE = """
INSERT INTO source_cursors AS c (org_id, source, partition, value, moved_at, run_id)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (org_id, source, partition)
DO UPDATE SET value = excluded.value, moved_at = excluded.moved_at, run_id = excluded.run_id
WHERE c.moved_at <= excluded.moved_at
"""

# Only cursors that this run moved last: what a later run moved stays.
RESTORE = """
UPDATE source_cursors i SET value = b.value
FROM unnest($4::text[], $5::text[]) AS b (partition, value)
WHERE {owner} AND i.source = $2 AND i.run_id = $3 AND i.partition = b.partition
"""

# A cursor that the run was the first to set has no earlier value, and is deleted.
REMOVE_FIRST = """
DELETE FROM source_cursors i
WHERE {owner} AND i.source = $2 AND i.run_id = $3 AND NOT (i.partition = ANY ($4::text[]))
"""

# One row per owner and source, by its unique index.
PACE = "SELECT next_at FROM source_paces i WHERE {owner} AND source = $2"

# The last computed interval wins, so this is an upsert.
SET_PACE = """
INSERT INTO source_paces (org_id, source, interval_seconds, next_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, source)
DO UPDATE SET interval_seconds = excluded.interval_seconds, next_at = excluded.next_at
"""


async def cursors(pool: Pool | Connection, org_id: UUID | None, source: str) -> dict[str, str]:
    """Return the cursor of each partition of a source."""
    rows = await pool.fetch(for_owner(CURSORS, org_id), org_id, source)
    return {row["partition"]: row["value"] for row in rows}


async def move_cursor(
    connection: Connection,
    org_id: UUID | None,
    where: tuple[str, str],
    value: str,
    at: datetime,
    run_id: UUID,
) -> None:
    """Move the cursor of a partition to `value`, unless it moved after `at`.

    `where`: source, partition.
    """
    await connection.execute(MOVE, org_id, *where, value, at, run_id)


async def restore(
    connection: Connection,
    org_id: UUID | None,
    source: str,
    before: Mapping[str, str],
    run_id: UUID,
) -> None:
    """Restore the cursors that a run has moved to what they were `before`, by partition."""
    partitions, values = [*before], [*before.values()]
    owned = (org_id, source, run_id, partitions)
    await connection.execute(for_owner(RESTORE, org_id), *owned, values)
    await connection.execute(for_owner(REMOVE_FIRST, org_id), *owned)


async def next_due_at(pool: Pool | Connection, org_id: UUID | None, source: str) -> datetime | None:
    """Return when a source with an automatic interval is next due; None if that is not known."""
    return await pool.fetchval(for_owner(PACE, org_id), org_id, source)


async def set_interval(
    pool: Pool | Connection, org_id: UUID | None, source: str, seconds: float, at: datetime
) -> None:
    """Store a source's automatic interval in seconds, and `at`, when it is next due."""
    await pool.execute(SET_PACE, org_id, source, seconds, at)
