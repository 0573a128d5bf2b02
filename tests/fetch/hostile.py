"""A web server that misbehaves on purpose: raw sockets on loopback, one request per connection."""

import asyncio
import contextlib
import gzip
import socket
import struct
import zlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass

from scripts.tcp_server import tcp_server

PAGE = b'{"events": [1, 2, 3]}'


@dataclass(frozen=True, slots=True)
class Visit:
    """One request as it came, the how-manieth it is (from 1), and the way to answer it."""

    head: str
    count: int
    writer: asyncio.StreamWriter

    @property
    def path(self) -> str:
        """The path that was asked for, with its query."""
        return self.head.split(" ", 2)[1]

    async def say(self, raw: bytes) -> None:
        """Send `raw` as it is."""
        self.writer.write(raw)
        await self.writer.drain()

    async def answer(self, status: str = "200 OK", body: bytes = PAGE, **headers: str) -> None:
        """Send a whole and honest answer; `content_type` becomes `content-type`."""
        result = {"content_type": "application/json", "content_length": str(len(body)), **headers}
        lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in result.items())
        await self.say(f"HTTP/1.1 {status}\r\n{lines}connection: close\r\n\r\n".encode() + body)

    def reset(self) -> None:
        """Cut the connection off without a goodbye."""
        raw: socket.socket = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def hang(self) -> None:
        """Say nothing more, until the server closes."""
        await asyncio.Event().wait()


Handler = Callable[[Visit], Awaitable[None]]


@contextlib.asynccontextmanager
async def serving(handler: Handler) -> AsyncGenerator[str]:
    """Serve `handler` on loopback; yields the base address."""
    seen = 0

    async def visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal seen
        head = await reader.readuntil(b"\r\n\r\n")
        seen += 1
        await handler(Visit(head.decode("latin-1"), seen, writer))

    async with tcp_server(visit) as port:
        yield f"http://127.0.0.1:{port}"


def bomb(megabytes: int) -> bytes:
    """That many megabytes of zeros, as one gzip stream a thousand times smaller."""
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    zeros = bytes(1 << 20)
    first = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(zeros) + packer.flush(zlib.Z_FULL_FLUSH)
    return first + block * (megabytes - 1) + packer.flush()


def zipped(body: bytes = PAGE) -> bytes:
    """`body` in gzip."""
    return gzip.compress(body, mtime=0)


async def endless_interim_responses(visit: Visit) -> None:
    """Send 1xx responses for ever."""
    while True:
        await visit.say(b"HTTP/1.1 103 Early Hints\r\n\r\n" * 2_000)


async def chunks_of_one_byte(visit: Visit) -> None:
    """Send a body in chunks of one byte, for ever."""
    await visit.say(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    while True:
        await visit.say(b"1\r\n \r\n" * 10_000)


async def packets_of_one_byte(visit: Visit) -> None:
    """Send a body of 900 kB byte by byte, as fast as they are read."""
    await visit.say(
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 900000\r\n\r\n"
    )
    while True:
        await visit.say(b" ")
        await asyncio.sleep(0)
