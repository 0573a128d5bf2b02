"""HTTP/1.1 on a bare asyncio protocol: fast, and able to break an answer in every way there is."""

import asyncio
import socket
import struct
from collections.abc import Callable, Mapping
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote

import msgspec

_PIECES = 10


class Request(msgspec.Struct, frozen=True):
    """What was asked. Header names are lower-case; `query` is the raw text after the `?`."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes = b""

    def params(self) -> dict[str, str]:
        """The query's parameters; of a repeated one, the last."""
        return dict(parse_qsl(self.query, keep_blank_values=True))

    def every(self, name: str) -> list[str]:
        """Every value of a repeated parameter."""
        return [value for key, value in parse_qsl(self.query) if key == name]


class Reply(msgspec.Struct, frozen=True):
    """What is answered. `body` goes out as it is."""

    status: int
    body: bytes
    media: str = "application/json"
    headers: tuple[tuple[str, str], ...] = ()

    def head(self) -> bytes:
        """The status line and headers, up to and with the empty line."""
        lines = [
            f"HTTP/1.1 {self.status} {_phrase(self.status)}",
            f"content-type: {self.media}",
            f"content-length: {len(self.body)}",
            *(f"{name}: {value}" for name, value in self.headers),
        ]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


def json_reply(value: object, status: int = 200) -> Reply:
    """A JSON answer."""
    return Reply(status, msgspec.json.encode(value))


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return "Unknown"


class Connection(asyncio.Protocol):
    """One client connection. `serve` is called with each request and must end it exactly once.

    Ending it is one of `send`, `trickle`, `truncate` and `reset`, at once or later. `on_end` is
    called when the exchange is over, also when the client went away before that.
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
        """Call `then` in so many seconds, unless the client has gone by then."""
        self._timer = asyncio.get_running_loop().call_later(seconds, then)

    def send(self, reply: Reply) -> None:
        """Answer, whole and at once."""
        self._write(reply.head() + reply.body)
        self._finish()

    def trickle(self, reply: Reply, seconds: float) -> None:
        """Answer with the head at once, and the body in pieces over so many seconds."""
        size = max(1, -(-len(reply.body) // _PIECES))
        pieces = [reply.body[at : at + size] for at in range(0, len(reply.body), size)]
        self._write(reply.head())
        self._drip(pieces, seconds / max(1, len(pieces)))

    def truncate(self, reply: Reply) -> None:
        """Promise the whole body, send half of it and hang up."""
        self._write(reply.head() + reply.body[: len(reply.body) // 2])
        self._keep = False
        self._finish()

    def reset(self) -> None:
        """Send a TCP reset in place of an answer."""
        if self._transport is None:
            return
        peer: socket.socket = self._transport.get_extra_info("socket")
        # Closing a socket that lingers for no time throws its connection away: the peer gets RST.
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._transport.abort()

    def close(self) -> None:
        """Hang up at once."""
        if self._transport is not None:
            self._transport.abort()

    def _drip(self, pieces: list[bytes], pause: float) -> None:
        if not pieces:
            self._finish()
            return
        self._write(pieces[0])
        self.later(pause, lambda: self._drip(pieces[1:], pause))

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
            self.send(Reply(411, b"say how long the body is", "text/plain"))
            return
        path, _, query = target.partition("?")
        self._serve(Request(method, unquote(path), query, headers, body), self)


def _header(line: str) -> tuple[str, str]:
    name, _, value = line.partition(":")
    return name.strip().lower(), value.strip()
