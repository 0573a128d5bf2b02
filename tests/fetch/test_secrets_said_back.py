"""What a site says back of our secrets reaches no page, failure, URL or log line."""

import json
from collections.abc import Callable
from urllib.parse import quote

import httpx
import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs

from app.core.errors import Failure
from app.core.messages import HostLimits, SourceRequest
from app.fetch.authenticated import (
    AnyFetcher,
    BasicCredential,
    BearerCredential,
    FetcherOptions,
    Fetchers,
    HeaderCredential,
    Login,
    QueryCredential,
)
from app.fetch.client import RequestCounts, _now  # pyright: ignore[reportPrivateUsage]
from app.fetch.solo_limiter import SoloLimiter
from app.fetch.tokens import ClientCredentials

SECRET = "s3cr3t/of+the-house"  # noqa: S105 - of nobody
TOKEN = "t0ken/of+the-house"  # noqa: S105 - of nobody
BASIC = "YWRhOnMzY3IzdC9vZit0aGUtaG91c2U="
LIMITS = HostLimits(rate=1_000, burst=1_000, concurrency=9)
SHAPES = tuple(
    shape
    for one in (SECRET, TOKEN)
    for shape in (one, quote(one, safe=""), quote(one), one.replace("/", "\\/"))
)
LOGINS: dict[str, Login] = {
    "bearer": BearerCredential(SecretStr(SECRET), "THE_KEY"),
    "oauth2": ClientCredentials(
        "https://auth.test/token", "an id", SecretStr(SECRET), "", "THE_KEY"
    ),
    "header": HeaderCredential("X-Shop", SecretStr(SECRET), "THE_KEY"),
    "query": QueryCredential("appid", SecretStr(SECRET), "THE_KEY"),
    "basic": BasicCredential("ada", SecretStr(SECRET), "THE_KEY"),
}


def said_back(status: int, **headers: str) -> httpx.Response:
    """A response that has every secret everywhere."""
    body = json.dumps({"items": [*SHAPES, BASIC], "next": f"/p?token={quote(SECRET)}"})
    return httpx.Response(
        status,
        headers={"etag": f'"{TOKEN} {SECRET}"', "content-type": "application/json", **headers},
        stream=httpx.ByteStream(body.encode()),
    )


def fetcher_with(login: Login, page: Callable[[], httpx.Response]) -> AnyFetcher:
    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/token":
            token = json.dumps({"access_token": TOKEN}).encode()
            return httpx.Response(200, stream=httpx.ByteStream(token))
        return page()

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    return Fetchers(client, SoloLimiter(), _now).create(
        "site", FetcherOptions(LIMITS, login, attempts=1)
    )


def assert_hidden(shown: object) -> None:
    for secret in (*SHAPES, BASIC):
        assert secret not in str(shown)


@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)
async def test_no_page_has_a_secret(login: Login) -> None:
    fetcher = fetcher_with(login, lambda: said_back(200))

    with capture_logs() as logs:
        raw = await fetcher.fetch(
            SourceRequest("https://api.test/page"),
            RequestCounts(),
        )

    sent = {"oauth2": (TOKEN,), "basic": (SECRET, BASIC)}.get(_name(login), (SECRET,))
    for secret in sent:
        assert secret not in f"{raw.body.decode()} {raw.headers} {raw.url}"
    assert_hidden(logs)
    assert json.loads(raw.body)["items"], "the page is still JSON"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 429, 500, 302])
@pytest.mark.parametrize("login", LOGINS.values(), ids=LOGINS)
async def test_no_failure_has_a_secret(login: Login, status: int) -> None:
    sent = TOKEN if _name(login) == "oauth2" else SECRET
    location = f"ftp://{quote(sent, safe='')}.test/{sent}?q={quote(sent)}"
    fetcher = fetcher_with(login, lambda: said_back(status, location=location))

    with capture_logs() as logs, pytest.raises(Failure) as caught:
        await fetcher.fetch(
            SourceRequest("https://api.test/page"),
            RequestCounts(),
        )

    failure = caught.value
    shown = f"{failure!r} {failure} {failure.url} {failure.__cause__!r} {logs}"
    for shape in (sent, quote(sent), quote(sent, safe="")):
        assert shape not in shown


@pytest.mark.parametrize("status", [400, 401, 500])
async def test_no_failure_of_a_token_endpoint_has_a_secret(status: int) -> None:
    body = json.dumps({"error": f"bad secret {SECRET} {quote(SECRET, safe='')}"}).encode()

    def answer(_: httpx.Request) -> httpx.Response:
        return httpx.Response(status, stream=httpx.ByteStream(body))

    client = httpx.AsyncClient(transport=httpx.MockTransport(answer))
    options = FetcherOptions(LIMITS, LOGINS["oauth2"], attempts=1)
    fetcher = Fetchers(client, SoloLimiter(), _now).create("site", options)

    with capture_logs() as logs, pytest.raises(Failure) as caught:
        await fetcher.fetch(
            SourceRequest("https://api.test/page"),
            RequestCounts(),
        )

    assert_hidden(f"{caught.value!r} {caught.value.url} {caught.value.__cause__!r} {logs}")


def _name(login: Login) -> str:
    return next(name for name, one in LOGINS.items() if one == login)
