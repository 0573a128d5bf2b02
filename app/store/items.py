"""Items: rows of any source that has no table of its own. Idempotent, whole pages at a time."""

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.records import Item
from app.store.db import Connection, Pool
from app.words import StoreMode

SLICE = 500  # items at once: a page of thousands must not hold the event loop while it is encoded


@dataclass(frozen=True, slots=True)
class Written:
    """Items given, and what became of them."""

    given: int = 0
    inserted: int = 0
    changed: int = 0

    @property
    def unchanged(self) -> int:
        """Those that were already so."""
        return self.given - self.inserted - self.changed

    @property
    def prices(self) -> int:
        """Items have no prices."""
        return 0

    @property
    def points(self) -> int:
        """Items have no sentiment."""
        return 0

    def plus(self, other: "Written") -> "Written":
        """Both together."""
        return Written(
            self.given + other.given, self.inserted + other.inserted, self.changed + other.changed
        )


OWNED = """coalesce(i.org_id, '00000000-0000-0000-0000-000000000000')
  = coalesce($2::uuid, '00000000-0000-0000-0000-000000000000') AND i.source = $3"""

# In the order of their keys everywhere, so that two runs on the same items never wait for each
# other in turn. What a later page has said already is left alone. A change of what is ignored is
# kept, but it is none: neither `changed_at` nor the run moves.
UPSERT = f"""
WITH given AS MATERIALIZED (
  SELECT g.key, g.data, decode(g.hash, 'hex') AS hash
  FROM jsonb_to_recordset($1) AS g (key text, data jsonb, hash text)
), before AS (
  SELECT i.key, i.content_hash FROM items i WHERE {OWNED} AND i.key IN (SELECT key FROM given)
), written AS (
  INSERT INTO items AS i (org_id, source, key, data, content_hash, first_seen, last_seen,
                          changed_at, run_id)
  SELECT $2, $3, key, data, hash, $4, $4, $4, $5 FROM given ORDER BY key
  ON CONFLICT (coalesce(org_id, '00000000-0000-0000-0000-000000000000'::uuid), source, key)
  DO UPDATE SET
    data = excluded.data, content_hash = excluded.content_hash, last_seen = excluded.last_seen,
    missing_since = NULL,
    changed_at = CASE WHEN i.content_hash = excluded.content_hash
                      THEN i.changed_at ELSE excluded.changed_at END,
    run_id = CASE WHEN i.content_hash = excluded.content_hash
                  THEN i.run_id ELSE excluded.run_id END
  WHERE i.last_seen <= excluded.last_seen
)
SELECT count(*) FILTER (WHERE b.key IS NULL) AS inserted,
       count(*) FILTER (WHERE b.content_hash <> g.hash) AS changed
FROM given g LEFT JOIN before b USING (key)
"""  # noqa: S608 - our own text

# Every observation is a row, once for each run: a page that is written again finds its own row.
APPEND = f"""
WITH given AS MATERIALIZED (
  SELECT g.key, g.series, g.data, decode(g.hash, 'hex') AS hash
  FROM jsonb_to_recordset($1) AS g (key text, series text, data jsonb, hash text)
), before AS (
  SELECT l.* FROM given g CROSS JOIN LATERAL (
    SELECT i.id, i.key, i.series, i.content_hash FROM items i
    WHERE {OWNED} AND i.series = g.series ORDER BY i.id DESC LIMIT 1) l
), fresh AS (
  SELECT g.* FROM given g LEFT JOIN before b USING (series)
  WHERE NOT $6 OR b.id IS NULL OR b.content_hash <> g.hash
), same AS (
  UPDATE items i SET last_seen = greatest(i.last_seen, $4)
  FROM before b JOIN given g USING (series)
  WHERE $6 AND i.id = b.id AND b.content_hash = g.hash
), written AS (
  INSERT INTO items AS i (org_id, source, key, series, data, content_hash, first_seen, last_seen,
                          changed_at, run_id)
  SELECT $2, $3, key, series, data, hash, $4, $4, $4, $5 FROM fresh ORDER BY key
  ON CONFLICT (coalesce(org_id, '00000000-0000-0000-0000-000000000000'::uuid), source, key)
  DO UPDATE SET data = excluded.data, content_hash = excluded.content_hash,
                last_seen = excluded.last_seen
)
SELECT count(*) FILTER (WHERE b.key IS DISTINCT FROM f.key) AS inserted,
       count(*) FILTER (WHERE b.key = f.key AND b.content_hash <> f.hash) AS changed
FROM fresh f LEFT JOIN before b USING (series)
"""  # noqa: S608 - our own text

TOUCH = f"""
UPDATE items i SET last_seen = $4, missing_since = NULL
WHERE i.id IN (
  SELECT i.id FROM items i WHERE {OWNED} AND i.key = ANY ($1::text[]) AND i.last_seen < $4
  ORDER BY i.key FOR NO KEY UPDATE)
"""  # noqa: S608 - our own text

