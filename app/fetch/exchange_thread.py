"""Exchanges with sites, made in a thread with an event loop of its own.

What a site sends costs CPU time for each read, chunk and interim response, however few its bytes
are. In a thread it cannot delay the event loop that decides ticks, renews leases and sends
heartbeats, and each exchange has a limit on these events as well as on bytes and time.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Coroutine
from contextlib import suppress
from types import TracebackType
from typing import Any, Self, TypeVar

import aiohttp
import httpx
from aiohttp.client_proto import ResponseHandler
from aiohttp.http import RawResponseMessage
from aiohttp.streams import StreamReader

from app.core.tasks import cancel_all
from app.fetch.large_pages import LARGE_BYTES, LargePages, PageHold

MAX_INTERIM_RESPONSES = 8
MAX_EVENTS = 2_000  # reads and chunks of one exchange; and one more for every EVENT_BYTES
EVENT_BYTES = 32
SLICE = 2 * 1024  # bytes parsed between two checks
MAX_READ = 64 * 1024  # bytes of one read from a socket
MAX_ERROR_PAGE = 16_384
ERROR_PAGE_SECONDS = 5.0
SWITCH_INTERVAL = (
    0.0005  # seconds for which a busy thread may hold the interpreter; 5 ms by default
)

Returned = TypeVar("Returned")


class TooManyEvents(aiohttp.ClientPayloadError):
    """A response whose bytes arrive in absurdly small pieces."""


class BoundedHandler(ResponseHandler):
    """aiohttp's protocol of a connection, with limits on the events of one exchange."""

    _events = 0
    _bytes = 0
    _messages = 0
    _refused = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Limit the size of reads, so that one read cannot hold the loop for long."""
        sized: Any = transport
        if hasattr(sized, "max_size"):
            sized.max_size = MAX_READ
        super().connection_made(transport)

    def set_response_params(self, **params: Any) -> None:
        """Begin an exchange."""
        self._events = self._bytes = self._messages = 0
        super().set_response_params(**params)

    def feed_data(self, data: tuple[RawResponseMessage, StreamReader], size: int = 0) -> None:
        """Queue a response; after too many interim ones the connection is closed."""
        self._messages += 1
        if self._messages > MAX_INTERIM_RESPONSES + 1:
            self._refuse("interim responses without end")
        else:
            super().feed_data(data, size)

    def data_received(self, data: bytes) -> None:
        """Parse `data` in slices."""
        self._events += 1
        for start in range(0, max(len(data), 1), SLICE):
            if self._refused:
                return
            piece = data[start : start + SLICE]
            self._bytes += len(piece)
            before = self._chunks()
            super().data_received(piece)
            self._events += max(self._chunks() - before, 0)
            if self._events > MAX_EVENTS + self._bytes // EVENT_BYTES:
                self._refuse("a response in absurdly small pieces")

    def _chunks(self) -> int:
        splits: Any = getattr(self._payload, "_http_chunk_splits", None)
        return len(splits) if splits else 0

    def _refuse(self, why: str) -> None:
        self._refused = True
        error = TooManyEvents(why)
        if self._payload is not None and not self._payload.is_eof():
            self._payload.set_exception(error)
        self.set_exception(error)
        if self.transport is not None:
            self.transport.abort()


def bound_events(connector: aiohttp.BaseConnector) -> None:
    """Make the connector's connections bounded ones."""
    loop = asyncio.get_running_loop()
    connector._factory = lambda: BoundedHandler(loop)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue] - aiohttp has no public way


class ReceivedBody(httpx.AsyncByteStream):
    """The body of a response as far as it was received, and the error that ended it, if any."""

    def __init__(self, hold: PageHold | None = None) -> None:
        self.size = 0
        self._hold = hold
        self._chunks: list[bytes] = []
        self._error: Exception | None = None

    async def receive(self, response: httpx.Response, limit: int) -> None:
        """Read until the end, an error, or more than `limit` bytes."""
        try:
            async for chunk in response.stream:  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType] - of an async client
                self._chunks.append(chunk)  # pyright: ignore[reportUnknownArgumentType] - as above
                self.size += len(self._chunks[-1])
                if self.size > limit:
                    break
                if self.size > LARGE_BYTES and self._hold is not None:
                    await self._hold.enlarge()
        except Exception as error:  # noqa: BLE001 - raised again where the body is read
            self._error = error

    async def __aiter__(self) -> AsyncIterator[bytes]:
        """Yield what was received; then raise the error."""
        for chunk in self._chunks:
            yield chunk
        self._chunks.clear()
        if self._error is not None:
            raise self._error


class ExchangeThread:
    """The thread of all exchanges of a process. An async context manager."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self.large_pages = LargePages(self._loop)
        self._thread = threading.Thread(target=self._loop.run_forever, name="fetch", daemon=True)

    async def __aenter__(self) -> Self:
        sys.setswitchinterval(SWITCH_INTERVAL)
        self._thread.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Cancel what is under way and end the thread."""
        with suppress(TimeoutError):
            async with asyncio.timeout(5):
                await self.run(_cancel_others())
        self._loop.call_soon_threadsafe(self._loop.stop)
        await asyncio.to_thread(self._thread.join, 5)
        if not self._thread.is_alive():
            self._loop.close()

    async def run(self, work: Coroutine[Any, Any, Returned]) -> Returned:
        """Run `work` in the thread; cancelled with the caller."""
        return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))


class ThreadedTransport(httpx.AsyncBaseTransport):
    """Makes each exchange in the thread, up to the last byte of the response.

    The extension `max_bytes` of a request limits the body: one byte more may be received.
    The extension `body` is the ReceivedBody to use, which counts although the exchange may fail.
    The extension `body_seconds` ends the body of a good response after so many seconds.
    """

    def __init__(self, transport: httpx.AsyncBaseTransport, thread: ExchangeThread) -> None:
        self._transport = transport
        self._thread = thread

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send `request`; the response's body has been received."""
        return await self._thread.run(self._exchange(request))

    async def _exchange(self, request: httpx.Request) -> httpx.Response:
        response = await self._transport.handle_async_request(request)
        received = request.extensions.get("body") or ReceivedBody()
        try:
            limit, seconds = MAX_ERROR_PAGE, ERROR_PAGE_SECONDS
            if response.is_success:
                limit = request.extensions["max_bytes"]
                seconds = request.extensions.get("body_seconds")
            # The reader refuses a longer page unread, but not that of an error.
            if not response.is_success or declared_length(response) <= limit:
                with suppress(TimeoutError):
                    async with asyncio.timeout(seconds):
                        await received.receive(response, limit)
        finally:
            await response.aclose()
        return httpx.Response(
            response.status_code,
            headers=response.headers.raw,
            stream=received,
            request=request,
            extensions=response.extensions,
        )

    async def aclose(self) -> None:
        """Close the connections."""
        await self._thread.run(self._transport.aclose())


def declared_length(response: httpx.Response) -> int:
    """The Content-Length of a response; 0 if there is none."""
    declared: str = response.headers.get("content-length", "")
    return int(declared[:18]) if declared.isascii() and declared.isdigit() else 0


async def _cancel_others() -> None:
    await cancel_all([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
    await asyncio.get_running_loop().shutdown_default_executor()
