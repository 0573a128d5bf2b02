"""An httpx transport behind the rate limiter, for the HTTP client of jobs."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, cast

import httpx

from app.core.errors import Failure, HttpStatus, RateLimited, TooLarge
from app.core.messages import HostLimits
from app.fetch import retry, urls
from app.fetch.client import RequestCounts, refusal, status_class
from app.fetch.permits import Admission, Limiter, Permit
from app.fetch.transport_errors import TRANSPORT_ERRORS, to_failure

MAX_WHOLE_BYTES = 100_000_000  # of a response that is not streamed, decoded or not
MAX_WHOLE_SECONDS = 120.0  # that it may take, without the wait for its permit

_WHOLE = "whole"  # the extension of a request whose response is not streamed


def _now() -> datetime:
    return datetime.now(UTC)


class JobClient(httpx.AsyncClient):
    """A client over a LimitedTransport whose responses, unless streamed, are bounded.

    A response that takes longer than MAX_WHOLE_SECONDS raises httpx.ReadTimeout, and one of more
    than MAX_WHOLE_BYTES raises TooLarge.
    """

    async def send(
        self, request: httpx.Request, *, stream: bool = False, **options: Any
    ) -> httpx.Response:
        """Send a request as httpx does."""
        if stream:
            return await super().send(request, stream=True, **options)
        request.extensions = {**request.extensions, _WHOLE: True}
        response = await super().send(request, stream=True, **options)
        try:
            await _read_whole(response)
        except BaseException:
            await response.aclose()
            raise
        return response


async def _read_whole(response: httpx.Response) -> None:
    """Read as `response.aread` does, which inflates whatever comes."""
    content = bytearray()
    async for piece in response.aiter_bytes():
        content += piece
        _check_size(len(content), response.request.url)
    response._content = bytes(content)  # noqa: SLF001 # pyright: ignore[reportPrivateUsage] - httpx has no public way


def _check_size(size: int, url: httpx.URL) -> None:
    if size > MAX_WHOLE_BYTES:
        message = f"the response exceeds {MAX_WHOLE_BYTES} bytes: read it with run.client.stream"
        raise TooLarge(message, url=urls.public_url(str(url)))


class LimitedTransport(httpx.AsyncBaseTransport):
    """Sends requests over `inner`, each with a permit of the limiter; does not close `inner`.

    A host's refusals, outages and requests for a pause count for all workers, as those of sources
    do. Raises a Failure with `retry_in` if a host may not be requested for 30 seconds, else what
    `inner` raises. `tally` counts the requests. `whole_seconds`: that a response may take which is
    not streamed.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        limiter: Limiter,
        limits: HostLimits,
        tally: RequestCounts,
        clock: Callable[[], datetime] = _now,
        whole_seconds: float = MAX_WHOLE_SECONDS,
    ) -> None:
        self._whole_seconds = whole_seconds
        self._inner, self._limiter, self._limits = inner, limiter, limits
        self._tally, self._clock = tally, clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for a permit, send the request, and record the result."""
        permit = await self._admitted(request.url)
        try:
            await asyncio.sleep(permit.wait)
            self._tally.requests += 1
            whole = _WHOLE in request.extensions
            began = asyncio.get_running_loop().time()
            deadline = began + self._whole_seconds if whole else None
            response = await self._exchange(request, permit, deadline)
        except BaseException:
            self._limiter.release(permit)
            raise
        stream = _PermittedStream(
            response, request, deadline, lambda: self._limiter.release(permit)
        )
        return httpx.Response(
            response.status_code,
            headers=response.headers,
            stream=stream,
            extensions=response.extensions,
        )

    async def _admitted(self, url: httpx.URL) -> Permit:
        while True:
            permit = await self._limiter.acquire(urls.host_key(url), self._limits)
            resting = permit.admission is Admission.RESTING
            if not resting or permit.wait > retry.MAX_WAIT:
                break
            await asyncio.sleep(permit.wait)
        if permit.admission is not Admission.GO:
            raise refusal(permit, url, self._clock())
        return permit

    async def _exchange(
        self, request: httpx.Request, permit: Permit, deadline: float | None
    ) -> httpx.Response:
        try:
            async with _until(deadline, request):
                response = await self._inner.handle_async_request(request)
        except TRANSPORT_ERRORS as error:
            failure = to_failure(error, urls.public_url(str(request.url)))
            failure.__cause__ = error
            self._tally.classes[failure.kind.value] += 1
            await self._limiter.record(permit, failure)
            raise
        self._tally.classes[status_class(response.status_code)] += 1
        await self._limiter.record(permit, self._failure_of(response))
        return response

    def _failure_of(self, response: httpx.Response) -> Failure | None:
        """What the status means for the host; a client error means nothing."""
        status = response.status_code
        wait = retry.retry_after(response.headers.get("retry-after"), self._clock())
        if status == HTTPStatus.TOO_MANY_REQUESTS:
            return RateLimited(f"HTTP {status}", status=status, retry_in=wait)
        if httpx.codes.is_server_error(status):
            return HttpStatus(f"HTTP {status}", status=status, retry=True, retry_in=wait)
        return None


@asynccontextmanager
async def _until(deadline: float | None, request: httpx.Request) -> AsyncGenerator[None]:
    """Raise httpx.ReadTimeout at `deadline`, by the event loop's clock."""
    try:
        async with asyncio.timeout_at(deadline):
            yield
    except TimeoutError as error:
        raise httpx.ReadTimeout("the response does not end", request=request) from error


class _PermittedStream(httpx.AsyncByteStream):
    """The body of a response, whose permit is released when it is closed.

    `deadline`: until when it is to be read, whole; None if it is streamed.
    """

    def __init__(
        self,
        response: httpx.Response,
        request: httpx.Request,
        deadline: float | None,
        release: Callable[[], None],
    ) -> None:
        self._response, self._request, self._release = response, request, release
        self._deadline = deadline
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size, chunks = 0, aiter(cast("AsyncIterable[bytes]", self._response.stream))
        while True:
            async with _until(self._deadline, self._request):
                chunk = await anext(chunks, None)
            if chunk is None:
                return
            size += len(chunk)
            if self._deadline is not None:
                _check_size(size, self._request.url)
            yield chunk

    async def aclose(self) -> None:
        """Close the response and release the permit."""
        try:
            await self._response.aclose()
        finally:
            if self._open:
                self._open = False
                self._release()
