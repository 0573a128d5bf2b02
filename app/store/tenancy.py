"""Whose rows a transaction may see: the house's connections see all, an organisation's its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from app.store.db import Connection, Pool

# Local to the transaction: the pool's next user is the house again.
NARROW = """
SELECT set_config('rollcall.house', 'off', true), set_config('rollcall.org', $1, true)
"""
BYPASSES = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"


@asynccontextmanager
async def org_transaction(pool: Pool, org_id: UUID) -> AsyncGenerator[Connection]:
    """A transaction in which Postgres itself hides every other organisation's rows.

    Rows of the house (without an organisation) can be read but not written.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(NARROW, str(org_id))
        yield connection


@asynccontextmanager
async def transaction(pool: Pool, org_id: UUID | None) -> AsyncGenerator[Connection]:
    """A transaction of that organisation, or of the house if it is None."""
    if org_id is None:
        async with pool.acquire() as connection, connection.transaction():
            yield connection
    else:
        async with org_transaction(pool, org_id) as connection:
            yield connection


async def enforced(pool: Pool | Connection) -> bool:
    """Whether Postgres keeps organisations apart: not for a superuser, nor with BYPASSRLS."""
    return not await pool.fetchval(BYPASSES)
