"""An httpx transport behind the rate limiter, for the HTTP client of jobs."""

import asyncio
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from http import HTTPStatus

import httpx

from app.core.errors import Failure, HttpStatus, RateLimited
from app.core.messages import HostLimits
from app.fetch import retry, urls
from app.fetch.client import RequestCounts, refusal, status_class
from app.fetch.permits import Admission, Limiter, Permit
from app.fetch.transport_errors import TRANSPORT_ERRORS, to_failure


def _now() -> datetime:
    return datetime.now(UTC)


class LimitedTransport(httpx.AsyncBaseTransport):
    """Sends requests over `inner`, each with a permit of the limiter; does not close `inner`.

    A host's refusals, outages and requests for a pause count for all workers, as those of sources
    do. Raises a Failure with `retry_in` if a host may not be requested for 30 seconds, else what
    `inner` raises. `tally` counts the requests.
    """

    def __init__(
        self,
        inner: httpx.AsyncBaseTransport,
        limiter: Limiter,
        limits: HostLimits,
        tally: RequestCounts,
        clock: Callable[[], datetime] = _now,
    ) -> None:
        self._inner, self._limiter, self._limits = inner, limiter, limits
        self._tally, self._clock = tally, clock

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Wait for a permit, send the request, and record the result."""
        permit = await self._admitted(request.url)
        try:
            await asyncio.sleep(permit.wait)
            self._tally.requests += 1
            response = await self._exchange(request, permit)
        except BaseException:
            self._limiter.release(permit)
            raise
        stream = _PermittedStream(response, lambda: self._limiter.release(permit))
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

    async def _exchange(self, request: httpx.Request, permit: Permit) -> httpx.Response:
        try:
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


class _PermittedStream(httpx.AsyncByteStream):
    """The body of a response, whose permit is released when it is closed."""

    def __init__(self, response: httpx.Response, release: Callable[[], None]) -> None:
        self._response, self._release = response, release
        self._open = True

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for chunk in self._response.stream:  # pyright: ignore[reportGeneralTypeIssues, reportUnknownVariableType] - of an async client
            yield chunk

    async def aclose(self) -> None:
        """Close the response and release the permit."""
        try:
            await self._response.aclose()
        finally:
            if self._open:
                self._open = False
                self._release()
