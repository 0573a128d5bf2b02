"""Tokens: fetched once for all who wait, renewed in time, and told to nobody."""

import asyncio
import base64
import json
from collections.abc import Callable
from dataclasses import replace
from urllib.parse import parse_qs

import httpx
import pytest
from pydantic import SecretStr

from app.core.errors import Auth, Failure, HttpStatus, Schema, UnsafeAddress
from app.core.messages import HostLimits, SourceRequest
from app.fetch.authenticated import AnyFetcher, BearerCredential, HeaderCredential, KeyedFetcher
from app.fetch.client import Fetcher, RequestCounts
from app.fetch.solo_limiter import SoloLimiter
from app.fetch.tokens import (
    REFUSAL_HOLD,
    AuthenticatedFetcher,
    ClientCredentials,
    TokenProvider,
)

TOKEN_URL = "https://auth.test/oauth2/token"  # noqa: S105 - no secret
API = SourceRequest("https://api.test/page")
LOGIN = ClientCredentials(TOKEN_URL, "an id", SecretStr("s3cret/+"), "news stories", "THE_SETTINGS")
FAST = HostLimits(rate=1_000, burst=1_000, concurrency=20)


def said(status: int, body: object) -> httpx.Response:
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return httpx.Response(status, stream=httpx.ByteStream(content))  # not read yet, as from a site


class Site:
    """An authorization server and the API that believes it. `good` are the tokens it takes."""

    def __init__(self, life: float | None = 100.0) -> None:
        self.life = life
        self.issued = 0
        self.good: set[str] = set()
        self.asked: list[str] = []
        self.bodies: list[httpx.Request] = []
        self.token_answer: Callable[[], httpx.Response] = self.token
        self.now = 0.0

    async def answer(self, request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(0)  # others may come meanwhile
        if str(request.url) == TOKEN_URL:
            self.bodies.append(request)
            return self.token_answer()
        shown = request.headers.get("authorization", "")
        self.asked.append(shown)
        if shown.removeprefix("Bearer ") in self.good:
            return said(200, {})
        return said(401, {"detail": f"who is {shown}?"})

    def token(self) -> httpx.Response:
        self.issued += 1
        token = f"token-{self.issued}"
        self.good.add(token)
        life = {} if self.life is None else {"expires_in": self.life}
        return said(200, {"access_token": token, **life})

    def fetcher(self) -> Fetcher:
        async def no_pause(_: float) -> None:
            await asyncio.sleep(0)

        client = httpx.AsyncClient(transport=httpx.MockTransport(self.answer))
        return Fetcher(
            client, SoloLimiter(), source="site", limits=FAST, sleep=no_pause, rng=lambda: 0.0
        )

    def signed(self) -> AuthenticatedFetcher:
        keeper = TokenProvider(LOGIN, self.fetcher(), clock=lambda: self.now)
        return AuthenticatedFetcher(self.fetcher(), keeper)


async def ask(fetcher: AnyFetcher, tally: RequestCounts | None = None) -> int:
    raw = await fetcher.fetch(API, tally or RequestCounts())
    return raw.status


async def refusal(fetcher: AnyFetcher) -> Failure:
    with pytest.raises(Failure) as refused:
        await ask(fetcher)
    return refused.value


async def test_ten_requests_at_once_ask_for_one_token() -> None:
    site = Site()
    fetcher = site.signed()

    statuses = await asyncio.gather(*(ask(fetcher) for _ in range(10)))

    assert statuses == [200] * 10
    assert site.issued == 1


async def test_ten_requests_whose_token_was_revoked_ask_for_one_other() -> None:
    site = Site()
    fetcher = site.signed()
    await ask(fetcher)
    site.good.clear()

    statuses = await asyncio.gather(*(ask(fetcher) for _ in range(10)))

    assert statuses == [200] * 10
    assert site.issued == 2


async def test_a_token_is_renewed_before_it_ends() -> None:
    site = Site(life=100)
    fetcher = site.signed()
    await ask(fetcher)

    site.now = 89.9
    await ask(fetcher)
    kept = site.issued
    site.now = 90.0
    await ask(fetcher)

    assert (kept, site.issued) == (1, 2)
    assert site.asked == ["Bearer token-1", "Bearer token-1", "Bearer token-2"]


async def test_a_token_that_does_not_say_how_long_it_is_good_is_kept_for_minutes() -> None:
    site = Site(life=None)
    fetcher = site.signed()
    await ask(fetcher)

    site.now = 200.0
    await ask(fetcher)
    site.now = 300.0
    await ask(fetcher)

    assert site.issued == 2


async def test_the_token_is_asked_for_as_the_standard_says() -> None:
    site = Site()

    await ask(site.signed())

    (request,) = site.bodies
    pair = base64.b64encode(b"an%20id:s3cret%2F%2B").decode()
    assert request.headers["authorization"] == f"Basic {pair}"
    assert parse_qs(request.content.decode()) == {
        "grant_type": ["client_credentials"],
        "scope": ["news stories"],
    }


async def test_what_the_token_costs_is_counted() -> None:
    site, tally = Site(), RequestCounts()

    await ask(site.signed(), tally)

    assert (tally.requests, tally.retries) == (2, 0)


@pytest.mark.parametrize("status", [400, 401, 403])
async def test_refused_credentials_are_named_and_not_shown_again_for_a_while(status: int) -> None:
    site = Site()
    site.token_answer = lambda: said(status, {"error": "invalid_client"})
    fetcher = site.signed()

    failures = [await refusal(fetcher) for _ in range(3)]
    shown = len(site.bodies)
    site.now = REFUSAL_HOLD
    await refusal(fetcher)

    assert {type(failure) for failure in failures} == {Auth}
    assert all("THE_SETTINGS is not accepted" in str(failure) for failure in failures)
    assert not any(failure.retry for failure in failures)
    assert (shown, len(site.bodies)) == (1, 2)
    assert site.asked == []


async def test_an_authorization_server_that_is_away_is_no_refusal() -> None:
    site = Site()
    site.token_answer = lambda: said(503, {})
    fetcher = site.signed()

    failure = await refusal(fetcher)
    site.token_answer = site.token
    status = await ask(fetcher)

    assert isinstance(failure, HttpStatus)
    assert status == 200


async def test_a_fresh_token_that_is_refused_too_is_the_end() -> None:
    site = Site()
    site.token_answer = lambda: said(200, {"access_token": "worthless"})

    failure = await refusal(site.signed())

    assert isinstance(failure, Auth)
    assert site.asked == ["Bearer worthless"]
    assert len(site.bodies) == 2


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b'{"access_token": 7}', b'{"access_token": "s3cr\\nt"}', b"\xff", b"[" * 5_000],
    ids=["empty", "bare", "number", "two lines", "no text", "deep"],
)
async def test_a_token_answer_that_is_none_is_a_failure_that_quotes_nothing(body: bytes) -> None:
    site = Site()
    site.token_answer = lambda: said(200, body)

    failure = await refusal(site.signed())

    assert isinstance(failure, Schema)
    assert "s3cr" not in str(failure)


