"""Every statement about secrets of organisations. What is kept here is sealed."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from app.store.db import Connection

PUT = """
INSERT INTO org_secrets (org_id, name, ciphertext, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, name) DO UPDATE
  SET ciphertext = excluded.ciphertext, updated_at = excluded.updated_at
"""
DELETE = "DELETE FROM org_secrets WHERE org_id = $1 AND name = $2"
NAMES = "SELECT name, updated_at FROM org_secrets WHERE org_id = $1 ORDER BY name"
SEALED = "SELECT name, ciphertext FROM org_secrets WHERE org_id = $1 AND name = ANY ($2::text[])"
ALL = "SELECT org_id, name, ciphertext FROM org_secrets ORDER BY org_id, name FOR UPDATE"


async def put(
    connection: Connection, org_id: UUID, name: str, sealed: bytes, now: datetime
) -> None:
    """Keep a sealed secret, in place of the one of that name."""
    await connection.execute(PUT, org_id, name, sealed, now)


async def delete(connection: Connection, org_id: UUID, name: str) -> bool:
    """Forget it; false if there was none."""
    return await connection.execute(DELETE, org_id, name) == "DELETE 1"


async def names(connection: Connection, org_id: UUID) -> list[tuple[str, datetime]]:
    """The names of an organisation's secrets, and when each was last set."""
    return [(row["name"], row["updated_at"]) for row in await connection.fetch(NAMES, org_id)]


async def sealed(connection: Connection, org_id: UUID, wanted: Iterable[str]) -> dict[str, bytes]:
    """Those of these names that there are, sealed."""
    rows = await connection.fetch(SEALED, org_id, list(wanted))
    return {row["name"]: row["ciphertext"] for row in rows}


async def everything(connection: Connection) -> list[tuple[UUID, str, bytes]]:
    """All secrets of all organisations, sealed, and locked until the transaction ends."""
    rows = await connection.fetch(ALL)
    return [(row["org_id"], row["name"], row["ciphertext"]) for row in rows]
