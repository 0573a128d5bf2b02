"""Statements for items: generic records, owned by an organisation or (null) by the operator.

An unchanged item is not written, except for `last_seen`, at most once an hour.
"""

import asyncio
import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec

from app.core.enums import StoreMode
from app.core.errors import BadResult
from app.core.records import Item
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection, Pool

MAX_ITEM_LENGTH = 16_000_000  # characters as JSON: with 100 million the connection is lost
MAX_INLINE_ITEMS = 50  # items; more are encoded as JSON in a thread
ITEMS_PER_STATEMENT = (
    500  # items per statement, so that a page of thousands does not block the event loop
)


# Two variants: only `=` and `IS NULL` on the plain column use the index, and under row-level
# security any other expression would read every organisation's items.
_ORG_OWNER = "i.org_id = $1"
_OPERATOR_OWNER = "i.org_id IS NULL AND $1::uuid IS NULL"

# Unchanged items are filtered out first: even a row that an upsert only locks goes to the WAL.
# Rows are written in key order, so that two writers cannot deadlock. A change of ignored members is
# stored, but does not move `changed_at` or `run_id`. A row that a later page wrote is not changed.
WRITE = """
WITH given AS (
  SELECT g.* FROM unnest($5::text[], $6::text[], $7::bytea[], $8::boolean[])
    AS g (key, data, hash, ignoring)
  LEFT JOIN items i ON {owner} AND i.source = $2 AND i.key = g.key
  WHERE i.id IS NULL OR i.content_hash <> g.hash OR i.missing_since IS NOT NULL
     OR i.absent_since IS NOT NULL
     OR i.last_seen < $3::timestamptz - interval '1 hour'
     OR (g.ignoring AND i.data <> g.data::jsonb)
), written AS (
  INSERT INTO items AS i (org_id, source, key, data, content_hash, first_seen, last_seen,
                          changed_at, run_id, page_order)
  SELECT $1, $2, key, data::jsonb, hash, $3, $3, $3, $4, coalesce(page_order(), 0)
  FROM given ORDER BY key
  ON CONFLICT (org_id, source, key) DO UPDATE SET
    data = excluded.data, content_hash = excluded.content_hash,
    last_seen = excluded.last_seen, missing_since = NULL, absent_since = NULL,
    page_order = coalesce(page_order(), i.page_order),
    changed_at = CASE WHEN i.content_hash = excluded.content_hash THEN i.changed_at
                      ELSE excluded.changed_at END,
    run_id = CASE WHEN i.content_hash = excluded.content_hash THEN i.run_id
                  ELSE excluded.run_id END
  WHERE CASE WHEN page_order() IS NULL THEN i.last_seen <= excluded.last_seen
             ELSE i.page_order <= page_order() END
  RETURNING xmax = 0 AS new_row, changed_at = $3 AS moved
)
SELECT count(*) FILTER (WHERE new_row) AS inserted,
       count(*) FILTER (WHERE moved AND NOT new_row) AS changed
FROM written
"""

# Every observation is a row, with the run in its key: writing a page again finds the same row.
APPEND = """
WITH given AS MATERIALIZED (
  SELECT g.* FROM unnest($5::text[], $6::text[], $7::bytea[], $8::text[])
    AS g (key, data, hash, series)
), before AS (
  SELECT l.* FROM given g CROSS JOIN LATERAL (
    SELECT i.id, i.key, i.series, i.content_hash FROM items i
    WHERE {owner} AND i.source = $2 AND i.series = g.series ORDER BY i.id DESC LIMIT 1) l
), to_insert AS (
  SELECT g.* FROM given g LEFT JOIN before b USING (series)
  WHERE NOT $9 OR b.id IS NULL OR b.content_hash <> g.hash
), same AS (
  UPDATE items i SET last_seen = greatest(i.last_seen, $3)
  FROM before b JOIN given g USING (series)
  WHERE $9 AND i.id = b.id AND b.content_hash = g.hash
), written AS (
  INSERT INTO items AS i (org_id, source, key, series, data, content_hash, first_seen, last_seen,
                          changed_at, run_id)
  SELECT $1, $2, key, series, data::jsonb, hash, $3, $3, $3, $4 FROM to_insert ORDER BY key
  ON CONFLICT (org_id, source, key)
  DO UPDATE SET data = excluded.data, content_hash = excluded.content_hash,
                last_seen = excluded.last_seen
)
SELECT count(*) FILTER (WHERE b.key IS DISTINCT FROM f.key) AS inserted,
       count(*) FILTER (WHERE b.key = f.key AND b.content_hash <> f.hash) AS changed
FROM to_insert f LEFT JOIN before b USING (series)
"""

# A missing item may return on an unchanged page, if its whole partition had been missing.
TOUCH = """
UPDATE items i SET last_seen = $3, missing_since = NULL, absent_since = NULL
WHERE {owner} AND i.source = $2 AND i.key = ANY ($4::text[])
  AND (i.last_seen < $3::timestamptz - interval '1 hour' OR i.absent_since <= $3)
"""

# Rows are locked in order of their keys, as WRITE does, so that two runs cannot deadlock.
SEEN = """
UPDATE items i SET last_seen = $3, missing_since = NULL, absent_since = NULL
WHERE i.id IN (
  SELECT i.id FROM items i
  WHERE {owner} AND i.source = $2 AND i.key = ANY ($4::text[]) AND i.last_seen < $3
  ORDER BY i.key FOR NO KEY UPDATE)
"""

