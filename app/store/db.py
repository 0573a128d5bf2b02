"""The connection pool: asyncpg, JSON as Python values, and patience while Postgres is away."""

import asyncio
import json
from typing import TYPE_CHECKING, Any

import asyncpg

from app import log

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = Connection = Any

# Shutting down, starting up and being full are answers of a server that is as good as away.
GONE = (
    ConnectionError,
    FileNotFoundError,  # of its socket
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,  # asked right after the server had said that it shuts down
    asyncpg.AdminShutdownError,
    asyncpg.CrashShutdownError,
    asyncpg.CannotConnectNowError,
    asyncpg.TooManyConnectionsError,
)

# All that waiting for it can end in.
AWAY = (OSError, TimeoutError, *GONE)
REFUSED = (asyncpg.DataError,)  # a value that no column takes
UNFIT = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

_log = log.logger(__name__)


# Row-level security lets the house see all rows; an organisation's transaction gives that up.
HOUSE = {"rollcall.house": "on"}


async def speak_json(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def _nothing_left(_: Connection) -> None:
    """Spare the round trip that clears a session: ours holds nothing beyond its transaction."""


async def open_pool(
    dsn: str, *, size: int, patience: float = 30.0, idle_limit: float = 60.0
) -> Pool:
    """Open up to `size` connections; wait up to `patience` seconds for Postgres to be there.

    `idle_limit`: seconds after which Postgres ends a transaction whose owner says nothing more; a
    process that was stopped in the midst of one must not keep its locks from the living.
    Raises what asyncpg raised last when Postgres stays away, and at once what is wrong with `dsn`.
    """
    settings = HOUSE | {
        "application_name": "rollcall",
        "timezone": "UTC",
        # What is asked for is in memory or on flash: looking up a page costs what reading on does.
        "random_page_cost": "1.1",
        "idle_in_transaction_session_timeout": str(round(idle_limit * 1000)),
    }
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                init=speak_json,
                reset=_nothing_left,
                command_timeout=30,
                timeout=10,
                server_settings=settings,
            )
        except asyncpg.ClientConfigurationError:
            raise  # an InterfaceError too, but waiting mends no DSN
        except AWAY as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            _log.warning("postgres.away", error=str(error))
            await asyncio.sleep(0.5)
