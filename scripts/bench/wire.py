"""Counts what a process exchanges with Postgres and Redis, by relaying its connections.

The relays listen on Unix sockets in this process, so that every byte of a step has passed them when
the step's last answer arrives. Nothing is timed.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Self
from urllib.parse import parse_qs, urlsplit

from app.core.tasks import gather_fail_fast

CHUNK = 1 << 16
ROUND_TRIP_ENDS = b"SQH"  # Sync, Query, Flush: each asks Postgres to answer
STATEMENTS = b"EQ"  # Execute, Query


@dataclass(slots=True)
class Traffic:
    """Statements, round trips and bytes (of both directions)."""

    postgres_statements: int = 0
    postgres_trips: int = 0
    postgres_bytes: int = 0
    redis_commands: int = 0
    redis_trips: int = 0
    redis_bytes: int = 0

    def __sub__(self, other: Self) -> "Traffic":
        pairs = zip(astuple(self), astuple(other), strict=True)
        return Traffic(*(mine - theirs for mine, theirs in pairs))

    def copy(self) -> "Traffic":
        """Return the counts so far."""
        return Traffic(*astuple(self))


class PostgresMessages:
    """Counts the messages that a client sends."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._buffer = bytearray()
        self._started = False  # the first message has no type

    def feed(self, data: bytes) -> None:
        """Count what the client sent."""
        self._traffic.postgres_bytes += len(data)
        self._buffer += data
        while True:
            header = 1 if self._started else 0
            if len(self._buffer) < header + 4:
                return
            size = header + int.from_bytes(self._buffer[header : header + 4])
            if len(self._buffer) < size:
                return
            kind = self._buffer[:header]
            self._traffic.postgres_statements += bool(header) and kind in STATEMENTS
            self._traffic.postgres_trips += bool(header) and kind in ROUND_TRIP_ENDS
            self._started = True
            del self._buffer[:size]

    def answered(self, data: bytes) -> None:
        """Count what the server sent."""
        self._traffic.postgres_bytes += len(data)


class RedisCommands:
    """Counts the commands that a client sends, and how often it waits for an answer."""

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._buffer = bytearray()
        self._asking = False

    def feed(self, data: bytes) -> None:
        """Count what the client sent."""
        self._traffic.redis_bytes += len(data)
        self._traffic.redis_trips += not self._asking
        self._asking = True
        self._buffer += data
        while (end := self._command_end()) is not None:
            self._traffic.redis_commands += 1
            del self._buffer[:end]

    def answered(self, data: bytes) -> None:
        """Count what the server sent."""
        self._traffic.redis_bytes += len(data)
        self._asking = False

    def _command_end(self) -> int | None:
        """Return where the first command ends: an array of strings, each with its length."""
        at = self._buffer.find(b"\r\n")
        if at < 0:
            return None
        for _ in range(int(self._buffer[1:at])):
            line = self._buffer.find(b"\r\n", at + 2)
            if line < 0:
                return None
            at = line + 2 + int(self._buffer[at + 3 : line])
            if len(self._buffer) < at + 2:
                return None
        return at + 2


Parser = PostgresMessages | RedisCommands


class Relay:
    """A server that relays each connection to a Unix socket, and counts what passes."""

    def __init__(self, target: Path, parser: Callable[[], Parser]) -> None:
        self._target, self._parser = target, parser
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, listen: Path) -> asyncio.Server:
        """Listen on a Unix socket."""
        return await asyncio.start_unix_server(self._accept, listen)

    async def close(self) -> None:
        """End the connections that are still open."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next iteration

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._relay(reader, writer))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        theirs, ours = await asyncio.open_unix_connection(self._target)
        counted = self._parser()
        try:
            await gather_fail_fast(
                [_pump(reader, ours, counted.feed), _pump(theirs, writer, counted.answered)]
            )
        except OSError:
            return
        finally:
            ours.close()
            writer.close()


async def _pump(
    source: asyncio.StreamReader, target: asyncio.StreamWriter, count: Callable[[bytes], None]
) -> None:
    while data := await source.read(CHUNK):
        count(data)
        target.write(data)
    target.close()


@dataclass(frozen=True, slots=True)
class Relayed:
    """URLs that lead through the relays, and what has passed them."""

    database_url: str
    redis_url: str
    traffic: Traffic


@asynccontextmanager
async def relayed(database_url: str, redis_url: str, folder: Path) -> AsyncGenerator[Relayed]:
    """Relay the connections to these servers, which listen on Unix sockets."""
    traffic = Traffic()
    database, redis = urlsplit(database_url), urlsplit(redis_url)
    query = parse_qs(database.query)
    name = f".s.PGSQL.{query['port'][0]}"
    async with AsyncExitStack() as stack:
        for listen, target, parser in (
            (folder / name, Path(query["host"][0]) / name, lambda: PostgresMessages(traffic)),
            (folder / "redis", Path(redis.path), lambda: RedisCommands(traffic)),
        ):
            relay = Relay(target, parser)
            server = await relay.start(listen)
            stack.push_async_callback(relay.close)
            stack.callback(server.close)
        yield Relayed(
            database_url.replace(query["host"][0], str(folder), 1),
            redis_url.replace(redis.path, str(folder / "redis"), 1),
            traffic,
        )


NAMES = tuple(field.name for field in fields(Traffic))
