"""What servers do besides the rules of HTTP is read as browsers read it, or named."""

import gzip
import zlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from app.core.errors import Blocked, HttpStatus, Network, Schema
from app.core.messages import RawPage, SourceRequest
from app.fetch.client import RequestCounts, open_client
from scripts.tcp_server import tcp_server
from tests.certificates import self_signed
from tests.fetch.fetchers import fetcher_on, honest
from tests.fetch.hostile import PAGE, Handler, Visit, serving, zipped

HTML = "text/html, */*;q=0.5"


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client("rollcall-test", concurrency=10) as opened:
        yield opened


async def fetched(
    client: httpx.AsyncClient, handler: Handler, path: str = "/page", **options: object
) -> RawPage:
    """The page that a server gives."""
    async with serving(handler) as base:
        request = replace(SourceRequest(f"{base}{path}"), **options)
        return await fetcher_on(client).fetch(request, RequestCounts())


@pytest.mark.parametrize(
    ("encoding", "body"),
    [
        ("identity", PAGE),
        ("none", PAGE),
        ("utf-8", PAGE),
        ("UTF-8, identity", PAGE),
        ("gzip, gzip", zipped(zipped())),
        ("gzip,identity", zipped()),
        ("deflate, gzip", zipped(zlib.compress(PAGE))),
        ("x-gzip", zipped()),
    ],
)
async def test_a_content_encoding_is_undone_as_browsers_do(
    client: httpx.AsyncClient, encoding: str, body: bytes
) -> None:
    assert (await fetched(client, honest(body=body, content_encoding=encoding))).body == PAGE


@pytest.mark.parametrize("encoding", ["br", "zstd", "gzip, br", "gzip, gzip, gzip, gzip"])
async def test_an_encoding_that_was_not_requested_is_refused(
    client: httpx.AsyncClient, encoding: str
) -> None:
    with pytest.raises(Schema):
        await fetched(client, honest(body=zipped(), content_encoding=encoding))


async def test_a_body_that_is_not_in_its_encoding_is_corrupt(client: httpx.AsyncClient) -> None:
    with pytest.raises(Network, match="corrupt"):
        await fetched(client, honest(body=PAGE, content_encoding="gzip"))


@pytest.mark.parametrize("path", ["/list.json.gz", "/feed.xml.gz", "/export"])
async def test_a_gzip_file_is_opened(client: httpx.AsyncClient, path: str) -> None:
    handler = honest(body=gzip.compress(PAGE, mtime=0), content_type="application/gzip")

    assert (await fetched(client, handler, path)).body == PAGE


async def test_a_gzip_file_in_a_gzip_encoding_is_opened_too(client: httpx.AsyncClient) -> None:
    handler = honest(body=zipped(zipped()), content_encoding="gzip")

    assert (await fetched(client, handler)).body == PAGE


async def failing_once(visit: Visit) -> None:
    """Answers 503 first, and then the page."""
    await visit.answer("503 Busy" if visit.count == 1 else "200 OK")


async def test_a_post_is_sent_again_only_if_it_reads(client: httpx.AsyncClient) -> None:
    with pytest.raises(HttpStatus) as caught:
        await fetched(client, failing_once, method="POST", body=b"{}")
    raw = await fetched(client, failing_once, method="POST", body=b"{}", read_only=True)

    assert (caught.value.attempts, raw.body) == (1, PAGE)


async def test_a_part_of_a_page_is_no_page(client: httpx.AsyncClient) -> None:
    last = len(PAGE) - 1
    part, unsaid, whole = (
        honest("206 Partial Content", content_range=said)
        for said in (f"bytes 0-{last}/999", "", f"bytes 0-{last}/{last + 1}")
    )

    assert (await fetched(client, whole)).body == PAGE
    for handler in (part, unsaid):
        with pytest.raises(Schema, match="HTTP 206: a part of the page"):
            await fetched(client, handler)


async def test_two_hundred_header_lines_are_read(client: httpx.AsyncClient) -> None:
    headers = {f"x_line_{number}": "x" for number in range(200)}

    assert (await fetched(client, honest("200 OK", PAGE, **headers))).body == PAGE


@pytest.mark.parametrize(
    "query",
    [
        "q=caf%E9",
        "at=2026-11-26T00:00:00+01:00",
        "flag",
        "p=a%2Fb",
        "sig=a%2b%2B==",
        "a&&b",
        "x=~'()*",
    ],
)
async def test_a_query_is_sent_as_it_is_written(client: httpx.AsyncClient, query: str) -> None:
    seen: list[str] = []

    async def handler(visit: Visit) -> None:
        seen.append(visit.path)
        if visit.path.startswith("/old"):
            await visit.answer("302 Found", b"", location=f"/page?{query}")
        else:
            await visit.answer()

    await fetched(client, handler, f"/page?{query}")
    await fetched(client, handler, f"/page?{query}", params=(("page", "2"),))
    await fetched(client, handler, "/old")

    assert seen == [f"/page?{query}", f"/page?{query}&page=2", "/old", f"/page?{query}"]


async def cookie_loop(visit: Visit) -> None:
    """Sets a cookie and redirects to itself until it comes back."""
    await visit.answer("302 Found", b"", location=visit.path, set_cookie="seen=1")


def page(text: bytes) -> Handler:
    """A page for people."""
    return honest(body=b"<!doctype html><html><body>" + text, content_type="text/html")


@pytest.mark.parametrize(
    "handler",
    [
        cookie_loop,
        page(b"<h1>Please enable cookies</h1>"),
        page(b"<p>Cookies are required to view this site.</p>"),
        page(b"<script>document.cookie='a=1';location.reload()</script>"),
        page(b"<script>document.cookie = 'a=1'</script><meta http-equiv=refresh content=0>"),
        honest("403 Forbidden", b"<html>Enable cookies to go on</html>"),
    ],
)
async def test_a_cookie_wall_is_named(client: httpx.AsyncClient, handler: Handler) -> None:
    with pytest.raises(Blocked, match="a cookie wall"):
        await fetched(client, handler, accept=HTML)


async def test_a_page_that_speaks_of_cookies_among_its_links_is_a_page(
    client: httpx.AsyncClient,
) -> None:
    links = b"".join(b"<li><a href=/%d>Ware</a></li>" % number for number in range(9))

    raw = await fetched(client, page(links + b"<footer>Accept cookies</footer>"), accept=HTML)

    assert raw.status == 200


async def test_a_certificate_that_is_not_trusted_is_named_and_not_tried_again(
    client: httpx.AsyncClient, tmp_path: Path
) -> None:
    async def hang_up(*_: object) -> None: ...

    async with tcp_server(hang_up, ssl=self_signed(tmp_path)) as port:
        request = SourceRequest(f"https://127.0.0.1:{port}/page")
        with pytest.raises(Network, match="TLS certificate is invalid") as caught:
            await fetcher_on(client).fetch(request, RequestCounts())

    assert caught.value.attempts == 1
