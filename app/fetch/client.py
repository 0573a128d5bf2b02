"""The window to the outside: every page anybody asks for comes through here."""

import asyncio
import random
import ssl
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.errors import Failure, HttpStatus, RateLimited
from app.fetch import answers, body, retry, urls
from app.fetch.answers import Answer
from app.fetch.borders import FOREIGN, translated
from app.fetch.limiter import Limiter
from app.log import logger
from app.messages import Limits, Partition, Raw, Request

KEEP_ALIVE = 30.0
CONNECT = 5.0
READ = 20.0
HOPS = 5
HEADER = 16_384
_ERROR_PAGE = 16_384
_ERROR_PAGE_SECONDS = 5.0
_THROTTLES = frozenset({429, 503})

_log = logger("fetch")


@dataclass(slots=True)
class Tally:
    """What asking has cost so far. `bytes` are as received, `throttled_ms` was spent waiting."""

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    throttled_ms: int = 0


def open_client(
    config_user_agent: str, *, concurrency: int, ssl_context: ssl.SSLContext | None = None
) -> httpx.AsyncClient:
    """A pooled client for one source; close it. Hand in one `ssl_context` for all: it is costly.

    On aiohttp's connector: httpx's own pool stays clogged after many cancelled requests.
    """
    context = ssl_context or httpx.create_ssl_context(trust_env=False)

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=concurrency, keepalive_timeout=KEEP_ALIVE, ssl=context
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=HEADER,
            max_field_size=HEADER,
            trust_env=False,
        )

    return httpx.AsyncClient(
        transport=AiohttpTransport(verify=context, trust_env=False, client=session),
        headers={"user-agent": config_user_agent, "accept-encoding": "gzip, deflate"},
        timeout=httpx.Timeout(READ, connect=CONNECT, pool=None),
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=[])),  # a scrape remembers nothing
        trust_env=False,
        follow_redirects=False,
    )


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Window:
    """How one source asks: politely, bounded, again where that helps.

    `max_bytes` bounds a decoded body, `deadline` (seconds) one attempt without its waits.
    """

    client: httpx.AsyncClient
    limiter: Limiter
    source: str = field(kw_only=True)
    limits: Limits = field(kw_only=True)
    max_bytes: int = field(default=10_000_000, kw_only=True)
    deadline: float = field(default=45.0, kw_only=True)
    clock: Callable[[], datetime] = field(default=_now, kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, kw_only=True)
    rng: Callable[[], float] = field(default=random.random, kw_only=True)
    _gate: asyncio.Semaphore = field(init=False)

    def __post_init__(self) -> None:
        self._gate = asyncio.Semaphore(self.limits.concurrency)

    def pace(self, limits: Limits) -> None:
        """Keep to these limits from now on: the site has told us its own."""
        self.limits = limits
        self._gate = asyncio.Semaphore(limits.concurrency)

    async def ask(
        self, request: Request, *, partition: Partition | None, page: int, tally: Tally
    ) -> Raw:
        """One page, asked for up to three times.

        Raises a Failure with its `attempts` if there is no answer to be had; RateLimited with
        `retry_in` if having it would take a wait longer than 30 s.
        """
        attempt = 1
        while True:
            try:
                answer = await self._attempt(request, tally)
                break
            except Failure as failure:
                failure.attempts = attempt
                wait = retry.pause(failure, attempt, self.rng())
                if wait > retry.PATIENCE:
                    raise _postponed(failure) from failure.__cause__
                if not retry.helps(failure, request.method, attempt):
                    raise
                self._log_retry(failure, wait)
            await self.sleep(wait)
            attempt += 1
            tally.retries += 1
        _log.debug(
            "fetch.page",
            source=self.source,
            status=answer.status,
            bytes=len(answer.body),
            attempt=attempt,
            url=urls.public(answer.url),
        )
        return Raw(
            body=answer.body,
            status=answer.status,
            url=urls.public(answer.url),
            headers=answer.headers,
            fetched_at=self.clock(),
            partition=partition,
            page=page,
        )

    async def _attempt(self, request: Request, tally: Tally) -> Answer:
        left = self.deadline
        clock = asyncio.get_running_loop().time
        hop = request
        for _ in range(HOPS + 1):
            outgoing = self._outgoing(hop)
            async with self._gate:
                await self._turn(outgoing.url, tally)
                began = clock()
                answer = await self._exchange(outgoing, left, tally)
                left -= clock() - began
            following = answers.next_hop(hop, answer)
            if following is None:
                await self._judge(answer, hop)
                return answer
            hop = following
        raise HttpStatus(f"more than {HOPS} redirects", url=urls.public(hop.url))

    def _outgoing(self, hop: Request) -> httpx.Request:
        try:
            outgoing = self.client.build_request(
                hop.method,
                hop.url,
                params=hop.params or None,
                headers={"accept": hop.accept, **hop.headers},
                content=hop.body,
            )
        except FOREIGN as error:
            raise translated(error, urls.public(hop.url)) from error
        urls.vet(outgoing.url)
        return outgoing

    async def _turn(self, url: httpx.URL, tally: Tally) -> None:
        wait = await self.limiter.reserve(urls.host_key(url), self.limits)
        if wait > retry.PATIENCE:
            raise RateLimited(
                f"{url.host} is not to be asked for another {wait:.0f} s",
                url=urls.public(str(url)),
                retry_in=wait,
            )
        if wait > 0:
            tally.throttled_ms += round(wait * 1000)
            await self.sleep(wait)

    async def _exchange(self, outgoing: httpx.Request, left: float, tally: Tally) -> Answer:
        tally.requests += 1
        try:
            async with asyncio.timeout(left):
                response = await self.client.send(outgoing, stream=True)
                try:
                    return await self._read(response)
                finally:
                    tally.bytes += response.num_bytes_downloaded
                    await response.aclose()
        except Failure as failure:
            failure.url = urls.public(str(outgoing.url))
            raise
        except FOREIGN as error:
            raise translated(error, urls.public(str(outgoing.url))) from error

    async def _read(self, response: httpx.Response) -> Answer:
        if response.is_success:
            content = await body.read(response, self.max_bytes)
        else:
            content = await _error_page(response)
        return Answer(response.status_code, str(response.url), dict(response.headers), content)

    async def _judge(self, answer: Answer, hop: Request) -> None:
        host = urls.host_key(httpx.URL(answer.url))
        failure = answers.fault(answer, hop, self.clock())
        if failure is None:
            await self.limiter.clean(host)
            return
        if failure.status in _THROTTLES:
            await self.limiter.penalise(host, failure.retry_in or 0.0)
        raise failure

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


async def _error_page(response: httpx.Response) -> bytes:
    """The start of a page whose status alone decides: however it fails, the status counts."""
    try:
        async with asyncio.timeout(_ERROR_PAGE_SECONDS):
            return await body.start(response, _ERROR_PAGE)
    except FOREIGN:
        return b""


def _postponed(failure: Failure) -> Failure:
    if isinstance(failure, RateLimited):
        return failure
    late = RateLimited(
        str(failure), status=failure.status, url=failure.url, retry_in=failure.retry_in
    )
    late.attempts = failure.attempts
    return late
