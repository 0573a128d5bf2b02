"""Statements for idempotency keys: a repeated request with its key is answered as before.

`org_id` None is the operator.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from uuid import UUID

from app.store.db import Connection

MAX_KEYS = 1_000  # kept per organisation, and by the operator
# The operator's keys have no organisation: `=` alone would never match them.
COUNT = """
SELECT count(*) FROM idempotency_keys
WHERE (org_id = $1 OR org_id IS NULL AND $1::uuid IS NULL)
"""
# Each request deletes its owner's expired keys, so that no job has to.
PRUNE = """
DELETE FROM idempotency_keys
WHERE (org_id = $1 OR org_id IS NULL AND $1::uuid IS NULL)
  AND created_at < now() - interval '24 hours'
"""
# A request whose process died leaves its key without a status, which is free again after a minute.
RESERVE = """
INSERT INTO idempotency_keys AS i (org_id, key, fingerprint, created_at)
VALUES ($1, $2, $3, now())
ON CONFLICT (org_id, key) DO UPDATE SET fingerprint = excluded.fingerprint, created_at = now()
WHERE i.status IS NULL AND i.created_at < now() - interval '1 minute'
RETURNING true
"""
READ = """
SELECT fingerprint, status, body, headers FROM idempotency_keys
WHERE (org_id = $1 OR org_id IS NULL AND $1::uuid IS NULL) AND key = $2
"""
KEEP = """
UPDATE idempotency_keys SET status = $3, body = $4, headers = $5
WHERE (org_id = $1 OR org_id IS NULL AND $1::uuid IS NULL) AND key = $2
"""
# The same of a request that is under way, whose first answer it is.
KEEP_FIRST = """
UPDATE idempotency_keys SET status = $3, body = $4
WHERE (org_id = $1 OR org_id IS NULL AND $1::uuid IS NULL) AND key = $2 AND status IS NULL
"""
# Whether the transaction has written something.
HAS_WRITTEN = "SELECT pg_current_xact_id_if_assigned() IS NOT NULL"
# The end of an organisation's transaction sees the operator's key.
WIDEN = "SET LOCAL rollcall.house = 'on'"
RELEASE = """
DELETE FROM idempotency_keys
WHERE (org_id = $1 OR org_id IS NULL AND $1::uuid IS NULL) AND key = $2 AND status IS NULL
"""


@dataclass(frozen=True, slots=True)
class KeptAnswer:
    """The answer to an earlier request with a key. `status` is None while it is under way."""

    fingerprint: bytes
    status: int | None
    body: str | None
    headers: dict[str, str]


async def reserve(
    connection: Connection, org_id: UUID | None, key: str, fingerprint: bytes
) -> KeptAnswer | None:
    """Reserve the key; returns what is known of an earlier request if there was one."""
    await connection.execute(PRUNE, org_id)
    while not await connection.fetchval(RESERVE, org_id, key, fingerprint):
        row = await connection.fetchrow(READ, org_id, key)
        if row is not None:  # else it was freed in between
            return KeptAnswer(*row)
    return None


async def count(connection: Connection, org_id: UUID | None) -> int:
    """Return how many keys there are."""
    return await connection.fetchval(COUNT, org_id)


async def keep(
    connection: Connection,
    of: tuple[UUID | None, str],
    status: int,
    body: str | None,
    headers: Mapping[str, str],
) -> None:
    """Keep the answer to the request with this organisation and key."""
    await connection.execute(KEEP, *of, status, body, dict(headers))


async def keep_first(
    of: tuple[UUID | None, str], status: int, body: str | None, connection: Connection
) -> None:
    """Keep a first answer at the end of a transaction of the request that has written something."""
    if not await connection.fetchval(HAS_WRITTEN):
        return
    if of[0] is None:
        await connection.execute(WIDEN)
    await connection.execute(KEEP_FIRST, *of, status, body)


async def release(connection: Connection, org_id: UUID | None, key: str) -> None:
    """Free the key of a request that was refused."""
    await connection.execute(RELEASE, org_id, key)
