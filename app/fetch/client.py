"""The window to the outside: every page anybody asks for comes through here."""

import asyncio
import random
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from app.errors import Blocked, Failure, HttpStatus, Network, RateLimited, Timeout
from app.fetch import answers, body, retry, urls
from app.fetch.answers import Answer
from app.fetch.borders import FOREIGN, translated
from app.fetch.guard import Guard
from app.fetch.lean import LeanClient
from app.fetch.limiter import Limiter, Pass, Verdict
from app.log import logger
from app.messages import Limits, Partition, Raw, Request

KEEP_ALIVE = 30.0
CONNECT = 5.0
READ = 20.0
HOPS = 5
HEADER = 16_384
_ERROR_PAGE = 16_384
_ERROR_PAGE_SECONDS = 5.0
_RESTED: dict[str, type[Failure]] = {
    kind.kind.value: kind for kind in (Network, Timeout, Blocked, HttpStatus)
}

_log = logger("fetch")


@dataclass(slots=True)
class Tally:
    """What asking has cost so far. `bytes` are as received.

    `throttled_ms` was spent waiting for a slot or for the rate; the pauses before retries are not.
    `classes` counts the requests by what came of them: `2xx`, `429`, or the kind of a failure.
    """

    requests: int = 0
    retries: int = 0
    bytes: int = 0
    throttled_ms: int = 0
    classes: Counter[str] = field(default_factory=Counter[str])


def open_client(
    config_user_agent: str,
    *,
    concurrency: int,
    ssl_context: ssl.SSLContext | None = None,
    guard: Guard | None = None,
) -> httpx.AsyncClient:
    """A pooled client for one source; close it. Hand in one `ssl_context` for all: it is costly.

    On aiohttp's connector: httpx's own pool stays clogged after many cancelled requests. With a
    `guard`, for addresses that users supply, asking for a private one raises Unsafe.
    """
    context = ssl_context or httpx.create_ssl_context(trust_env=False)
    connector = aiohttp.TCPConnector if guard is None else guard.connector

    def session() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=connector(limit=concurrency, keepalive_timeout=KEEP_ALIVE, ssl=context),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=HEADER,
            max_field_size=HEADER,
            trust_env=False,
        )

    return LeanClient(
        AiohttpTransport(verify=context, trust_env=False, client=session),
        headers={
            "accept": Request("").accept,
            "user-agent": config_user_agent,
            "accept-encoding": "gzip, deflate",
        },
        timeout=httpx.Timeout(READ, connect=CONNECT, pool=None),
    )