# The pages of a listing are read at different instants, so that a row may move past them: the first
# complete listing without an item only marks it as absent, and that of a later run as missing.
LISTED = """
UPDATE items i SET absent_since = coalesce(i.absent_since, $3), missing_since = i.absent_since
WHERE {owner} AND i.source = $2 AND i.missing_since IS NULL
  AND (i.absent_since IS NULL OR i.absent_since < coalesce(
    (SELECT queued_at FROM runs WHERE execution_id = $5), 'infinity'))
  AND NOT EXISTS (SELECT FROM unnest($4::text[]) AS there (key) WHERE there.key = i.key)
"""

# SKIP LOCKED: an item that another transaction is writing is not missing.
MISSING = """
UPDATE items i SET absent_since = coalesce(i.absent_since, $3), missing_since = i.absent_since
WHERE i.id IN (
  SELECT i.id FROM items i JOIN runs r ON r.execution_id = $4
  WHERE {owner} AND i.source = $2 AND i.missing_since IS NULL AND i.series IS NULL
    AND i.last_seen < r.queued_at AND (i.absent_since IS NULL OR i.absent_since < r.queued_at)
  ORDER BY i.key FOR NO KEY UPDATE OF i SKIP LOCKED)
"""


def for_owner(statement: str, org_id: UUID | None) -> str:
    return statement.format(owner=_OPERATOR_OWNER if org_id is None else _ORG_OWNER)


def content_hash(data: Mapping[str, Any], ignore: Collection[str] = ()) -> bytes:
    """Return the SHA-256 of all members except the ignored ones, independent of their order."""
    hashed = {name: value for name, value in data.items() if name not in ignore}
    return hashlib.sha256(msgspec.json.encode(hashed, order="deterministic")).digest()


async def write(
    connection: Connection,
    org_id: UUID | None,
    source: str,
    items: Sequence[Item],
    now: datetime,
    run_id: UUID,
) -> WriteCounts:
    """Write one page of one source's items, as fetched at `now`. `org_id` None is the operator.

    The last item of a key wins. `run_id` is stored with the items it inserted or changed.
    Writing the same page again in the same run changes nothing.
    """
    total = WriteCounts()
    for mode in StoreMode:
        latest = {item.key: item for item in items if item.mode is mode}
        page = [latest[key] for key in sorted(latest)]  # a fixed lock order, across slices too
        for start in range(0, len(page), ITEMS_PER_STATEMENT):
            some = page[start : start + ITEMS_PER_STATEMENT]
            texts, hashes = (
                await asyncio.to_thread(_encoded, some)
                if len(some) > MAX_INLINE_ITEMS
                else _encoded(some)
            )
            statement, more = _mode_statement(mode, some, run_id)
            row = await connection.fetchrow(
                for_owner(statement, org_id),
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
            total = total.plus(WriteCounts(len(some), inserted, changed))
    return total


def _mode_statement(mode: StoreMode, items: Sequence[Item], run_id: UUID) -> tuple[str, list[Any]]:
    keys = [item.key for item in items]
    if mode is StoreMode.UPSERT:
        return WRITE, [keys, [bool(item.ignore) for item in items]]
    run_keys = [f"{key}#{run_id.hex}" for key in keys]
    return APPEND, [run_keys, keys, mode is StoreMode.APPEND_ON_CHANGE]


def _encoded(items: Sequence[Item]) -> tuple[list[str], list[bytes]]:
    texts = [msgspec.json.encode(item.data).decode() for item in items]
    for item, text in zip(items, texts, strict=True):
        if len(text) > MAX_ITEM_LENGTH:
            raise BadResult(
                f"the row {item.key[:100]!r} of {item.source[:100]!r} has {len(text):,} characters"
                f" as JSON; an item has at most {MAX_ITEM_LENGTH:,}"
            )
    return texts, [content_hash(item.data, item.ignore) for item in items]


async def touch(
    connection: Connection | Pool,
    org_id: UUID | None,
    source: str,
    keys: Collection[str],
    at: datetime,
) -> None:
    """Update `last_seen` of the items of an unchanged page, at most once an hour each."""
    await connection.execute(for_owner(TOUCH, org_id), org_id, source, at, list(keys))


async def mark_seen(
    connection: Connection, org_id: UUID | None, source: str, keys: Iterable[str], at: datetime
) -> None:
    """Set `last_seen` of these items to exactly `at`, which `mark_missing` relies on."""
    await connection.execute(for_owner(SEEN, org_id), org_id, source, at, sorted(keys))


async def mark_unlisted(
    connection: Connection | Pool,
    org_id: UUID | None,
    source: str,
    keys: Collection[str],
    at: datetime,
    run_id: UUID,
) -> None:
    """Mark items that the run's complete listing of the source lacks as absent since `at`.

    Those that an earlier run's lacked too are missing since then. Writing an item clears the marks.
    """
    statement = for_owner(LISTED, org_id)
    await connection.execute(statement, org_id, source, at, list(keys), run_id)


async def mark_missing(
    connection: Connection, org_id: UUID | None, source: str, run_id: UUID, at: datetime
) -> None:
    """Mark items that no attempt of a run has seen which listed the whole source, as above."""
    await connection.execute(for_owner(MISSING, org_id), org_id, source, at, run_id)
