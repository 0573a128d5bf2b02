"""Messages between a process and its child: each with its length, in four bytes, before it."""

import struct
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from asyncio import StreamReader, StreamWriter

_LENGTH = struct.Struct(">I")


def write(stream: "BinaryIO | StreamWriter", body: bytes) -> None:
    """Write the message, which is not copied for that."""
    stream.write(_LENGTH.pack(len(body)))
    stream.write(body)


def read(stream: BinaryIO) -> bytes | None:
    """Return the next message; None at the end of the stream."""
    head = stream.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        return None
    return stream.read(_LENGTH.unpack(head)[0])


async def read_async(stream: "StreamReader", limit: int | None = None) -> bytes:
    """Return the next message. Raises EOFError at the end, or if it is longer than `limit` bytes.

    asyncio's IncompleteReadError is an EOFError.
    """
    (size,) = _LENGTH.unpack(await stream.readexactly(_LENGTH.size))
    if limit is not None and size > limit:
        raise EOFError
    return await stream.readexactly(size)
