"""The asyncpg connection pool, its JSON codec, and the classification of Postgres errors."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg

from app.core import log

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = Connection = Any

# A server that shuts down, starts up or has no free connection is treated as unavailable.
CONNECTION_LOST = (
    ConnectionError,
    FileNotFoundError,  # the Unix socket
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # raised by a query right after the server announced its shutdown
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)

# Every error that waiting for an unavailable server can end in.
UNAVAILABLE = (OSError, TimeoutError, *CONNECTION_LOST)
INVALID_VALUES = (asyncpg.DataError,)  # a value that the column type cannot store
MISCONFIGURED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_log = log.logger(__name__)


# Row-level security shows the operator's sessions all rows; `tenancy` narrows a transaction.
OPERATOR_SESSION = {"rollcall.house": "on"}


async def register_json_codec(connection: Connection) -> None:
    """Register a codec that maps `jsonb` to Python values."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _skip_reset(_: Connection) -> None:
    """Skip the reset round trip: no session state outlives a transaction."""


async def open_pool(
    dsn: str, *, size: int, wait_seconds: float = 30.0, idle_limit: float = 60.0
) -> Pool:
    """Open a pool of up to `size` connections; wait up to `wait_seconds` seconds for Postgres.

    `idle_limit`: seconds after which Postgres ends an idle transaction, so that a suspended process
    does not hold its locks.
    Raises the last asyncpg error if Postgres stays unavailable, and an invalid `dsn` at once.
    """
    settings = OPERATOR_SESSION | {
        "application_name": "rollcall",
        "timezone": "UTC",
        # Data is in memory or on flash, where random reads cost about as much as sequential ones.
        "random_page_cost": "1.1",
        "idle_in_transaction_session_timeout": str(round(idle_limit * 1000)),
    }
    deadline = asyncio.get_running_loop().time() + wait_seconds
    while True:
        try:
            return await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                init=register_json_codec,
                reset=_skip_reset,
                command_timeout=30,
                timeout=10,
                server_settings=settings,
            )
        except asyncpg.ClientConfigurationError:
            raise  # an InterfaceError too, but retrying does not fix a DSN
        except UNAVAILABLE as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            _log.warning("postgres.away", error=str(error))
            await asyncio.sleep(0.5)
