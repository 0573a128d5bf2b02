"""Reading of response bodies, with size limits before and after decompression."""

import asyncio
import zlib
from collections.abc import Iterator

import httpx

from app.core.errors import Network, Schema, TooLarge
from app.fetch.exchange_thread import declared_length
from app.fetch.large_pages import LARGE_BYTES, enlarge_for

MAX_INLINE_BYTES = 32 * 1024  # larger bodies are inflated off the event loop
_SLICE = 64 * 1024
_INFLATE_STEP = 256 * 1024
_MAX_GZIP_MEMBERS = 1_000
_GZIP_WBITS = 16 + zlib.MAX_WBITS
_GZIP_MAGIC = b"\x1f"
_GZIP_FILE = b"\x1f\x8b\x08"  # no page that is read here begins with it
_GZIP_ENCODINGS = frozenset({"gzip", "x-gzip"})
_COMPRESSED = frozenset({*_GZIP_ENCODINGS, "deflate"})
_UNREQUESTED = frozenset({"br", "zstd", "compress", "x-compress", "dcb", "dcz"})
_MAX_LAYERS = 3


async def read(response: httpx.Response, limit: int) -> bytes:
    """The decoded body of `response`, at most `limit` bytes; a gzip file is opened.

    Raises TooLarge beyond `limit`, Network if the compressed body is truncated or corrupt, and
    Schema for a content encoding that was not requested. httpx's errors pass through.
    """
    raw = await _read_raw(response, limit)
    encoding = response.headers.get("content-encoding", "").strip().lower()
    is_plain = not encoding and not raw.startswith(_GZIP_FILE)
    if is_plain:
        return raw
    first = min(limit, LARGE_BYTES)
    try:
        if len(raw) <= MAX_INLINE_BYTES:
            return decode(raw, encoding, first)
        return await asyncio.to_thread(decode, raw, encoding, first)
    except TooLarge:
        if first == limit:
            raise
        await enlarge_for(LARGE_BYTES + 1)
        return await asyncio.to_thread(decode, raw, encoding, limit)


async def read_start(response: httpx.Response, limit: int) -> bytes:
    """The first `limit` bytes of an error page, decoded; empty if they cannot be decoded."""
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


async def _read_raw(response: httpx.Response, limit: int) -> bytes:
    declared = declared_length(response)
    if declared > limit:
        raise TooLarge(f"Content-Length is {declared} bytes; the limit is {limit}")
    raw = bytearray()
    async for chunk in response.aiter_raw():
        raw += chunk
        if len(raw) > limit:
            raise TooLarge(f"the body exceeds {limit} bytes")
    return bytes(raw)


def decode(raw: bytes, encoding: str, limit: int) -> bytes:
    """`raw` without its content encodings, and unpacked if it is a gzip file (`.xml.gz`).

    As in browsers, the encodings are undone from the last to the first, and words that name none
    (`none`, `utf-8`) are ignored. Raises as `read` does.
    """
    layers = [name.strip() for name in encoding.split(",")]
    refused = next((name for name in layers if name in _UNREQUESTED), None)
    if refused is not None:
        raise Schema(f"content-encoding {refused!r} was not requested")
    compressed = [name for name in layers if name in _COMPRESSED]
    if len(compressed) > _MAX_LAYERS:
        raise Schema(f"the body is compressed {len(compressed)} times")
    for name in reversed(compressed if raw else []):
        raw = _decompressed(raw, name, limit)
    return _decompressed(raw, "gzip", limit) if raw.startswith(_GZIP_FILE) else raw


def _decompressed(raw: bytes, encoding: str, limit: int) -> bytes:
    pieces: list[bytes] = []
    size = 0
    wbits = _GZIP_WBITS if encoding in _GZIP_ENCODINGS else _deflate_wbits(raw)
    try:
        for piece in _inflate(raw, wbits):
            size += len(piece)
            if size > limit:
                raise TooLarge(f"the decompressed body exceeds {limit} bytes")
            pieces.append(piece)
    except zlib.error as error:
        raise Network(f"the {encoding} body is corrupt") from error
    return b"".join(pieces)


def _deflate_wbits(raw: bytes) -> int:
    # In RFC 9110 "deflate" is the zlib format, but some servers send a raw deflate stream.
    wrapped = len(raw) > 1 and raw[0] & 0x0F == zlib.DEFLATED and (raw[0] << 8 | raw[1]) % 31 == 0
    return zlib.MAX_WBITS if wrapped else -zlib.MAX_WBITS


def _inflate(raw: bytes, wbits: int) -> Iterator[bytes]:
    stream = zlib.decompressobj(wbits)
    members = 1
    for offset in range(0, len(raw), _SLICE):
        data = raw[offset : offset + _SLICE]
        while data:
            if stream.eof:
                if (
                    wbits != _GZIP_WBITS
                    or not data.startswith(_GZIP_MAGIC)
                    or members == _MAX_GZIP_MEMBERS
                ):
                    return  # ignore trailing data, as gzip(1) does
                stream = zlib.decompressobj(wbits)
                members += 1
            yield stream.decompress(data, _INFLATE_STEP)
            data = stream.unused_data if stream.eof else stream.unconsumed_tail
    while not stream.eof:
        if not (piece := stream.decompress(b"", _INFLATE_STEP)):
            raise Network("the compressed body is truncated")
        yield piece
