"""Sites that do harm on purpose, on one loopback port: `python -m scripts.drill.hostile_sites`.

Prints its base URL, then serves until it is ended.
"""

import asyncio
import contextlib
import gzip
import os
import sys
from collections.abc import Awaitable, Callable

from scripts.tcp_server import tcp_server

CHUNK = b"1\r\nx\r\n"
HEAD = b"HTTP/1.1 200 OK\r\nconnection: close\r\n"
_EVIL_ROWS = ", ".join(
    f'{{"id": {n}, "name": "=cmd|x [/b] \\u001b[2J\\u001b]0;x\\u0007 \\u202e {n}"}}'
    for n in range(200)
)
EVIL = f'{{"items": [{_EVIL_ROWS}]}}'

Write = Callable[[bytes], Awaitable[None]]
Attack = Callable[[Write], Awaitable[None]]


async def interim(write: Write) -> None:
    """Answer with interim responses without end."""
    while True:
        await write(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n" * 200)


async def drip(write: Write) -> None:
    """Send a body in chunks of one byte."""
    await write(HEAD + b"content-type: application/json\r\ntransfer-encoding: chunked\r\n\r\n")
    while True:
        await write(CHUNK * 2_000)


async def bomb(write: Write) -> None:
    """Send a small page that is a large one of many elements."""
    body = gzip.compress(b"<html><body>" + b"<li>" * 2_300_000, 1)
    await write(_page(body, b"text/html\r\ncontent-encoding: gzip"))


async def large(write: Write) -> None:
    """Send a large page of rows."""
    rows = ", ".join(f'{{"id": {n}, "name": "{"x" * 450}"}}' for n in range(19_000))
    await write(_page(f'{{"items": [{rows}]}}'.encode(), b"application/json"))


async def later(write: Write) -> None:
    """Ask for an hour of patience."""
    await write(b"HTTP/1.1 429 Slow down\r\nretry-after: 3600\r\ncontent-length: 0\r\n\r\n")


async def silent(write: Write) -> None:
    """Never answer."""
    del write
    await asyncio.sleep(3_600)


async def evil(write: Write) -> None:
    """Send rows that are markup, escapes and formulas."""
    await write(_page(EVIL.encode(), b"application/json"))


async def robots(write: Write) -> None:
    """Send the largest robots.txt that is read."""
    lines = b"user-agent: *\n" + b"".join(b"disallow: /%d\n" % n for n in range(30_000))
    await write(_page(lines, b"text/plain"))


ATTACKS: dict[str, Attack] = {
    attack.__name__: attack for attack in (interim, drip, bomb, large, later, silent, evil, robots)
}


def _page(body: bytes, kind: bytes) -> bytes:
    return HEAD + b"content-type: %s\r\ncontent-length: %d\r\n\r\n" % (kind, len(body)) + body


async def _visit(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    async def write(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    with contextlib.suppress(asyncio.LimitOverrunError):
        head = await reader.readuntil(b"\r\n\r\n")
        name = head.split(b" ", 2)[1].decode(errors="replace").strip("/").partition("/")[0]
        attack = ATTACKS["robots"] if name == "robots.txt" else ATTACKS.get(name, evil)
        await attack(write)


async def serve() -> None:
    """Serve until the process is ended."""
    async with tcp_server(_visit) as port:
        sys.stdout.write(f"http://127.0.0.1:{port}\n")
        sys.stdout.flush()
        await asyncio.Event().wait()


if __name__ == "__main__":
    os.nice(19)  # a site is elsewhere, and takes no CPU time of ours
    asyncio.run(serve())