@dataclass(slots=True)
class _Asking:
    """How one page has been asked for so far."""

    tally: Tally
    attempt: int = 1
    last: Failure | None = None
    may_retry: bool = True


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(slots=True)
class Window:
    """How one source asks: politely, bounded, again where that helps.

    `max_bytes` bounds a decoded body, `deadline` (seconds) one attempt without its waits.
    `attempts`: how often a page may be asked for, at most.
    """

    client: httpx.AsyncClient
    limiter: Limiter
    source: str = field(kw_only=True)
    limits: Limits = field(kw_only=True)
    max_bytes: int = field(default=10_000_000, kw_only=True)
    deadline: float = field(default=45.0, kw_only=True)
    attempts: int = field(default=retry.ATTEMPTS, kw_only=True)
    clock: Callable[[], datetime] = field(default=_now, kw_only=True)
    sleep: Callable[[float], Awaitable[None]] = field(default=asyncio.sleep, kw_only=True)
    rng: Callable[[], float] = field(default=random.random, kw_only=True)

    def pace(self, limits: Limits) -> None:
        """Keep to these limits from now on: the site has told us its own."""
        self.limits = limits

    async def ask(
        self, request: Request, *, partition: Partition | None, page: int, tally: Tally
    ) -> Raw:
        """One page, asked for up to three times.

        Raises a Failure with its `attempts` if there is no answer to be had. If that could be had
        after a wait longer than 30 s, it is RateLimited or what a resting host failed with last,
        and `retry_in` is that wait.
        """
        asking = _Asking(tally)
        while True:
            try:
                answer = await self._attempt(request, asking)
                break
            except Failure as failure:
                wait = self._patience(failure, request, asking)
            await self.sleep(wait)
            asking.attempt += 1
            tally.retries += 1
        shown = urls.public(answer.url)
        _log.debug(
            "fetch.page",
            source=self.source,
            status=answer.status,
            bytes=len(answer.body),
            attempt=asking.attempt,
            url=shown,
        )
        return Raw(
            body=answer.body,
            status=answer.status,
            url=shown,
            headers=answer.headers,
            fetched_at=self.clock(),
            partition=partition,
            page=page,
        )

    def _patience(self, failure: Failure, request: Request, asking: _Asking) -> float:
        """Seconds to sleep before asking again. Raises `failure`, or as it is told, if not."""
        failure.attempts = asking.attempt
        wait = retry.pause(failure, asking.attempt, self.rng())
        if wait > retry.PATIENCE:
            raise _postponed(failure) from failure.__cause__
        helps = retry.helps(failure, request.method, asking.attempt)
        if not helps or asking.attempt >= self.attempts:
            raise failure
        if not asking.may_retry:
            raise _unretried(failure) from failure.__cause__
        asking.last = failure
        self._log_retry(failure, wait)
        return wait

    async def _attempt(self, request: Request, asking: _Asking) -> Answer:
        left = self.deadline
        clock = asyncio.get_running_loop().time
        hop = request
        for _ in range(HOPS + 1):
            outgoing = self._outgoing(hop)
            passed = await self._enter(outgoing.url, asking)
            try:
                await self._turn(passed.wait, asking.tally)
                began = clock()
                answer, following = await self._heeded(passed, hop, outgoing, (left, asking.tally))
                left -= clock() - began
            finally:
                self.limiter.free(passed)
            if following is None:
                return answer
            hop = following
        raise HttpStatus(f"more than {HOPS} redirects", url=urls.public(hop.url))

    def _outgoing(self, hop: Request) -> httpx.Request:
        try:
            outgoing = self.client.build_request(
                hop.method,
                hop.url,
                params=hop.params or None,
                headers=self._headers(hop),
                content=hop.body,
            )
        except FOREIGN as error:
            raise translated(error, urls.public(hop.url)) from error
        urls.vet(outgoing.url)
        return outgoing

    def _headers(self, hop: Request) -> Mapping[str, str] | None:
        # Merging headers is costly, and what most sources accept is the client's own default.
        if self.client.headers.get("accept") == hop.accept:
            return hop.headers or None
        return {"accept": hop.accept, **hop.headers}

    async def _enter(self, url: httpx.URL, asking: _Asking) -> Pass:
        host, tally = urls.host_key(url), asking.tally
        while True:
            passed = await self.limiter.enter(host, self.limits, again=asking.last is not None)
            tally.throttled_ms += round(passed.queued * 1000)
            if passed.verdict is not Verdict.RESTING or passed.wait > retry.PATIENCE:
                break
            await self._turn(passed.wait, tally)
        asking.may_retry = passed.may_retry
        if passed.verdict is Verdict.GO:
            return passed
        if passed.verdict is Verdict.SPENT and asking.last is not None:
            raise _unretried(asking.last) from asking.last.__cause__
        raise self._refused(passed, url)

    def _refused(self, passed: Pass, url: httpx.URL) -> Failure:
        if passed.verdict is Verdict.RESTING:
            until = self.clock() + timedelta(seconds=passed.wait)
            kind = _RESTED.get(passed.kind, Network)
            message = (
                f"{url.host} failed too often ({kind.kind}) and rests until {until:%H:%M:%S} UTC"
            )
            return kind(message, url=urls.public(str(url)), retry=False, retry_in=passed.wait)
        message = f"{url.host} is not to be asked for another {passed.wait:.0f} s"
        return RateLimited(message, url=urls.public(str(url)), retry_in=passed.wait)

    async def _turn(self, wait: float, tally: Tally) -> None:
        if wait > 0:
            tally.throttled_ms += round(wait * 1000)
            await self.sleep(wait)

    async def _heeded(
        self, passed: Pass, hop: Request, outgoing: httpx.Request, bounds: tuple[float, Tally]
    ) -> tuple[Answer, Request | None]:
        """The answer and where it points, if elsewhere. Raises what the limiter makes of a failure.

        `bounds`: the seconds left, and where to count.
        """
        try:
            answer = await self._exchange(outgoing, *bounds)
            following = answers.next_hop(hop, answer)
            failure = None if following else answers.fault(answer, hop, self.clock())
        except Failure as error:
            raise await self._told(passed, error) from error.__cause__
        if failure is not None:
            raise await self._told(passed, failure)
        await self.limiter.heed(passed, None)
        return answer, following

    async def _told(self, passed: Pass, failure: Failure) -> Failure:
        return await self.limiter.heed(passed, failure) or failure

    async def _exchange(self, outgoing: httpx.Request, left: float, tally: Tally) -> Answer:
        tally.requests += 1
        try:
            async with asyncio.timeout(left):
                response = await self.client.send(outgoing, stream=True)
                try:
                    answer = await self._read(response)
                    tally.classes[_class(answer.status)] += 1
                    return answer
                finally:
                    tally.bytes += response.num_bytes_downloaded
                    await response.aclose()
        except Failure as failure:
            failure.url = urls.public(str(outgoing.url))
            tally.classes[failure.kind.value] += 1
            raise
        except FOREIGN as error:
            failure = translated(error, urls.public(str(outgoing.url)))
            tally.classes[failure.kind.value] += 1
            raise failure from error

    async def _read(self, response: httpx.Response) -> Answer:
        if response.is_success:
            content = await body.read(response, self.max_bytes)
        else:
            content = await _error_page(response)
        return Answer(response.status_code, str(response.url), dict(response.headers), content)

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


def _class(status: int) -> str:
    return "429" if status == HTTPStatus.TOO_MANY_REQUESTS else f"{status // 100}xx"


async def _error_page(response: httpx.Response) -> bytes:
    """The start of a page whose status alone decides: however it fails, the status counts."""
    try:
        async with asyncio.timeout(_ERROR_PAGE_SECONDS):
            return await body.start(response, _ERROR_PAGE)
    except FOREIGN:
        return b""


def _postponed(failure: Failure) -> Failure:
    if isinstance(failure, RateLimited) or not failure.retry:
        return failure
    late = RateLimited(
        str(failure), status=failure.status, url=failure.url, retry_in=failure.retry_in
    )
    late.attempts = failure.attempts
    return late


def _unretried(failure: Failure) -> Failure:
    message = f"{failure}; not asked again, for this hour's retries of the host are used up"
    final = type(failure)(message, status=failure.status, url=failure.url, retry=False)
    final.attempts = failure.attempts
    return final
