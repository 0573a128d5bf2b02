"""Statements for secrets of organisations, which are stored encrypted."""

from collections.abc import Iterable
from datetime import datetime
from uuid import UUID

from app.store.db import Connection

# Setting a secret again replaces it: there is one per organisation and name.
PUT = """
INSERT INTO org_secrets (org_id, name, ciphertext, updated_at) VALUES ($1, $2, $3, $4)
ON CONFLICT (org_id, name) DO UPDATE
  SET ciphertext = excluded.ciphertext, updated_at = excluded.updated_at
"""
# This and the next two filter by organisation themselves, in addition to row-level security.
DELETE = "DELETE FROM org_secrets WHERE org_id = $1 AND name = $2"
# Never the ciphertext: what lists secrets has no use for it.
NAMES = "SELECT name, updated_at FROM org_secrets WHERE org_id = $1 ORDER BY name"
# All secrets of a run in one statement.
SEALED = "SELECT name, ciphertext FROM org_secrets WHERE org_id = $1 AND name = ANY ($2::text[])"
# Locked in a fixed order while all secrets are encrypted with a new key.
ALL = "SELECT org_id, name, ciphertext FROM org_secrets ORDER BY org_id, name FOR UPDATE"


async def put(
    connection: Connection, org_id: UUID, name: str, sealed: bytes, now: datetime
) -> None:
    """Insert or replace an encrypted secret."""
    await connection.execute(PUT, org_id, name, sealed, now)


async def delete(connection: Connection, org_id: UUID, name: str) -> bool:
    return await connection.execute(DELETE, org_id, name) == "DELETE 1"


async def names(connection: Connection, org_id: UUID) -> list[tuple[str, datetime]]:
    """Return the names of an organisation's secrets, and when each was last set."""
    return [(row["name"], row["updated_at"]) for row in await connection.fetch(NAMES, org_id)]


async def sealed(connection: Connection, org_id: UUID, wanted: Iterable[str]) -> dict[str, bytes]:
    """Return the ciphertexts of the secrets with these names; absent ones are left out."""
    rows = await connection.fetch(SEALED, org_id, list(wanted))
    return {row["name"]: row["ciphertext"] for row in rows}


async def lock_all(connection: Connection) -> list[tuple[UUID, str, bytes]]:
    """Lock all secrets until the transaction ends; returns (organisation, name, ciphertext)."""
    rows = await connection.fetch(ALL)
    return [(row["org_id"], row["name"], row["ciphertext"]) for row in rows]
