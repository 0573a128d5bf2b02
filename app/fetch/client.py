"""The fetcher: sends the requests of one source, with rate limits, retries and size bounds."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.core.errors import (
    FAILURES,
    Blocked,
    Failure,
    HttpStatus,
    LocalNetwork,
    Network,
    RateLimited,
    Timeout,
    UnsafeAddress,
)
from app.core.log import logger
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.fetch import body, responses, retry, urls
from app.fetch.exchange_thread import (
    ERROR_PAGE_SECONDS,
    MAX_ERROR_PAGE,
    ExchangeThread,
    ReceivedBody,
    ThreadedTransport,
    bound_events,
)
from app.fetch.large_pages import current_hold
from app.fetch.limiter_scripts import TENANT_HOSTS
from app.fetch.permits import Admission, Limiter, Permit
from app.fetch.responses import FetchedResponse
from app.fetch.slim_client import SlimClient, send_url_as_written
from app.fetch.ssrf_guard import Guard
from app.fetch.transport_errors import TRANSPORT_ERRORS, to_failure
from app.sources.addresses import with_params

KEEP_ALIVE_SECONDS = 30.0
CONNECT_TIMEOUT = 5.0
READ_TIMEOUT = 20.0
MAX_REDIRECTS = 5
MAX_HEADER_BYTES = 16_384
MAX_HEADER_LINES = 1_000

_log = logger("fetch")


@dataclass(slots=True)
class RequestCounts:
    """Counts of the requests made so far.

    `bytes` are as received, before decompression; `decoded` are the bytes of the decoded bodies.
    `throttled_ms` is the time spent waiting for a slot or for the rate, without the delays before
    retries. `classes` counts requests by result: `2xx`, `429`, or the kind of a failure.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    decoded: int = 0
    throttled_ms: int = 0
    classes: Counter[str] = field(default_factory=Counter[str])


def open_client(
    user_agent: str,
    *,
    concurrency: int,
    ssl_context: ssl.SSLContext | None = None,
    guard: Guard | None = None,
    thread: ExchangeThread | None = None,
) -> httpx.AsyncClient:
    """Return a pooled client for one source; the caller closes it.

    An `ssl_context` is costly to create, so share one between clients. The client uses aiohttp's
    connector because httpx's own pool stays exhausted after many cancelled requests. With a
    `guard`, for URLs that users supply, a request to a private address raises UnsafeAddress. With a
    `thread`, exchanges are made in it, and requests need the extension `max_bytes`.
    """
    context = ssl_context or httpx.create_ssl_context(trust_env=False)
    connector = aiohttp.TCPConnector if guard is None else guard.connector

    def session() -> aiohttp.ClientSession:
        opened = connector(limit=concurrency, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=context)
        bound_events(opened)
        return aiohttp.ClientSession(
            connector=opened,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADER_LINES,
            trust_env=False,
            middlewares=(send_url_as_written,),
        )

    transport = AiohttpTransport(verify=context, trust_env=False, client=session)
    return SlimClient(
        transport if thread is None else ThreadedTransport(transport, thread),
        headers={
            "accept": SourceRequest("").accept,
            "user-agent": user_agent,
            "accept-encoding": "gzip, deflate",
        },
        timeout=httpx.Timeout(READ_TIMEOUT, connect=CONNECT_TIMEOUT, pool=None),
    )


def open_job_transport(
    ssl_context: ssl.SSLContext, *, connections: int
) -> httpx.AsyncBaseTransport:
    """Return a pooled transport for the HTTP clients of jobs; the caller closes it."""

    def session() -> aiohttp.ClientSession:
        connector = aiohttp.TCPConnector(
            limit=connections, keepalive_timeout=KEEP_ALIVE_SECONDS, ssl=ssl_context
        )
        bound_events(connector)
        return aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=MAX_HEADER_BYTES,
            max_field_size=MAX_HEADER_BYTES,
            max_headers=MAX_HEADER_LINES,
            trust_env=False,
        )

    return AiohttpTransport(verify=ssl_context, trust_env=False, client=session)


