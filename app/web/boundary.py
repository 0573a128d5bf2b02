"""Limits on clients: what they send must arrive in time, and what they are sent must be taken.

uvicorn limits neither: a client that sends half a request keeps its connection for ever.
"""

import asyncio
import socket
import struct
from collections.abc import Callable
from contextvars import ContextVar
from http import HTTPStatus
from importlib import import_module
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.core import log

HEAD_SECONDS = 10.0  # for the head of a request, from the connection or the last response on
BODY_SECONDS = 8.0  # for the whole body; shorter than the time limits of endpoints
TAKE_SECONDS = 30.0  # for the client to take what is sent, before more is sent

NO_LINGER = struct.pack("ii", 1, 0)  # of SO_LINGER: what closes the socket resets the connection

_log = log.logger(__name__)
_transport: ContextVar[asyncio.Transport | None] = ContextVar("_transport", default=None)


class RequestBounds:
    """ASGI middleware with the limits of one request.

    A body that does not arrive in time is 408; a client that hangs up, or takes no response, ends
    the request without a traceback. So does what breaks a response that has begun: its end is
    missing, which the client sees. A request with both Content-Length and Transfer-Encoding is
    400: servers in front of this one may disagree on where it ends.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        exchange = _Exchange(receive, send)
        names = {name for name, _ in scope["headers"]}
        if {b"content-length", b"transfer-encoding"} <= names:
            await _refuse(send)
            return
        try:
            await self._app(scope, exchange.receive, exchange.send)
        except ClientDisconnect:
            _log.info("http.hung_up", path=scope["path"])
        except Exception as error:
            if not exchange.begun:
                raise
            if exchange.abandoned:
                _log.info("http.not_taken", path=scope["path"])
            else:
                _log.warning("http.broken_off", path=scope["path"], error=repr(error))
            reset = exchange.abandoned or scope["http_version"] == "1.0"
            await _close(receive, reset=reset)


class _Exchange:
    """One request and its response, with their time limits.

    `begun`: the head of the response was sent. `abandoned`: nobody takes it.
    """

    def __init__(self, receive: Receive, send: Send) -> None:
        self._receive, self._send = receive, send
        self._deadline: float | None = None
        self._complete = False
        self.begun = self.abandoned = False

    async def receive(self) -> Message:
        if self._complete:  # only a hang-up can follow
            return await self._receive()
        if self._deadline is None:
            self._deadline = asyncio.get_running_loop().time() + BODY_SECONDS
        try:
            async with asyncio.timeout_at(self._deadline):
                message = await self._receive()
        except TimeoutError:
            self._complete = True
            detail = "the body of the request did not arrive in time"
            headers = {"connection": "close"}
            raise HTTPException(HTTPStatus.REQUEST_TIMEOUT, detail, headers) from None
        self._complete = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        self.begun = True
        try:
            async with asyncio.timeout(TAKE_SECONDS):
                await self._send(message)
        except TimeoutError:
            self.abandoned = True
            raise OSError("the client does not take the response") from None


async def _close(receive: Receive, *, reset: bool) -> None:
    """Close the connection and wait until it is: uvicorn would log an error of its own.

    `reset`: drop what was not taken yet, and say so: the end of a response to HTTP/1.0 is that of
    the connection.
    """
    transport = _transport.get()
    if transport is None:  # of another server
        return
    if reset:
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER
        )
        transport.abort()
    transport.close()
    try:
        async with asyncio.timeout(TAKE_SECONDS):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        transport.abort()


async def _refuse(send: Send) -> None:
    headers = [(b"content-type", b"text/plain"), (b"connection", b"close")]
    start = {"type": "http.response.start", "status": 400, "headers": headers}
    await send(start)
    body = b"a request has either Content-Length or Transfer-Encoding"
    await send({"type": "http.response.body", "body": body})


def install() -> None:
    """Let uvicorn close connections whose next request does not come in time, or when asked to.

    uvicorn has no setting for either. Called before the server listens; safe to call again.
    """
    for module, name in _PROTOCOLS:
        try:
            protocol: Any = getattr(import_module(module), name)
        except ImportError:
            continue
        if not hasattr(protocol, "rollcall_head_timer"):
            protocol.rollcall_head_timer = None
            protocol.connection_made = _watched(protocol.connection_made)
            protocol.data_received = _watched(protocol.data_received)


_PROTOCOLS = (
    ("uvicorn.protocols.http.h11_impl", "H11Protocol"),
    ("uvicorn.protocols.http.httptools_impl", "HttpToolsProtocol"),
)


def _watched(step: Callable[[Any, Any], None]) -> Callable[[Any, Any], None]:
    def watched(self: Any, argument: Any) -> None:
        _transport.set(self.transport)  # for the requests that the step begins
        step(self, argument)
        if self.rollcall_head_timer is None and _is_waiting(self):
            self.rollcall_head_timer = self.loop.call_later(
                HEAD_SECONDS, _close_unless_requested, self, self.cycle
            )

    return watched


def _is_waiting(protocol: Any) -> bool:
    """Whether no request is under way: its head has not arrived, or the response is complete."""
    return protocol.cycle is None or protocol.cycle.response_complete


def _close_unless_requested(protocol: Any, before: Any) -> None:
    """Close a connection on which no request came since `before`, the last one."""
    protocol.rollcall_head_timer = None
    if protocol.cycle is before and _is_waiting(protocol) and not protocol.transport.is_closing():
        protocol.transport.abort()
