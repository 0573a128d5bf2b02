"""HTTP/1.1 on a bare asyncio protocol: fast, and able to send broken responses."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import msgspec

_CHUNKS = 10


class Request(msgspec.Struct, frozen=True):
    """A parsed request. Header names are lower-case; `query` is the raw text after the `?`."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    def params(self) -> dict[str, str]:
        """Return the query's parameters; of a repeated one, the last value."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def every(self, name: str) -> list[str]:
        """Return every value of a repeated parameter."""
        return [value for key, value in parse_qsl(self.query) if key == name]


class Reply(msgspec.Struct, frozen=True):
    """A response. `body` is sent unchanged."""

    status: int
    body: bytes
    media: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def head(self) -> bytes:
        """Return the status line and headers, including the empty line."""
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            f"content-type: {self.media}",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def json_reply(value: object, status: int = 200) -> Reply:
    """Return a JSON response."""
    return Reply(status, msgspec.json.encode(value))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class Connection(asyncio.Protocol):
    """One client connection. `serve` is called with each request and must end it exactly once.

    `send`, `trickle`, `truncate` and `reset` end it, at once or later. `on_end` is called when the
    exchange is over, or when the client disconnects before that.
    """

    def __init__(self, serve: Callable[[Request, "Connection"], None], peers: set["Connection"]):
        self._serve = serve
        self._peers = peers
        self._buffer = bytearray()
        self._busy = False
        self._keep = True
        self._transport: asyncio.Transport | None = None
        self._timer: asyncio.TimerHandle | None = None
        self.on_end: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  # asyncio's types are loose
        self._transport = transport
        self._peers.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        del exc
        self._peers.discard(self)
        self._transport = None
        if self._timer is not None:
            self._timer.cancel()
        self._end()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        self._next()

    def later(self, seconds: float, then: Callable[[], None]) -> None:
        """Call `then` after `seconds`, unless the client has disconnected."""
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def send(self, reply: Reply) -> None:
        """Send the complete response at once."""
        self._write(reply.head() + reply.body)
        self._finish()

    def trickle(self, reply: Reply, seconds: float) -> None:
        """Send the headers at once, and the body in chunks over `seconds`."""
        size = max(1, -(-len(reply.body) // _CHUNKS))
        chunks = [reply.body[at : at + size] for at in range(0, len(reply.body), size)]
        self._write(reply.head())
        self._send_chunks(chunks, seconds / max(1, len(chunks)))

    def truncate(self, reply: Reply) -> None:
        """Announce the whole body, send half of it and close the connection."""
        self._write(reply.head() + reply.body[: len(reply.body) // 2])
        self._keep = False
        self._finish()

    def reset(self) -> None:
        """Send a TCP reset without a response."""
        if self._transport is None:
            return
        peer: socket.socket = self._transport.get_extra_info("socket")
        # Closing a socket with a linger time of 0 sends RST to the peer.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close(self) -> None:
        """Abort the connection."""
        if self._transport is not None:
            self._transport.abort()

    def _send_chunks(self, chunks: list[bytes], pause: float) -> None:
        if not chunks:
            self._finish()
            return
        self._write(chunks[0])
        self.later(pause, lambda: self._send_chunks(chunks[1:], pause))

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _finish(self) -> None:
        self._end()
        self._busy = False
        if not self._keep and self._transport is not None:
            self._transport.close()
        elif self._buffer:
            self._next()

    def _end(self) -> None:
        ended, self.on_end = self.on_end, None
        if ended is not None:
            ended()

    def _next(self) -> None:
        if self._busy or self._transport is None:
            return
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        head = self._buffer[:end].decode("latin-1")
        first, *lines = head.split("\r\n")
        headers = dict(_header(line) for line in lines)
        length = int(headers.get("content-length", "0"))
        if len(self._buffer) < end + 4 + length:
            return
        body = bytes(self._buffer[end + 4 : end + 4 + length])
        del self._buffer[: end + 4 + length]
        self._take(first, headers, body)

    def _take(self, first: str, headers: dict[str, str], body: bytes) -> None:
        method, target, version = first.split(" ", 2)
        self._busy = True
        self._keep = headers.get("connection", "").lower() != "close" and version == "HTTP/1.1"
        if "transfer-encoding" in headers:
            self._keep = False
            self.send(Reply(411, b"content-length required", "text/plain"))
            return
        path, _, query = target.partition("?")
        self._serve(Request(method, unquote(path), query, headers, body), self)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