@dataclass(slots=True)
class _Progress:
    """The attempts made so far for one page."""

    tally: RequestCounts
    attempt: int = 1
    last: Failure | None = None
    may_retry: bool = True


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Fetcher:
    """Fetches the pages of one source within its rate limits, with retries and size bounds.

    `tenant`, `site`: whose state of a host applies, as in `Limiter.acquire`. `share`: the owner's
    share of the client's connections.
    `max_bytes` limits a decoded body. `deadline` is in seconds and limits one attempt, without its
    waits. `attempts` is the maximum number of attempts for one page.
    """

    client: httpx.AsyncClient
    limiter: Limiter
    source: str = field(kw_only=True)
    limits: HostLimits = field(kw_only=True)
    tenant: str = field(default="", kw_only=True)
    site: HostLimits | None = field(default=None, kw_only=True)
    share: asyncio.Semaphore | None = field(default=None, kw_only=True)
    max_bytes: int = field(default=10_000_000, kw_only=True)
    deadline: float = field(default=45.0, kw_only=True)
    attempts: int = field(default=retry.ATTEMPTS_PER_PAGE, kw_only=True)
    clock: Callable[[], datetime] = field(default=_now, kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, kw_only=True)
    rng: Callable[[], float] = field(default=random.random, kw_only=True)

    def set_limits(self, limits: HostLimits) -> None:
        """Use these limits for all further requests: the site has stated its own."""
        self.limits = limits

    async def fetch(self, request: SourceRequest, tally: RequestCounts) -> RawPage:
        """Fetch one page, with up to `attempts` attempts.

        Raises a Failure, with its `attempts`, if the last attempt fails or a retry does not help.
        If a retry is possible only after more than 30 s, the failure is RateLimited, or the kind
        that opened the host's breaker, and `retry_in` is the wait in seconds.

        This is the boundary for secrets: what the site says back of those that the request
        carries is masked in the page, its URL and headers, and in the failure.
        """
        with urls.hiding_secrets(responses.sent_secrets(request)) as forms:
            try:
                return await self._fetch(request, tally, forms)
            except Failure as failure:
                failure.change_message(lambda message: urls.mask(message, forms))
                if forms:  # the cause may quote the request
                    raise failure from None
                raise

    async def _fetch(
        self, request: SourceRequest, tally: RequestCounts, forms: tuple[str, ...]
    ) -> RawPage:
        progress = _Progress(tally)
        while True:
            try:
                async with self.share or nullcontext():
                    answer = await self._attempt(request, progress)
                break
            except Failure as failure:
                wait = self._retry_wait(failure, request, progress)
            await self.sleep(wait)
            progress.attempt += 1
            tally.retries += 1
        _log.debug(
            "fetch.page",
            source=self.source,
            status=answer.status,
            bytes=len(answer.body),
            attempt=progress.attempt,
            url=urls.public_url(answer.url),
        )
        return RawPage(
            body=urls.mask_body(answer.body, forms),
            status=answer.status,
            url=urls.masked_url(answer.url),
            headers={name: urls.mask(value, forms) for name, value in answer.headers.items()},
            fetched_at=self.clock(),
        )

    def _retry_wait(self, failure: Failure, request: SourceRequest, progress: _Progress) -> float:
        """Seconds to sleep before the next attempt. Raises a failure if there is to be none."""
        failure.attempts = progress.attempt
        wait = retry.retry_delay(failure, progress.attempt, self.rng())
        if wait > retry.MAX_WAIT:
            raise _postponed(failure) from failure.__cause__
        helps = retry.should_retry(
            failure, request.method, progress.attempt, read_only=request.read_only
        )
        if not helps or progress.attempt >= self.attempts:
            raise failure
        if not progress.may_retry:
            raise _not_retried(failure) from failure.__cause__
        progress.last = failure
        self._log_retry(failure, wait)
        return wait

    async def _attempt(self, request: SourceRequest, progress: _Progress) -> FetchedResponse:
        left = self.deadline
        clock = asyncio.get_running_loop().time
        hop, came_with_cookie = request, False
        for _ in range(MAX_REDIRECTS + 1):
            outgoing = self._build_request(hop)
            permit = await self._acquire(outgoing.url, progress)
            try:
                await self._throttle(permit.wait, progress.tally)
                began = clock()
                answer, following = await self._exchange_and_record(
                    permit, hop, outgoing, (left, progress.tally)
                )
                left -= clock() - began
            finally:
                self.limiter.release(permit)
            if following is None:
                return answer
            came_with_cookie |= "set-cookie" in answer.headers
            hop = following
        if came_with_cookie:
            raise Blocked(responses.COOKIE_LOOP, url=urls.public_url(hop.url))
        raise HttpStatus(f"more than {MAX_REDIRECTS} redirects", url=urls.public_url(hop.url))

    def _build_request(self, hop: SourceRequest) -> httpx.Request:
        for name, value in hop.headers.items():
            if not (value.isascii() and value.isprintable()):
                message = f"the header {name} has characters other than printable ASCII"
                raise UnsafeAddress(message, url=urls.public_url(hop.url))
        try:
            outgoing = self.client.build_request(
                hop.method,
                with_params(hop.url, hop.params),
                headers=self._headers(hop),
                content=hop.body,
            )
        except TRANSPORT_ERRORS as error:
            raise to_failure(error, urls.public_url(hop.url)) from error
        urls.check_url(outgoing.url)
        return outgoing

    def _headers(self, hop: SourceRequest) -> Mapping[str, str] | None:
        # Merging headers is costly, and most sources use the client's default `accept`.
        if self.client.headers.get("accept") == hop.accept:
            return hop.headers or None
        return {"accept": hop.accept, **hop.headers}

    async def _acquire(self, url: httpx.URL, progress: _Progress) -> Permit:
        host, tally = urls.host_key(url), progress.tally
        while True:
            permit = await self.limiter.acquire(
                host,
                self.limits,
                again=progress.last is not None,
                tenant=self.tenant,
                site=self.site,
            )
            tally.throttled_ms += round(permit.queued_seconds * 1000)
            if permit.admission is not Admission.RESTING or permit.wait > retry.MAX_WAIT:
                break
            await self._throttle(permit.wait, tally)
        progress.may_retry = permit.may_retry
        if permit.admission is Admission.GO:
            return permit
        if permit.admission is Admission.SPENT and progress.last is not None:
            raise _not_retried(progress.last) from progress.last.__cause__
        raise refusal(permit, url, self.clock())

    async def _throttle(self, wait: float, tally: RequestCounts) -> None:
        if wait > 0:
            tally.throttled_ms += round(wait * 1000)
            await self.sleep(wait)

    async def _exchange_and_record(
        self,
        permit: Permit,
        hop: SourceRequest,
        outgoing: httpx.Request,
        bounds: tuple[float, RequestCounts],
    ) -> tuple[FetchedResponse, SourceRequest | None]:
        """Send one request; return the response and the request to follow if it redirects.

        Reports the result to the rate limiter and raises the failure that the limiter returns.
        `bounds`: the seconds left, and the counts to update.
        """
        try:
            answer = await self._exchange(outgoing, *bounds)
            following = responses.redirected_request(hop, answer)
            failure = None if following else responses.failure_of(answer, hop, self.clock())
        except Failure as error:
            raise await self.limiter.record(permit, error) or error from error.__cause__
        if failure is not None:
            raise await self.limiter.record(permit, failure) or failure
        await self.limiter.record(permit, None)
        return answer, following

    async def _exchange(
        self, outgoing: httpx.Request, left: float, tally: RequestCounts
    ) -> FetchedResponse:
        tally.requests += 1
        hold = current_hold()
        if hold is not None:
            hold.waiting = False
        received = ReceivedBody(hold)
        outgoing.extensions = {**outgoing.extensions, "max_bytes": self.max_bytes, "body": received}
        try:
            async with asyncio.timeout(left):
                response = await self.client.send(outgoing, stream=True)
                try:
                    answer = await self._read(response)
                    tally.decoded += len(answer.body)
                    tally.classes[status_class(answer.status)] += 1
                    return answer
                finally:
                    received.size = max(received.size, response.num_bytes_downloaded)
                    await response.aclose()
        except Failure as failure:
            failure.url = urls.public_url(str(outgoing.url))
            tally.classes[failure.kind.value] += 1
            raise
        except TRANSPORT_ERRORS as error:
            failure = to_failure(error, urls.public_url(str(outgoing.url)))
            if isinstance(error, TimeoutError):  # not silent, but too slow: it would be again
                message = f"the response took longer than {self.deadline:g} s"
                failure = Timeout(message, url=failure.url, retry=False)
            if hold is not None and hold.waiting:
                crowded = "this process holds too many large pages"
                failure = LocalNetwork(crowded, url=failure.url)
            tally.classes[failure.kind.value] += 1
            raise failure from error
        finally:
            tally.bytes += received.size  # also of an exchange that was cut off

    async def _read(self, response: httpx.Response) -> FetchedResponse:
        if response.is_success:
            content = await body.read(response, self.max_bytes)
        else:
            content = await _error_page(response)
        return FetchedResponse(
            response.status_code, str(response.url), dict(response.headers), content
        )

    def _log_retry(self, failure: Failure, wait: float) -> None:
        _log.warning(
            "fetch.retry",
            source=self.source,
            kind=failure.kind,
            status=failure.status,
            attempt=failure.attempts,
            wait=round(wait, 3),
            url=failure.url,
        )