async def test_no_failure_and_no_window_shows_a_secret() -> None:
    site = Site()
    fetcher = site.signed()
    await ask(fetcher)
    site.good.clear()
    site.token_answer = lambda: said(200, {"access_token": "other"})

    failure = await refusal(fetcher)

    shown = f"{failure!r} {failure.url} {failure.__cause__!r} {fetcher!r}"
    for secret in ("s3cret", "token-1", "Bearer other"):
        assert secret not in shown


async def test_a_key_goes_with_every_request_and_is_named_when_it_is_refused() -> None:
    site = Site()
    site.good = {"the-key"}
    good = BearerCredential(SecretStr("the-key"), "THE_KEY")
    bad = BearerCredential(SecretStr("wr0ng"), "THE_KEY")

    status = await ask(KeyedFetcher(site.fetcher(), good))
    failure = await refusal(KeyedFetcher(site.fetcher(), bad))

    assert status == 200
    assert isinstance(failure, Auth)
    assert str(failure).startswith("THE_KEY is not accepted: HTTP 401")
    assert "wr0ng" not in f"{failure!r}"
    assert site.asked == ["Bearer the-key", "Bearer wr0ng"]


@pytest.mark.parametrize("key", ["ключ", "two\nlines", "naïve", "trailing\x7f"])
async def test_a_key_that_no_header_can_carry_is_named_and_not_sent(key: str) -> None:
    site = Site()
    in_header = KeyedFetcher(site.fetcher(), HeaderCredential("X-Key", SecretStr(key), "env:KEY"))
    bearer = KeyedFetcher(site.fetcher(), BearerCredential(SecretStr(key), "env:KEY"))

    for fetcher in (in_header, bearer):
        with pytest.raises(Auth) as refused:
            await fetcher.fetch(API, RequestCounts())

        assert str(refused.value).startswith("env:KEY cannot be sent in a header")
        assert key not in str(refused.value)
        assert not refused.value.retry
    assert site.asked == []


async def test_a_header_that_cannot_be_sent_is_named() -> None:
    request = replace(API, headers={"x-city": "München"})

    with pytest.raises(UnsafeAddress, match="the header x-city"):
        await Site().fetcher().fetch(request, RequestCounts())
