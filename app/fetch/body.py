"""The body of an answer: read and inflated with a bound on both sides of the decompression."""

import asyncio
import zlib
from collections.abc import Iterator

import httpx

from app.errors import Network, Schema, TooLarge

INLINE = 32 * 1024  # larger bodies are inflated off the event loop
_SLICE = 64 * 1024
_STEP = 256 * 1024
_MEMBERS = 1_000
_GZIP = 16 + zlib.MAX_WBITS
_MAGIC = b"\x1f"
_PLAIN = frozenset({"", "identity"})
_GZIPPED = frozenset({"gzip", "x-gzip"})


async def read(response: httpx.Response, limit: int) -> bytes:
    """The body of `response`, decoded, at most `limit` bytes.

    Raises TooLarge beyond `limit`, Network if the compressed body breaks off, Schema if it is
    encoded in a way nobody asked for; httpx's errors pass through.
    """
    raw = await _gather(response, limit)
    encoding = response.headers.get("content-encoding", "").strip().lower()
    if len(raw) <= INLINE or encoding in _PLAIN:
        return decode(raw, encoding, limit)
    return await asyncio.to_thread(decode, raw, encoding, limit)


async def start(response: httpx.Response, limit: int) -> bytes:
    """What can be had of the first `limit` bytes of an error page, decoded; empty if unreadable."""
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) >= limit:
            break
    encoding = response.headers.get("content-encoding", "").strip().lower()
    try:
        return decode(bytes(raw), encoding, limit)
    except (Network, Schema, TooLarge):
        return b""


async def _gather(response: httpx.Response, limit: int) -> bytes:
    declared = response.headers.get("content-length", "")
    if declared.isascii() and declared.isdigit() and int(declared[:18]) > limit:
        raise TooLarge(f"the answer says it has {declared[:18]} bytes; at most {limit} are read")
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > limit:
            raise TooLarge(f"the answer has more than {limit} bytes")
    return bytes(raw)


def decode(raw: bytes, encoding: str, limit: int) -> bytes:
    """`raw` without its content encoding: gzip, deflate or none. Raises as `read` does."""
    if encoding in _PLAIN or not raw:
        return raw
    if encoding not in _GZIPPED and encoding != "deflate":
        raise Schema(f"content-encoding {encoding[:40]!r}, which was not asked for")
    pieces: list[bytes] = []
    size = 0
    try:
        for piece in _inflated(raw, _GZIP if encoding in _GZIPPED else _deflate_bits(raw)):
            size += len(piece)
            if size > limit:
                raise TooLarge(f"the answer inflates to more than {limit} bytes")
            pieces.append(piece)
    except zlib.error as error:
        raise Network(f"the {encoding} body is broken") from error
    return b"".join(pieces)


def _deflate_bits(raw: bytes) -> int:
    # RFC 9110 means zlib by "deflate", but some servers send the bare stream.
    wrapped = len(raw) > 1 and raw[0] & 0x0F == zlib.DEFLATED and (raw[0] << 8 | raw[1]) % 31 == 0
    return zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS


def _inflated(raw: bytes, wbits: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits)
    members = 1
    for offset in range(0, len(raw), _SLICE):
        data = raw[offset : offset + _SLICE]
        while data:
            if stream.eof:
                if wbits != _GZIP or not data.startswith(_MAGIC) or members == _MEMBERS:
                    return  # what follows the end is padding, as for gzip(1)
                stream = zlib.decompressobj(wbits)
                members += 1
            yield stream.decompress(data, _STEP)
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
    while not stream.eof:
        if not (piece := stream.decompress(b"", _STEP)):
            raise Network("the compressed body breaks off")
        yield piece
