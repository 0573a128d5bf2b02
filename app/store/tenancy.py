"""Transactions under row-level security: the operator's see all rows, an organisation's its own."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from uuid import UUID

from app.store.db import Connection, Pool

# Local to the transaction: afterwards the connection sees all rows again.
NARROW = """
SELECT set_config('rollcall.house', 'off', true), set_config('rollcall.org', $1, true)
"""
BYPASSES = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"


@asynccontextmanager
async def org_transaction(pool: Pool, org_id: UUID) -> AsyncGenerator[Connection]:
    """Open a transaction in which Postgres hides the rows of all other organisations.

    Rows of the operator (without an organisation) can be read but not written.
    """
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(NARROW, str(org_id))
        yield connection


@asynccontextmanager
async def transaction(pool: Pool, org_id: UUID | None) -> AsyncGenerator[Connection]:
    """Open a transaction of that organisation, or of the operator if it is None."""
    if org_id is None:
        async with pool.acquire() as connection, connection.transaction():
            yield connection
    else:
        async with org_transaction(pool, org_id) as connection:
            yield connection


async def rls_enforced(pool: Pool | Connection) -> bool:
    """Return whether row-level security applies: not for a superuser, nor with BYPASSRLS."""
    return not await pool.fetchval(BYPASSES)
