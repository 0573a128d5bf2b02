"""How far sources have been read, and at what pace those go that have their own."""

from datetime import datetime
from uuid import UUID

from app.store.db import Connection, Pool
from app.store.items import worded

CURSORS = "SELECT partition, value FROM source_cursors i WHERE {owner} AND source = $2"

MOVE = """
INSERT INTO source_cursors AS c (org_id, source, partition, value, moved_at, run_id)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (org_id, source, partition)
DO UPDATE SET value = excluded.value, moved_at = excluded.moved_at, run_id = excluded.run_id
WHERE c.moved_at <= excluded.moved_at
"""

PACE = "SELECT next_at FROM source_paces i WHERE {owner} AND source = $2"

SET_PACE = """
INSERT INTO source_paces (org_id, source, interval_seconds, next_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, source)
DO UPDATE SET interval_seconds = excluded.interval_seconds, next_at = excluded.next_at
"""


async def cursors(pool: Pool | Connection, org_id: UUID | None, source: str) -> dict[str, str]:
    """Up to where each partition of a source has been read."""
    rows = await pool.fetch(worded(CURSORS, org_id), org_id, source)
    return {row["partition"]: row["value"] for row in rows}


async def move_cursor(  # noqa: PLR0913, PLR0917 - whose it is, which, where to, when and by whom
    connection: Connection,
    org_id: UUID | None,
    where: tuple[str, str],
    value: str,
    at: datetime,
    run_id: UUID,
) -> None:
    """A partition has been read up to `value`, at `at`. `where`: source, partition."""
    await connection.execute(MOVE, org_id, *where, value, at, run_id)


async def next_at(pool: Pool | Connection, org_id: UUID | None, source: str) -> datetime | None:
    """When a source that goes by its own pace is to be asked next; None if nothing is known."""
    return await pool.fetchval(worded(PACE, org_id), org_id, source)


async def set_pace(
    pool: Pool | Connection, org_id: UUID | None, source: str, seconds: float, at: datetime
) -> None:
    """Keep that a source is to be asked at `at` next, as its own pace of `seconds` has it."""
    await pool.execute(SET_PACE, org_id, source, seconds, at)
