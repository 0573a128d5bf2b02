"""Items: generic records, each the property of an organisation or of the house (no organisation).

What has not changed costs no write, but for `last_seen`, which moves once an hour at most.
"""

import asyncio
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

MANY = 50  # items; more are written as JSON off the event loop
SLICE = 500  # items at once: a page of thousands must not hold the loop


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
        """Items have no prices of their own."""
        return 0

    @property
    def points(self) -> int:
        """Nor points."""
        return 0

    def plus(self, other: "Written") -> "Written":
        """Both together."""
        return Written(
            self.given + other.given, self.inserted + other.inserted, self.changed + other.changed
        )


# Two wordings: only `=` and `IS NULL` on the plain column are looked up in the index, and behind
# row-level security a look-up by any other expression would read every organisation's items.
_THEIRS = "i.org_id = $1"
_HOUSES = "i.org_id IS NULL AND $1::uuid IS NULL"

# An item that is as it was is left out before anything is written: even a row that an upsert only
# locks would be written to the log. In the order of their keys, so that two writers never wait for
# each other in turn. A change of what is to be ignored is kept, but neither `changed_at` nor the
# run moves. What a later page has said already is left alone.
WRITE = """
WITH given AS (
  SELECT g.* FROM unnest($5::text[], $6::text[], $7::bytea[], $8::boolean[])
    AS g (key, data, hash, ignoring)
  LEFT JOIN items i ON {owner} AND i.source = $2 AND i.key = g.key
  WHERE i.id IS NULL OR i.content_hash <> g.hash OR i.missing_since IS NOT NULL
     OR i.last_seen < $3::timestamptz - interval '1 hour'
     OR (g.ignoring AND i.data <> g.data::jsonb)
), written AS (
  INSERT INTO items AS i (org_id, source, key, data, content_hash, first_seen, last_seen,
                          changed_at, run_id)
  SELECT $1, $2, key, data::jsonb, hash, $3, $3, $3, $4 FROM given ORDER BY key
  ON CONFLICT (org_id, source, key) DO UPDATE SET
    data = excluded.data, content_hash = excluded.content_hash,
    last_seen = excluded.last_seen, missing_since = NULL,
    changed_at = CASE WHEN i.content_hash = excluded.content_hash THEN i.changed_at
                      ELSE excluded.changed_at END,
    run_id = CASE WHEN i.content_hash = excluded.content_hash THEN i.run_id
                  ELSE excluded.run_id END
  WHERE i.last_seen <= excluded.last_seen
  RETURNING xmax = 0 AS fresh, changed_at = $3 AS moved
)
SELECT count(*) FILTER (WHERE fresh) AS inserted,
       count(*) FILTER (WHERE moved AND NOT fresh) AS changed
FROM written
"""

# Every observation is a row, once for each run: a page that is written again finds its own row.
APPEND = """
WITH given AS MATERIALIZED (
  SELECT g.* FROM unnest($5::text[], $6::text[], $7::bytea[], $8::text[])
    AS g (key, data, hash, series)
), before AS (
  SELECT l.* FROM given g CROSS JOIN LATERAL (
    SELECT i.id, i.key, i.series, i.content_hash FROM items i
    WHERE {owner} AND i.source = $2 AND i.series = g.series ORDER BY i.id DESC LIMIT 1) l
), fresh AS (
  SELECT g.* FROM given g LEFT JOIN before b USING (series)
  WHERE NOT $9 OR b.id IS NULL OR b.content_hash <> g.hash
), same AS (
  UPDATE items i SET last_seen = greatest(i.last_seen, $3)
  FROM before b JOIN given g USING (series)
  WHERE $9 AND i.id = b.id AND b.content_hash = g.hash
), written AS (
  INSERT INTO items AS i (org_id, source, key, series, data, content_hash, first_seen, last_seen,
                          changed_at, run_id)
  SELECT $1, $2, key, series, data::jsonb, hash, $3, $3, $3, $4 FROM fresh ORDER BY key
  ON CONFLICT (org_id, source, key)
  DO UPDATE SET data = excluded.data, content_hash = excluded.content_hash,
                last_seen = excluded.last_seen
)
SELECT count(*) FILTER (WHERE b.key IS DISTINCT FROM f.key) AS inserted,
       count(*) FILTER (WHERE b.key = f.key AND b.content_hash <> f.hash) AS changed
FROM fresh f LEFT JOIN before b USING (series)
"""

