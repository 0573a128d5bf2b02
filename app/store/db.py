"""Connections to Postgres, also through a pooler, and the classification of its errors."""

import asyncio
import json
import traceback
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Mapping
from contextlib import asynccontextmanager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, cast

import asyncpg

from app.core import log
from app.store.shared_pool import SharedPool

if TYPE_CHECKING:
    from asyncpg.pool import PoolConnectionProxy

    Pool = asyncpg.Pool[asyncpg.Record]
    Connection = asyncpg.Connection[asyncpg.Record] | PoolConnectionProxy[asyncpg.Record]
else:
    Pool = Connection = Any

# A server that shuts down, starts up, takes no writes or has no free connection is treated as
# unavailable.
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
    asyncpg.ReadOnlySQLTransactionError,  # in a failover, the standby
)


def is_from_postgres(error: BaseException) -> bool:
    """Whether asyncpg raised this one of CONNECTION_LOST: a job opens files and sockets too."""
    if not isinstance(error, OSError):
        return True
    frames = (frame.f_globals for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(str(names.get("__name__", "")).startswith("asyncpg.") for names in frames)


# Every error that waiting for an unavailable server can end in.
UNAVAILABLE = (OSError, TimeoutError, *CONNECTION_LOST)
LOCKED = (asyncpg.LockNotAvailableError,)  # another session held a lock for longer than `lock_wait`
STORAGE_FULL = (asyncpg.DiskFullError, asyncpg.OutOfMemoryError)
# What an alarm or a heartbeat that failed may try again: logged in one line, without a traceback.
TRANSIENT = (
    *UNAVAILABLE,
    *LOCKED,
    *STORAGE_FULL,
    asyncpg.QueryCanceledError,
    asyncpg.TransactionRollbackError,  # a deadlock
    asyncpg.PostgresSystemError,  # of its machine, such as an I/O error
)
INVALID_VALUES = (asyncpg.DataError,)  # a value that the column type cannot store
MISCONFIGURED = (
    asyncpg.UndefinedTableError,
    asyncpg.UndefinedColumnError,
    asyncpg.InvalidAuthorizationSpecificationError,
    asyncpg.InvalidCatalogNameError,
)

AWAY_LOG_SECONDS = 30.0  # between two lines while a process waits for Postgres

Result = TypeVar("Result")

_log = log.logger(__name__)


# Row-level security shows the operator's sessions all rows; `tenancy` narrows a transaction.
OPERATOR_SESSION = {"rollcall.house": "on"}
# Fails in one round trip, without a prepared statement, if the session lacks its settings.
_CHECK_SESSION = """
DO $$ BEGIN
  IF current_setting('rollcall.house', true) IS DISTINCT FROM 'on' THEN RAISE 'no settings'; END IF;
END $$
"""


@dataclass(slots=True)
class _Beginning:
    """Statements for a transaction to start with, and whether it has."""

    statements: str
    sent: bool = False


_BEGINNING: ContextVar[_Beginning | None] = ContextVar("beginning", default=None)


Ending = Callable[[Connection], Awaitable[None]]
_ENDING: ContextVar[Ending | None] = ContextVar("ending", default=None)


@contextmanager
def ending_with(ending: Ending) -> Generator[None]:
    """Let each transaction that the block commits, of whichever connection, end with `ending`."""
    token = _ENDING.set(ending)
    try:
        yield
    finally:
        _ENDING.reset(token)


class DirectConnection(asyncpg.Connection):
    """A connection without a pooler.

    `begun_with` adds to what begins its transactions, and `ending_with` to what ends them.
    """

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """Execute statements as asyncpg does."""
        beginning = _BEGINNING.get()
        if beginning is not None and query.startswith("BEGIN"):
            query, beginning.sent = f"{query}{beginning.statements}", True
        elif query.startswith("COMMIT") and (ending := _ENDING.get()) is not None:
            await ending(self)
        return await super().execute(query, *args, timeout=timeout)


@asynccontextmanager
async def begun_with(connection: Connection, statements: str) -> AsyncGenerator[None]:
    """Open a transaction that begins with these statements, in one round trip.

    `statements`: SQL without parameters.
    """
    transaction, beginning = connection.transaction(), _Beginning(statements)
    token = _BEGINNING.set(beginning)
    try:
        await transaction.start()
    finally:
        _BEGINNING.reset(token)
    try:
        if not beginning.sent:  # nested, or a connection of another kind
            await connection.execute(statements)
        yield
    except BaseException:
        await transaction.rollback()
        raise
    await transaction.commit()


class PooledConnection(DirectConnection):
    """A connection through a pooler in transaction mode, such as PgBouncer.

    It keeps nothing in the session: each transaction begins with the settings, and a statement
    outside of one gets its own. Prepared statements have no name.
    """

    local_settings: ClassVar[str] = ""

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109 - asyncpg's
        """Execute statements as asyncpg does."""
        if query.startswith("BEGIN") and not self.is_in_transaction():
            return await super().execute(f"{query};{self.local_settings}", timeout=timeout)
        if args or self.is_in_transaction():
            return await super().execute(query, *args, timeout=timeout)
        async with self.transaction():
            return await super().execute(query, timeout=timeout)

    async def _execute(self, *args: Any, **options: Any) -> Any:
        step = cast("Any", super())._execute  # noqa: SLF001 - all fetches pass through it
        return await self._with_settings(step, *args, **options)

    async def _executemany(self, *args: Any, **options: Any) -> Any:
        step = cast("Any", super())._executemany  # noqa: SLF001 - as above
        return await self._with_settings(step, *args, **options)

    async def _with_settings(
        self, step: Callable[..., Awaitable[Any]], *args: Any, **options: Any
    ) -> Any:
        if self.is_in_transaction():
            return await step(*args, **options)
        async with self.transaction():
            return await step(*args, **options)


async def register_json_codec(connection: Connection) -> None:
    """Register a codec that maps `jsonb` to Python values."""
    await connection.set_type_codec(
        "jsonb", schema="pg_catalog", encoder=json.dumps, decoder=json.loads
    )


async def connect(dsn: str, settings: Mapping[str, str], **options: Any) -> Connection:
    """Open a connection of the operator with these settings, directly or through a pooler.

    Raises asyncpg's errors.
    """
    settings = {**OPERATOR_SESSION, **settings}
    options = {"timeout": 10, "record_class": asyncpg.Record} | options
    options.pop("connection_class", None)
    try:
        direct = await asyncpg.connect(
            dsn, connection_class=DirectConnection, server_settings=dict(settings), **options
        )
    except asyncpg.ProtocolViolationError as error:
        if "startup parameter" not in str(error):
            raise
    else:
        try:
            await direct.execute(_CHECK_SESSION)
        except asyncpg.RaiseError:
            await direct.close()
        except BaseException:
            direct.terminate()
            raise
        else:
            await register_json_codec(direct)
            return direct
    local = "".join(f"SET LOCAL {name} = '{value}';" for name, value in settings.items())
    kind = type("PooledConnection", (PooledConnection,), {"local_settings": local})
    pooled = await asyncpg.connect(dsn, connection_class=kind, statement_cache_size=0, **options)
    await register_json_codec(pooled)
    return pooled


async def outwait_locks(step: Callable[[], Awaitable[Result]]) -> Result:
    """The result of `step`, repeated while another session holds a lock that it needs.

    And if Postgres has chosen it to end a deadlock. `step` must be one transaction. The caller's
    own time limit ends the waiting.
    """
    while True:
        try:
            return await step()
        except (*LOCKED, asyncpg.DeadlockDetectedError, asyncpg.SerializationError) as error:
            _log.warning("postgres.locked", error=str(error))


async def _skip_reset(_: Connection) -> None:
    """Skip the reset round trip: no session state outlives a transaction."""


# What asyncpg.create_pool gives to its pool if its caller does not.
_POOL_DEFAULTS: Mapping[str, Any] = {
    "max_queries": 50_000,
    "max_inactive_connection_lifetime": 300.0,
    "loop": None,
    "connection_class": asyncpg.Connection,
    "record_class": asyncpg.Record,
}


async def create_pool(dsn: str, settings: Mapping[str, str], **options: Any) -> Pool:
    """Create a pool of the operator's connections, directly or through a pooler.

    `options`: asyncpg's. With a `min_size` of 0, Postgres need not be reachable yet.
    """

    async def open_connection(dsn: str, **more: Any) -> Connection:
        return await connect(dsn, settings, **more)

    # The stubs describe `connect` by all of asyncpg's parameters.
    create = cast("Callable[..., Awaitable[Pool]]", SharedPool)
    given = {**_POOL_DEFAULTS, **options}
    return await create(dsn, connect=open_connection, reset=_skip_reset, **given)


def session_settings(idle_limit: float, lock_wait: float = 10.0) -> dict[str, str]:
    """The settings of a session; the seconds are those of `open_pool`."""
    return {
        "application_name": "rollcall",
        "timezone": "UTC",
        # Data is in memory or on flash, where random reads cost about as much as sequential ones.
        "random_page_cost": "1.1",
        "idle_in_transaction_session_timeout": str(round(idle_limit * 1000)),
        "lock_timeout": str(round(lock_wait * 1000)),
    }


async def open_pool(  # noqa: PLR0913 - settings, by keyword
    dsn: str,
    *,
    size: int,
    wait_seconds: float = 30.0,
    idle_limit: float = 60.0,
    lock_wait: float = 10.0,
    statement_limit: float = 30.0,
    plan_once: bool = False,
) -> Pool:
    """Open a pool of up to `size` connections; wait up to `wait_seconds` seconds for Postgres.

    `idle_limit`: seconds after which Postgres ends an idle transaction, so that a suspended process
    does not hold its locks. `lock_wait`: seconds that a statement waits for a lock; past that it
    raises one of LOCKED. `statement_limit`: seconds that a statement may take. `plan_once`: a
    connection plans each statement once, for any values.
    Raises the last asyncpg error if Postgres stays unavailable, and an invalid `dsn` at once.
    """
    settings = session_settings(idle_limit, lock_wait)
    if plan_once:
        settings["plan_cache_mode"] = "force_generic_plan"
    clock = asyncio.get_running_loop().time
    deadline, log_at = clock() + wait_seconds, clock()
    while True:
        try:
            return await create_pool(
                dsn, settings, min_size=1, max_size=size, command_timeout=statement_limit
            )
        except asyncpg.ClientConfigurationError:
            raise  # an InterfaceError too, but retrying does not fix a DSN
        except UNAVAILABLE as error:
            if clock() >= deadline:
                raise
            if clock() >= log_at:
                from app.store import server_faults  # noqa: PLC0415 - which imports this module

                _log.warning("postgres.away", error=server_faults.postgres_sentence(error))
                log_at = clock() + AWAY_LOG_SECONDS
            await asyncio.sleep(0.5)
