"""Items: generic records, each the property of an organisation or of the house (no organisation).

What has not changed costs no write, but for `last_seen`, which moves once an hour at most.
"""

import asyncio
import hashlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec

from app.records import Item
from app.store.db import Connection, Pool

MANY = 50  # items; more are written as JSON off the event loop

_canonical = msgspec.json.Encoder(order="sorted")


@dataclass(frozen=True, slots=True)
class Written:
    """Items given, and what became of them."""

    given: int
    inserted: int
    changed: int

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


# Two wordings: only `=` and `IS NULL` on the plain column are looked up in the index, and behind
# row-level security a look-up by any other expression would read every organisation's items.
_THEIRS = "i.org_id = $1"
_HOUSES = "i.org_id IS NULL AND $1::uuid IS NULL"

# An item that is as it was is left out before anything is written: even a row that an upsert only
# locks would be written to the log. In the order of their keys, so that two writers never wait for
# each other in turn.
WRITE = """
WITH given AS (
  SELECT g.* FROM unnest($5::text[], $6::text[], $7::bytea[]) AS g (key, data, hash)
  LEFT JOIN items i ON {owner} AND i.source = $2 AND i.key = g.key
  WHERE i.id IS NULL OR i.content_hash <> g.hash OR i.missing_since IS NOT NULL
     OR i.last_seen < $3::timestamptz - interval '1 hour'
), written AS (
  INSERT INTO items AS i (org_id, source, key, data, content_hash, first_seen, last_seen,
                          changed_at, run_id)
  SELECT $1, $2, key, data::jsonb, hash, $3, $3, $3, $4 FROM given ORDER BY key
  ON CONFLICT (org_id, source, key) DO UPDATE SET
    data = excluded.data, content_hash = excluded.content_hash,
    last_seen = greatest(i.last_seen, excluded.last_seen), missing_since = NULL,
    changed_at = CASE WHEN i.content_hash = excluded.content_hash THEN i.changed_at
                      ELSE excluded.changed_at END,
    run_id = CASE WHEN i.content_hash = excluded.content_hash THEN i.run_id
                  ELSE excluded.run_id END
  RETURNING xmax = 0 AS fresh, changed_at = $3 AS moved
)
SELECT count(*) FILTER (WHERE fresh) AS inserted,
       count(*) FILTER (WHERE moved AND NOT fresh) AS changed
FROM written
"""

TOUCH = """
UPDATE items i SET last_seen = $3
WHERE {owner} AND i.source = $2 AND i.key = ANY ($4::text[])
  AND i.last_seen < $3::timestamptz - interval '1 hour'
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


def worded(statement: str, org_id: UUID | None) -> str:
    """The statement for items of that owner."""
    return statement.format(owner=_HOUSES if org_id is None else _THEIRS)


async def write(  # noqa: PLR0913, PLR0917 - whose they are, what they are, when and by whom
    connection: Connection,
    org_id: UUID | None,
    source: str,
    items: Sequence[Item],
    now: datetime,
    run_id: UUID,
) -> Written:
    """Write one page of one source's items. `org_id` None is the house.

    Of two with one key the last counts. `run_id` is kept with what it brought or changed.
    Writing the same page again changes nothing.
    """
    page = {item.key: item for item in items}
    if not page:
        return Written(0, 0, 0)
    kept = list(page.values())
    aside = len(kept) > MANY
    texts, hashes = await asyncio.to_thread(_texts, kept) if aside else _texts(kept)
    row = await connection.fetchrow(
        worded(WRITE, org_id), org_id, source, now, run_id, list(page), texts, hashes
    )
    inserted, changed = (row["inserted"], row["changed"]) if row else (0, 0)
    return Written(len(page), inserted, changed)


async def touch(
    connection: Connection | Pool,
    org_id: UUID | None,
    source: str,
    keys: Collection[str],
    at: datetime,
) -> None:
    """Note that these items are still there, on a page that has not changed."""
    await connection.execute(worded(TOUCH, org_id), org_id, source, at, list(keys))


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


def _texts(items: Sequence[Item]) -> tuple[list[str], list[bytes]]:
    texts = [_canonical.encode(item.data) for item in items]
    return [text.decode() for text in texts], [hashlib.sha256(text).digest() for text in texts]