def refusal(permit: Permit, url: httpx.URL, now: datetime) -> Failure:
    """The failure of a request that the limiter refused, with `retry_in`. `now`: aware."""
    if permit.admission is Admission.RESTING:
        until = now + timedelta(seconds=permit.wait)
        kind = FAILURES.get(permit.kind, Network)
        message = (
            f"{urls.host_of(url)} failed too often ({kind.kind}): "
            f"its breaker is open until {until:%H:%M:%S} UTC"
        )
        return kind(message, url=urls.public_url(str(url)), retry=False, retry_in=permit.wait)
    if permit.admission is Admission.CROWDED:
        message = (
            f"{TENANT_HOSTS} hosts, each with its credentials, "
            "were requested in the last hour, which is the limit"
        )
        return RateLimited(message, url=urls.public_url(str(url)), retry_in=permit.wait)
    message = f"{urls.host_of(url)} accepts no request for another {permit.wait:.0f} s"
    return RateLimited(message, url=urls.public_url(str(url)), retry_in=permit.wait)


def status_class(status: int) -> str:
    """The class under which a response is counted: `2xx`, `429`."""
    return "429" if status == HTTPStatus.TOO_MANY_REQUESTS else f"{status // 100}xx"


async def _error_page(response: httpx.Response) -> bytes:
    """The start of an error page. A failure to read it is ignored: the status decides."""
    try:
        async with asyncio.timeout(ERROR_PAGE_SECONDS):
            return await body.read_start(response, MAX_ERROR_PAGE)
    except TRANSPORT_ERRORS:
        return b""


def _postponed(failure: Failure) -> Failure:
    if isinstance(failure, RateLimited) or not failure.retry:
        return failure
    return failure.restated(RateLimited, str(failure), retry_in=failure.retry_in)


def _not_retried(failure: Failure) -> Failure:
    message = f"{failure}; not retried: the host's retry budget for this hour is exhausted"
    return failure.restated(type(failure), message, retry=False)
