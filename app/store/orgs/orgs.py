"""Statements for organisations and their API tokens. For the operator's connections only."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from app.core.enums import Scope
from app.store.db import Connection, Pool


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation. `limits`: its overrides of the limits in the settings."""

    id: UUID
    name: str
    limits: dict[str, Any]
    created_at: datetime
    disabled_at: datetime | None


@dataclass(frozen=True, slots=True)
class Token:
    """A stored API token, with the hash of its secret. Without an organisation: the operator's.

    `data`: it may read the operator's odds and news.
    """

    id: UUID
    org_id: UUID | None
    org: str | None
    label: str
    scope: Scope
    hash: bytes
    created_at: datetime
    expires_at: datetime | None
    revoked_at: datetime | None
    last_used_at: datetime | None
    org_disabled_at: datetime | None
    data: bool = False


# The fields of `Org`, in their order.
BY_NAME = "SELECT id, name, limits, created_at, disabled_at FROM organizations WHERE name = $1"
BY_ID = "SELECT id, name, limits, created_at, disabled_at FROM organizations WHERE id = $1"
ORGS = "SELECT id, name, limits, created_at, disabled_at FROM organizations ORDER BY name"
# The fields of `Token`: of one, on every request.
WITH_ID = """
SELECT t.id, t.org_id, o.name AS org, t.label, t.scope, t.hash, t.created_at, t.expires_at,
       t.revoked_at, t.last_used_at, o.disabled_at AS org_disabled_at, t.data
FROM api_tokens t LEFT JOIN organizations o ON o.id = t.org_id
WHERE t.id = $1
"""
TOKENS = """
SELECT t.id, t.org_id, o.name AS org, t.label, t.scope, t.hash, t.created_at, t.expires_at,
       t.revoked_at, t.last_used_at, o.disabled_at AS org_disabled_at, t.data
FROM api_tokens t LEFT JOIN organizations o ON o.id = t.org_id
WHERE t.org_id IS NOT DISTINCT FROM $1 ORDER BY t.created_at
"""
ADD_ORG = """
INSERT INTO organizations (id, name, limits, created_at) VALUES ($1, $2, '{}', $3)
ON CONFLICT (name) DO NOTHING RETURNING id
"""
ADD = """
INSERT INTO api_tokens (id, org_id, label, scope, hash, created_at, created_by, expires_at, data)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
USED = """
UPDATE api_tokens SET last_used_at = $2
WHERE id = $1 AND (last_used_at IS NULL OR last_used_at < $2::timestamptz - interval '1 minute')
"""
LIMIT = "UPDATE organizations SET limits = limits || $2 WHERE id = $1"
UNLIMIT = "UPDATE organizations SET limits = limits - $2 WHERE id = $1"


async def create(pool: Pool | Connection, org_id: UUID, name: str, now: datetime) -> bool:
    return await pool.fetchval(ADD_ORG, org_id, name, now) is not None


async def by_name(pool: Pool | Connection, name: str) -> Org | None:
    row = await pool.fetchrow(BY_NAME, name)
    return None if row is None else Org(*row)


async def names(connection: Connection, ids: Iterable[UUID]) -> dict[UUID, str]:
    found = "SELECT id, name FROM organizations WHERE id = ANY ($1::uuid[])"
    rows = await connection.fetch(found, list(ids))
    return {row["id"]: row["name"] for row in rows}


async def one(pool: Pool | Connection, org_id: UUID) -> Org | None:
    row = await pool.fetchrow(BY_ID, org_id)
    return None if row is None else Org(*row)


async def all_of(pool: Pool | Connection) -> list[Org]:
    """Return every organisation, by name."""
    return [Org(*row) for row in await pool.fetch(ORGS)]


async def set_disabled(pool: Pool | Connection, org_id: UUID, at: datetime | None) -> None:
    """Disable an organisation from `at` on, or with None enable it again."""
    await pool.execute("UPDATE organizations SET disabled_at = $2 WHERE id = $1", org_id, at)


async def set_limit(pool: Pool | Connection, org_id: UUID, name: str, value: float | None) -> None:
    """Set an organisation's override of a limit, or with None remove it."""
    if value is None:
        await pool.execute(UNLIMIT, org_id, name)
    else:
        await pool.execute(LIMIT, org_id, {name: value})


async def add_token(pool: Pool | Connection, token: Token, by: str | None) -> None:
    """Insert a token. `by`: who created it."""
    await pool.execute(
        ADD,
        token.id,
        token.org_id,
        token.label,
        token.scope.value,
        token.hash,
        token.created_at,
        by,
        token.expires_at,
        token.data,
    )


async def token(pool: Pool | Connection, token_id: UUID) -> Token | None:
    row = await pool.fetchrow(WITH_ID, token_id)
    return None if row is None else _token(row)


async def tokens(pool: Pool | Connection, org_id: UUID | None) -> list[Token]:
    """Return the tokens of an organisation, or of the operator if it is None, oldest first."""
    return [_token(row) for row in await pool.fetch(TOKENS, org_id)]


async def mark_used(pool: Pool | Connection, token_id: UUID, now: datetime) -> None:
    """Update `last_used_at` of a token, at most once a minute."""
    await pool.execute(USED, token_id, now)


async def revoke(pool: Pool | Connection, token_id: UUID, now: datetime) -> bool:
    """Revoke a token; False if there is none or it is revoked already."""
    sql = "UPDATE api_tokens SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL RETURNING id"
    return await pool.fetchval(sql, token_id, now) is not None


def _token(row: Any) -> Token:
    fields: dict[str, Any] = dict(row)
    fields["scope"] = Scope(fields["scope"])
    return Token(**fields)
