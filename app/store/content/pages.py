"""Statements for raw pages kept for replay, and validators that detect unchanged pages."""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from http import HTTPStatus
from typing import Any

import msgspec
import zstandard
from asyncpg import Record

from app.core.messages import RawPage, SourceRequest
from app.sources import coverage as covers
from app.sources.coverage import Coverage
from app.store.db import Connection, Pool
from app.store.runs.attempt_rows import ClaimedRun

LARGE = 256 * 1024  # bytes; larger bodies are hashed and compressed off the event loop
_LEVEL = 3
_BATCH = 1_000
_LONGEST_VALIDATOR = 1_024
_KEPT_HEADERS = (
    "age",
    "cache-control",
    "content-language",
    "content-type",
    "date",
    "etag",
    "expires",
    "last-modified",
    "link",
)

# Older validators are not used, see workers/pages.py.
_VALIDATOR_AGE = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class StoredPage:
    """What is stored about a page since it was last parsed, at `full_fetched_at`.

    `keys`: its records. `refused`: keys of its rejected records. `kept`: its body is stored.
    """

    body_hash: bytes
    full_fetched_at: datetime
    etag: str | None = None
    last_modified: str | None = None
    keys: frozenset[str] = frozenset()
    refused: frozenset[str] = frozenset()
    prices: int = 0
    rejected: int = 0
    kept: bool = False
    coverage: Coverage = field(default_factory=Coverage)


# The order of the page that is about to be requested, and what is stored about it.
# A page with an absent event is parsed again although it is unchanged: the event has returned.
KNOWN = """
SELECT nextval('page_orders') AS page_order, v.* FROM (SELECT) one LEFT JOIN LATERAL (
SELECT body_hash, full_fetched_at, etag, last_modified, keys, refused, prices, rejected, coverage,
       EXISTS (SELECT FROM raw_bodies b WHERE b.hash = v.body_hash) AS kept
FROM page_validators v WHERE fingerprint = $1 AND NOT EXISTS (
  SELECT FROM odds_events e
  WHERE e.platform = v.source AND e.platform_event_id = ANY (v.keys)
    AND e.absent_since IS NOT NULL)
) v ON true
"""

# Locks the page until the transaction ends, and lets `page_order()` return its order until then.
LOCK = "SELECT pg_advisory_xact_lock($1), set_config('rollcall.page_order', $2, true)"

# The page requested later wins, by its order, whichever transaction commits last.
REMEMBER = """
INSERT INTO page_validators (fingerprint, source, body_hash, full_fetched_at, etag, last_modified,
                             keys, refused, prices, rejected, coverage, page_order)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, coalesce(page_order(), 0))
ON CONFLICT (fingerprint) DO UPDATE SET
  body_hash = excluded.body_hash, full_fetched_at = excluded.full_fetched_at,
  etag = excluded.etag, last_modified = excluded.last_modified, keys = excluded.keys,
  refused = excluded.refused, prices = excluded.prices, rejected = excluded.rejected,
  coverage = excluded.coverage, page_order = excluded.page_order
WHERE page_validators.page_order <= excluded.page_order
"""

# Updating `used_at` of an existing body locks it, so that concurrent retention skips it.
KEEP = """
WITH body AS (SELECT keep_raw_body($3, $4, $5, $6) AS hash)
INSERT INTO raw_pages (execution_id, source, partition, expected, page, url, status, headers,
                       fetched_at, body_hash)
SELECT r.execution_id, $7, $8, $9, $10, $11, $12, $13, $6, body.hash
FROM runs r, body
WHERE r.execution_id = $1 AND r.lease_epoch = $2 AND r.status = 'running'
"""

# Pages first, then bodies to which no page refers; SKIP LOCKED leaves one that is kept just now.
PRUNE = (
    """
DELETE FROM raw_pages WHERE id IN (
  SELECT id FROM raw_pages WHERE fetched_at < $1 ORDER BY fetched_at LIMIT $2)
""",
    """
DELETE FROM raw_bodies WHERE hash IN (
  SELECT hash FROM raw_bodies b
  WHERE used_at < $1 AND NOT EXISTS (SELECT FROM raw_pages p WHERE p.body_hash = b.hash)
  ORDER BY used_at LIMIT $2 FOR UPDATE SKIP LOCKED)
""",
)

# SKIP LOCKED: a page that is written just now gets a new validator and is left alone.
PRUNE_VALIDATORS = """
DELETE FROM page_validators WHERE fingerprint IN (
  SELECT fingerprint FROM page_validators WHERE full_fetched_at < $1
  ORDER BY full_fetched_at LIMIT $2 FOR UPDATE SKIP LOCKED)
"""


# A page as it was stored last: the same owner's, from the same URL.
WHOLE = """
SELECT b.body, b.size, p.headers
FROM raw_bodies b JOIN raw_pages p ON p.body_hash = b.hash JOIN runs r USING (execution_id)
WHERE b.hash = $1 AND p.source = $2 AND p.url = $3 AND r.org_id IS NOT DISTINCT FROM $4
ORDER BY p.fetched_at DESC LIMIT 1
"""


def fingerprint(source: str, request: SourceRequest) -> bytes:
    """Return the SHA-256 that identifies a request, except its headers: they may carry secrets."""
    identity = (source, request.method, request.url, request.params, request.accept, request.body)
    if request.parser_version:
        identity = (*identity, request.parser_version)
    return hashlib.sha256(msgspec.json.encode(identity)).digest()


async def digest(body: bytes) -> bytes:
    """Return the SHA-256 of a body, computed in a thread if it is large."""
    if len(body) > LARGE:
        return await asyncio.to_thread(_digest, body)
    return _digest(body)


