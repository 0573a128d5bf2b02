"""Connections to Redis that do less for each command than redis-py's own.

redis-py starts a task with a timer for each command it sends, looks at the socket with a timer that
expires at once before it, and takes a lock before and after. Here a command is handed to the socket
directly, the connection's buffers tell whether it is clean, and the lock is only taken when
somebody waits for a connection.
"""

from collections.abc import Iterable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Connection, ConnectionPool, SSLConnection
from redis.asyncio.connection import AbstractConnection, UnixDomainSocketConnection


class _Direct(AbstractConnection):
    """What the connections below have in common. Falls back to redis-py for all but the usual."""

    async def send_packed_command(
        self, command: bytes | str | Iterable[bytes], check_health: bool = True
    ) -> None:
        """Send a command; wait only for what the socket did not take at once."""
        writer: Any = self._writer
        usual = self.is_connected and isinstance(command, list) and not self.health_check_interval
        if not usual or writer.transport.is_closing():
            await super().send_packed_command(command, check_health)
            return
        writer.writelines(command)
        if writer.transport.get_write_buffer_size():
            await super().send_packed_command([], check_health)

    async def can_read_destructive(self) -> bool:
        """Whether data of nobody's is there to be read. Raises ConnectionError if it is closed."""
        stream: Any = self._reader
        parser: Any = self._parser
        if (
            stream is not None
            and not stream._buffer  # noqa: SLF001 - there is no public name
            and not stream.at_eof()
            and stream.exception() is None
            and not parser._reader.has_data()  # noqa: SLF001 - as above
        ):
            return False
        parent: Any = super()
        return bool(await parent.can_read_destructive())


class DirectTcpConnection(_Direct, Connection):
    """Over TCP."""


class DirectSSLConnection(_Direct, SSLConnection):
    """Over TLS."""


class DirectSocketConnection(_Direct, UnixDomainSocketConnection):
    """Over a Unix socket."""


DIRECT: dict[type[AbstractConnection], type[AbstractConnection]] = {
    Connection: DirectTcpConnection,
    SSLConnection: DirectSSLConnection,
    UnixDomainSocketConnection: DirectSocketConnection,
}


class DirectPool(BlockingConnectionPool):
    """A pool of these connections, whose callers wait when all are in use."""

    def __init__(
        self, *, connection_class: type[AbstractConnection] = Connection, **options: Any
    ) -> None:
        parent: Any = super()
        direct = DIRECT.get(connection_class, connection_class)
        parent.__init__(connection_class=direct, **options)

    async def get_connection(self, *args: Any, **options: Any) -> AbstractConnection:
        """Return a connection that is ready for a command."""
        if not self._available_connections or self._someone_waits():
            parent: Any = super()
            waited: AbstractConnection = await parent.get_connection(*args, **options)
            return waited
        connection = self.get_available_connection()
        try:
            await self.ensure_connection(connection)
        except BaseException:
            await self.release(connection)
            raise
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Give a connection back."""
        if self._someone_waits():
            await super().release(connection)
        else:
            await ConnectionPool.release(self, connection)

    def _someone_waits(self) -> bool:
        condition: Any = self._condition
        return bool(condition._waiters) or condition.locked()  # noqa: SLF001 - as above
