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

AWAY = (OSError, asyncpg.PostgresConnectionError, asyncpg.InterfaceError, TimeoutError)

_log = log.logger(__name__)


async def _speak_json(connection: Connection) -> None:
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def open_pool(dsn: str, *, size: int, patience: float = 30.0) -> Pool:
    """Open up to `size` connections; wait up to `patience` seconds for Postgres to be there.

    Raises what asyncpg raised last when Postgres stays away.
    """
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        try:
            return await asyncpg.create_pool(
                dsn,
                min_size=1,
                max_size=size,
                init=_speak_json,
                command_timeout=30,
                timeout=10,
                server_settings={"application_name": "rollcall", "timezone": "UTC"},
            )
        except AWAY as error:
            if asyncio.get_running_loop().time() > deadline:
                raise
            _log.warning("postgres.away", error=str(error))
            await asyncio.sleep(0.5)