async def compressed(body: bytes) -> bytes:
    """Return `body` compressed with zstd, in a thread if it is large."""
    if len(body) > LARGE:
        return await asyncio.to_thread(_packed, body)
    return _packed(body)


def _digest(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()


def _packed(body: bytes) -> bytes:
    return zstandard.ZstdCompressor(level=_LEVEL).compress(body)


def _unpacked(data: bytes, size: int) -> bytes:
    return zstandard.ZstdDecompressor().decompress(data, max_output_size=size)


async def look_up(pool: Pool, fingerprint: bytes) -> tuple[int, StoredPage | None]:
    """The order of a page that is about to be requested, and what is stored about it.

    A page requested later, by whatever worker, has a higher order, whatever the clocks say.
    """
    row = await pool.fetchrow(KNOWN, fingerprint)
    fields: dict[str, Any] = {} if row is None else dict(row)
    order = fields.pop("page_order", 0)
    if fields.get("body_hash") is None:
        return order, None
    fields |= {name: frozenset(fields[name]) for name in ("keys", "refused")}
    fields["coverage"] = covers.from_json(fields["coverage"])
    return order, StoredPage(**fields)


async def lock_page(connection: Connection, fingerprint: bytes, order: int) -> None:
    """Lock the page until the transaction ends, so that its validator matches its stored rows.

    What the transaction writes is ordered by `order`.
    """
    lock_key = int.from_bytes(fingerprint[:8], signed=True)
    await connection.execute(LOCK, lock_key, str(order))


async def save_validator(
    connection: Connection, fingerprint: bytes, source: str, page: StoredPage
) -> None:
    """Save the page's validator. Call it in the transaction that writes the page's records."""
    await connection.execute(
        REMEMBER,
        fingerprint,
        source,
        page.body_hash,
        page.full_fetched_at,
        page.etag,
        page.last_modified,
        sorted(page.keys),
        sorted(page.refused),
        page.prices,
        page.rejected,
        covers.to_json(page.coverage),
    )


async def save_raw_page(
    connection: Pool | Connection,
    claimed: ClaimedRun,
    source: str,
    raw: RawPage,
    body: tuple[bytes, bytes],
) -> None:
    """Store a raw page. `body`: its digest and its compressed bytes.

    Equal bodies are stored once. Stores nothing if the attempt was fenced off.
    """
    await connection.execute(
        KEEP,
        claimed.run_id,
        claimed.epoch,
        *body,
        len(raw.body),
        raw.fetched_at,
        source,
        raw.partition.key if raw.partition else None,
        raw.partition.expected if raw.partition else None,
        raw.page,
        raw.url,
        raw.status,
        {name: _printable(raw.headers[name]) for name in _KEPT_HEADERS if name in raw.headers},
    )


async def load_body(pool: Pool | Connection, body_hash: bytes) -> bytes | None:
    """Return a stored body, decompressed; None if it is not stored (any more)."""
    row = await pool.fetchrow("SELECT body, size FROM raw_bodies WHERE hash = $1", body_hash)
    return None if row is None else await _body_of(row)


async def load_unmodified(
    pool: Pool, claimed: ClaimedRun, source: str, raw: RawPage, body_hash: bytes
) -> RawPage | None:
    """Return the stored page that the 304 `raw` stands for; None if it is not stored (any more).

    RFC 9111 3.2: its headers are the stored ones, with those of the 304. A 304 has no content, so
    its content type is none of the page.
    """
    row = await pool.fetchrow(WHOLE, body_hash, source, raw.url, claimed.org_id)
    if row is None:
        return None
    headers = {**row["headers"], **raw.headers}
    if "content-type" in row["headers"]:
        headers["content-type"] = row["headers"]["content-type"]
    return replace(raw, status=HTTPStatus.OK.value, body=await _body_of(row), headers=headers)


async def _body_of(row: Record) -> bytes:
    if row["size"] > LARGE:
        return await asyncio.to_thread(_unpacked, row["body"], row["size"])
    return _unpacked(row["body"], row["size"])


async def prune(pool: Pool, now: datetime, days: float, batch: int = _BATCH) -> int:
    """Delete pages older than `days`, unused bodies, and old validators.

    Deletes `batch` rows at a time until none is left; returns how many. Safe to call concurrently.
    """
    deleted = 0
    for statement in PRUNE:
        deleted += await _delete_batches(pool, statement, now - timedelta(days=days), batch)
    return deleted + await _delete_batches(pool, PRUNE_VALIDATORS, now - _VALIDATOR_AGE, batch)


async def count_old(pool: Pool, now: datetime, days: float) -> int:
    """Count the pages older than `days`."""
    before = now - timedelta(days=days)
    return await pool.fetchval("SELECT count(*) FROM raw_pages WHERE fetched_at < $1", before)


async def _delete_batches(pool: Pool, statement: str, before: datetime, batch: int) -> int:
    deleted = 0
    while True:
        tag = await pool.execute(statement, before, batch)
        count = int(tag.removeprefix("DELETE "))
        deleted += count
        if count < batch:
            return deleted


def validator(headers: Mapping[str, str], name: str) -> str | None:
    """Return the validator in header `name`; None if it is absent or cannot be sent back."""
    value = headers.get(name, "")
    usable = value.isascii() and value.isprintable() and 0 < len(value) <= _LONGEST_VALIDATOR
    return value if usable else None


def _printable(value: str) -> str:
    # Postgres text can store neither NUL nor a lone surrogate.
    return "".join(c if c.isprintable() else "?" for c in value)
