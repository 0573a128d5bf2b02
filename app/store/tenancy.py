"""Transactions under row-level security: the operator's see all rows, an organisation's its own.

An organisation uses a quarter of a pool's connections at most, so that none waits for another's.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from uuid import UUID
from weakref import WeakValueDictionary

from app.store import db
from app.store.db import Connection, Pool

OWNER_LOCK = 0x726F_6C6C  # first key of an advisory lock whose second one is hashtext of the id
# Local to the transaction: afterwards the connection sees all rows again. The lock, which nobody
# waits for, tells others whose transaction it is.
NARROW = (
    "SET LOCAL rollcall.house = 'off'; SET LOCAL rollcall.org = '{org_id}';"
    f" SELECT pg_advisory_xact_lock_shared({OWNER_LOCK}, hashtext('{{org_id}}'))"
)
_Key = tuple[int, UUID]
_shares: WeakValueDictionary[_Key, asyncio.Semaphore] = WeakValueDictionary()
_held: ContextVar[frozenset[_Key]] = ContextVar("_held", default=frozenset())

# Not `current_setting`: a superuser bypasses the policies whatever `row_security` is.
BYPASSES = "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user"


@asynccontextmanager
async def org_transaction(pool: Pool, org_id: UUID) -> AsyncGenerator[Connection]:
    """Open a transaction in which Postgres hides the rows of all other organisations.

    Rows of the operator (without an organisation) can be read but not written.
    """
    narrow = NARROW.format(org_id=UUID(str(org_id)))  # nothing but a UUID enters the statement
    async with (
        _share(pool, org_id),
        pool.acquire() as connection,
        db.begun_with(connection, narrow),
    ):
        yield connection


@asynccontextmanager
async def _share(pool: Pool, org_id: UUID) -> AsyncGenerator[None]:
    """Wait for one of the connections that the organisation may use at once.

    What is called by one of its transactions does not wait: it could be for itself.
    """
    key, held = (id(pool), org_id), _held.get()
    if key in held:
        yield
        return
    share = _shares.get(key)
    if share is None:
        share = _shares[key] = asyncio.Semaphore(max(2, pool.get_max_size() // 4))
    async with share:
        _held.set(held | {key})
        try:
            yield
        finally:
            _held.set(held)


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