# What somebody is writing just now is not missing.
MISSING = f"""
UPDATE items i SET missing_since = $4
WHERE i.id IN (
  SELECT i.id FROM items i
  WHERE {OWNED} AND i.missing_since IS NULL AND i.series IS NULL
    AND i.last_seen < (SELECT queued_at FROM runs WHERE execution_id = $1)
  ORDER BY i.key FOR NO KEY UPDATE SKIP LOCKED)
"""  # noqa: S608 - our own text

CURSORS = """
SELECT partition, value FROM source_cursors
WHERE coalesce(org_id, '00000000-0000-0000-0000-000000000000')
    = coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') AND source = $2
"""

MOVE = """
INSERT INTO source_cursors AS c (org_id, source, partition, value, moved_at, run_id)
VALUES ($1, $2, $3, $4, $5, $6)
ON CONFLICT (coalesce(org_id, '00000000-0000-0000-0000-000000000000'::uuid), source, partition)
DO UPDATE SET value = excluded.value, moved_at = excluded.moved_at, run_id = excluded.run_id
WHERE c.moved_at <= excluded.moved_at
"""

PACE = """
SELECT next_at FROM source_paces
WHERE coalesce(org_id, '00000000-0000-0000-0000-000000000000')
    = coalesce($1::uuid, '00000000-0000-0000-0000-000000000000') AND source = $2
"""

SET_PACE = """
INSERT INTO source_paces (org_id, source, interval_seconds, next_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (coalesce(org_id, '00000000-0000-0000-0000-000000000000'::uuid), source)
DO UPDATE SET interval_seconds = excluded.interval_seconds, next_at = excluded.next_at
"""


def content_hash(data: Mapping[str, Any], ignore: Collection[str] = ()) -> bytes:
    """What makes content the same again: all members but those to be ignored, in any order."""
    told = {name: value for name, value in data.items() if name not in ignore}
    return hashlib.sha256(msgspec.json.encode(told, order="deterministic")).digest()


async def write(  # noqa: PLR0913, PLR0917 - whose they are, what they are, when and by whom
    connection: Connection,
    org_id: UUID | None,
    source: str,
    items: Sequence[Item],
    now: datetime,
    run_id: UUID,
) -> Written:
    """Write one page of one source's items as it was at `now`. `org_id` None is the house.

    Writing the same page again in the same run changes nothing. `changed_at` moves only when the
    content does, but for what an item ignores.
    """
    total = Written()
    for mode in StoreMode:
        latest = {item.key: item for item in items if item.mode is mode}
        statement, more = _statement(mode)
        page = [latest[key] for key in sorted(latest)]  # one order of locks, across the slices too
        for start in range(0, len(page), SLICE):
            rows = [_row(item, run_id) for item in page[start : start + SLICE]]
            row = await connection.fetchrow(statement, rows, org_id, source, now, run_id, *more)
            inserted, changed = (row["inserted"], row["changed"]) if row else (0, 0)
            total = total.plus(Written(len(rows), inserted, changed))
    return total


def _statement(mode: StoreMode) -> tuple[str, tuple[bool, ...]]:
    if mode is StoreMode.UPSERT:
        return UPSERT, ()
    return APPEND, (mode is StoreMode.APPEND_ON_CHANGE,)


def _row(item: Item, run_id: UUID) -> dict[str, Any]:
    row = {"data": item.data, "hash": content_hash(item.data, item.ignore).hex()}
    if item.mode is StoreMode.UPSERT:
        return row | {"key": item.key}
    return row | {"key": f"{item.key}#{run_id.hex}", "series": item.key}


async def touch(
    connection: Connection, org_id: UUID | None, source: str, keys: Iterable[str], at: datetime
) -> None:
    """Keep that these were there at `at`: pages that are unchanged are not written again."""
    await connection.execute(TOUCH, sorted(keys), org_id, source, at)


async def mark_missing(
    connection: Connection, org_id: UUID | None, source: str, run_id: UUID, at: datetime
) -> None:
    """Mark what a run has not seen, which has listed the whole source from end to end."""
    await connection.execute(MISSING, run_id, org_id, source, at)


async def cursors(pool: Pool | Connection, org_id: UUID | None, source: str) -> dict[str, str]:
    """Up to where each partition of a source has been read."""
    rows = await pool.fetch(CURSORS, org_id, source)
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
    return await pool.fetchval(PACE, org_id, source)


async def set_pace(
    pool: Pool | Connection, org_id: UUID | None, source: str, seconds: float, at: datetime
) -> None:
    """Keep that a source is to be asked at `at` next, as its own pace of `seconds` has it."""
    await pool.execute(SET_PACE, org_id, source, seconds, at)