# What was missing may come back on a page that is as it was: its whole part had been gone.
TOUCH = """
UPDATE items i SET last_seen = $3, missing_since = NULL
WHERE {owner} AND i.source = $2 AND i.key = ANY ($4::text[])
  AND (i.last_seen < $3::timestamptz - interval '1 hour' OR i.missing_since <= $3)
"""

SEEN = """
UPDATE items i SET last_seen = $3, missing_since = NULL
WHERE i.id IN (
  SELECT i.id FROM items i
  WHERE {owner} AND i.source = $2 AND i.key = ANY ($4::text[]) AND i.last_seen < $3
  ORDER BY i.key FOR NO KEY UPDATE)
"""

LISTED = """
WITH missing AS (
  UPDATE items i SET missing_since = $3
  WHERE {owner} AND i.source = $2 AND i.missing_since IS NULL
    AND NOT EXISTS (SELECT FROM unnest($4::text[]) AS there (key) WHERE there.key = i.key)
  RETURNING id
)
SELECT count(*) FROM missing
"""

# What somebody is writing just now is not missing.
MISSING = """
UPDATE items i SET missing_since = $3
WHERE i.id IN (
  SELECT i.id FROM items i
  WHERE {owner} AND i.source = $2 AND i.missing_since IS NULL AND i.series IS NULL
    AND i.last_seen < (SELECT queued_at FROM runs WHERE execution_id = $4)
  ORDER BY i.key FOR NO KEY UPDATE SKIP LOCKED)
"""


def worded(statement: str, org_id: UUID | None) -> str:
    """The statement for items of that owner."""
    return statement.format(owner=_HOUSES if org_id is None else _THEIRS)


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
    """Write one page of one source's items, as it was at `now`. `org_id` None is the house.

    Of two with one key the last counts. `run_id` is kept with what it brought or changed.
    Writing the same page again in the same run changes nothing.
    """
    total = Written()
    for mode in StoreMode:
        latest = {item.key: item for item in items if item.mode is mode}
        page = [latest[key] for key in sorted(latest)]  # one order of locks, across the slices too
        for start in range(0, len(page), SLICE):
            some = page[start : start + SLICE]
            texts, hashes = (
                await asyncio.to_thread(_texts, some) if len(some) > MANY else _texts(some)
            )
            statement, more = _worded(mode, some, run_id)
            row = await connection.fetchrow(
                worded(statement, org_id),
                org_id,
                source,
                now,
                run_id,
                more[0],
                texts,
                hashes,
                *more[1:],
            )
            inserted, changed = (row["inserted"], row["changed"]) if row else (0, 0)
            total = total.plus(Written(len(some), inserted, changed))
    return total


def _worded(mode: StoreMode, items: Sequence[Item], run_id: UUID) -> tuple[str, list[Any]]:
    keys = [item.key for item in items]
    if mode is StoreMode.UPSERT:
        return WRITE, [keys, [bool(item.ignore) for item in items]]
    own = [f"{key}#{run_id.hex}" for key in keys]
    return APPEND, [own, keys, mode is StoreMode.APPEND_ON_CHANGE]


def _texts(items: Sequence[Item]) -> tuple[list[str], list[bytes]]:
    texts = [msgspec.json.encode(item.data).decode() for item in items]
    return texts, [content_hash(item.data, item.ignore) for item in items]


async def touch(
    connection: Connection | Pool,
    org_id: UUID | None,
    source: str,
    keys: Collection[str],
    at: datetime,
) -> None:
    """Note that these items are there, on a page that has not changed; to the hour."""
    await connection.execute(worded(TOUCH, org_id), org_id, source, at, list(keys))


async def seen(
    connection: Connection, org_id: UUID | None, source: str, keys: Iterable[str], at: datetime
) -> None:
    """Note that these items were there at `at`, to the instant: `mark_missing` goes by that."""
    await connection.execute(worded(SEEN, org_id), org_id, source, at, sorted(keys))


async def listed(
    connection: Connection | Pool,
    org_id: UUID | None,
    source: str,
    keys: Collection[str],
    at: datetime,
) -> int:
    """Mark what a complete listing of the source lacks as missing since `at`; returns how many.

    An item that is written again is there again.
    """
    return await connection.fetchval(worded(LISTED, org_id), org_id, source, at, list(keys))


async def mark_missing(
    connection: Connection, org_id: UUID | None, source: str, run_id: UUID, at: datetime
) -> None:
    """Mark what a run has not `seen`, which has listed the whole source, in all its attempts."""
    await connection.execute(worded(MISSING, org_id), org_id, source, at, run_id)
