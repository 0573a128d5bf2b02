"""The fetcher against servers that misbehave, and against its own clock."""

import asyncio
import subprocess
import sys
import zlib
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import httpx
import pytest

from app.core.errors import (
    Auth,
    Blocked,
    Failure,
    HttpStatus,
    Network,
    RateLimited,
    Schema,
    Timeout,
    TooLarge,
    UnsafeAddress,
)
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.solo_limiter import SoloLimiter
from tests.fetch.fetchers import FAST, MAX_BYTES, NOW, Naps, fetcher_on, honest
from tests.fetch.hostile import PAGE, Handler, Visit, bomb, serving, zipped


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with open_client("rollcall-test", concurrency=10) as opened:
        yield opened


async def ask(
    fetcher: Fetcher, request: SourceRequest, tally: RequestCounts | None = None
) -> RawPage:
    return await fetcher.fetch(request, tally or RequestCounts())


async def visited(client: httpx.AsyncClient, handler: Handler, **request: object) -> RawPage:
    async with serving(handler) as base:
        return await ask(fetcher_on(client), SourceRequest(f"{base}/page", **request))  # pyright: ignore[reportArgumentType] - the tests' own keywords


def canned(raw: bytes) -> Handler:
    async def handler(visit: Visit) -> None:
        await visit.say(raw)

    return handler


async def reset_at_once(visit: Visit) -> None:
    visit.reset()


async def reset_in_headers(visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 200 OK\r\ncontent-ty")
    visit.reset()


async def reset_in_body(visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{")
    visit.reset()


BROKEN: dict[str, Handler] = {
    "reset at once": reset_at_once,
    "reset in headers": reset_in_headers,
    "reset in body": reset_in_body,
    "body shorter than said": canned(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{}"),
    "chunks break off": canned(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"),
    "not http": canned(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"),
    "truncated gzip": honest(body=zipped()[:-9], content_encoding="gzip"),
    "broken gzip": honest(body=b"\x1f\x8b\x08" + b"nonsense" * 4, content_encoding="gzip"),
}


@pytest.mark.parametrize("handler", BROKEN.values(), ids=BROKEN.keys())
async def test_a_broken_connection_is_network_after_three_attempts(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    with pytest.raises(Network) as caught:
        await visited(client, handler)

    assert caught.value.attempts == 3
    assert caught.value.url is not None


REFUSED: dict[str, tuple[Handler, type[Failure]]] = {
    "403": (honest("403 Forbidden"), Blocked),
    "401": (honest("401 Unauthorized"), Auth),
    "404": (honest("404 Not Found"), HttpStatus),
    "422": (honest("422 Unprocessable"), HttpStatus),
    "202 without a body": (honest("202 Accepted", b""), Blocked),
    "html with a json type": (honest(body=b"\n<!DOCTYPE html><title>Log in"), Blocked),
    "html in utf-16": (honest(body="<html>".encode("utf-16")), Blocked),
    "challenge header": (honest(x_amzn_waf_action="challenge"), Blocked),
    "protobuf": (honest(body=b"\n\x01a", content_type="application/x-protobuf"), Schema),
    "brotli unasked": (honest(body=b"\x0b\x02\x80", content_encoding="br"), Schema),
    "bomb": (honest(body=bomb(100), content_encoding="gzip"), TooLarge),
    "length too large": (honest(content_length="99999999999"), TooLarge),
    "header too long": (honest(x_long="a" * 20_000), TooLarge),
    "redirect to a file": (honest("302 Found", location="file:///etc/passwd"), UnsafeAddress),
    "redirect with a user": (
        honest("302 Found", location="http://me:you@127.0.0.1/"),
        UnsafeAddress,
    ),
    "redirect to garbage": (honest("302 Found", location="http://[::1/"), UnsafeAddress),
    "redirect loop": (honest("302 Found", location="/page"), HttpStatus),
    "redirect to nowhere": (honest("302 Found"), HttpStatus),
}


@pytest.mark.parametrize(("handler", "kind"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_will_not_change_is_asked_for_once(
    client: httpx.AsyncClient, handler: Handler, kind: type[Failure]
) -> None:
    with pytest.raises(kind) as caught:
        await visited(client, handler)

    assert type(caught.value) is kind
    assert caught.value.attempts == 1


async def test_a_page_comes_as_it_is_with_its_facts(client: httpx.AsyncClient) -> None:
    tally = RequestCounts()
    async with serving(honest(body=zipped(), content_encoding="gzip")) as base:
        request = SourceRequest(f"{base}/page", params=(("api_key", "hush"), ("p", "2")))
        raw = await fetcher_on(client).fetch(request, tally)

    assert (raw.body, raw.status) == (PAGE, 200)
    assert raw.url == f"{base}/page?api_key=***&p=2"
    assert raw.fetched_at == NOW
    assert tally == RequestCounts(
        requests=1, bytes=len(zipped()), decoded=len(PAGE), classes=Counter({"2xx": 1})
    )


BARE = zlib.compressobj(wbits=-15)
READABLE = {
    "deflate": (zlib.compress(PAGE), "deflate"),
    "bare deflate": (BARE.compress(PAGE) + BARE.flush(), "deflate"),
    "two gzip members": (zipped(PAGE[:5]) + zipped(PAGE[5:]), "gzip"),
    "padded gzip": (zipped() + bytes(10), "gzip"),
    "identity": (PAGE, "identity"),
}


@pytest.mark.parametrize(("body", "encoding"), READABLE.values(), ids=READABLE.keys())
async def test_each_form_of_gzip_and_deflate_is_read(
    client: httpx.AsyncClient, body: bytes, encoding: str
) -> None:
    raw = await visited(client, honest(body=body, content_encoding=encoding))

    assert raw.body == PAGE


async def test_a_large_page_is_inflated_off_the_loop_to_the_same_bytes(
    client: httpx.AsyncClient,
) -> None:
    page = b"".join(b"%d," % (n * 7919) for n in range(60_000))

    raw = await visited(client, honest(body=zipped(page), content_encoding="gzip"))

    assert raw.body == page


async def drip(visit: Visit, first: bytes, more: bytes) -> None:
    await visit.say(first)
    while not visit.writer.is_closing():
        await visit.say(more)
        await asyncio.sleep(0.01)


async def slow_headers(visit: Visit) -> None:
    await drip(visit, b"HTTP/1.1 200 OK\r\n", b"x")


async def slow_body(visit: Visit) -> None:
    await drip(visit, b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n", b"x")


async def silence(visit: Visit) -> None:
    await visit.hang()


@pytest.mark.parametrize("handler", [slow_headers, slow_body, silence])
async def test_a_slow_answer_ends_at_the_deadline_and_is_not_waited_for_again(
    client: httpx.AsyncClient, handler: Handler
) -> None:
    async with serving(handler) as base:
        fetcher = fetcher_on(client, deadline=0.15)
        with pytest.raises(Timeout, match=r"took longer than 0\.15 s") as caught:
            await ask(fetcher, SourceRequest(base))

    assert caught.value.attempts == 1


async def endless(status: bytes, visit: Visit) -> None:
    await visit.say(b"HTTP/1.1 " + status + b"\r\ntransfer-encoding: chunked\r\n\r\n")
    while not visit.writer.is_closing():
        await visit.say(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")


async def test_an_endless_body_is_cut_at_the_bound(client: httpx.AsyncClient) -> None:
    with pytest.raises(TooLarge):
        await visited(client, partial(endless, b"200 OK"))


@pytest.mark.parametrize("coding", ["", "chunked", "gzip"])
async def test_a_body_of_as_many_bytes_as_are_allowed_is_read(
    client: httpx.AsyncClient, coding: str
) -> None:
    async def handler(visit: Visit) -> None:
        whole = b"x" * (MAX_BYTES + visit.count - 1)
        if coding == "chunked":
            await visit.say(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            await visit.say(b"%x\r\n%s\r\n0\r\n\r\n" % (len(whole), whole))
        elif coding == "gzip":
            await visit.answer(body=zipped(whole), content_encoding="gzip")
        else:
            await visit.answer(body=whole)

    fetcher = fetcher_on(client)
    async with serving(handler) as base:
        raw = await ask(fetcher, SourceRequest(base))
        with pytest.raises(TooLarge):  # one byte more
            await ask(fetcher, SourceRequest(base))

    assert len(raw.body) == MAX_BYTES


async def test_a_refused_port_is_network(client: httpx.AsyncClient) -> None:
    async with serving(honest()) as base:
        pass

    with pytest.raises(Network):
        await ask(fetcher_on(client), SourceRequest(base))


async def test_a_flapping_server_is_asked_until_it_answers(client: httpx.AsyncClient) -> None:
    async def flapping(visit: Visit) -> None:
        await visit.answer("503 Down" if visit.count < 3 else "200 OK")

    tally, naps = RequestCounts(), Naps()
    async with serving(flapping) as base:
        raw = await ask(fetcher_on(client, naps=naps), SourceRequest(base), tally)

    assert raw.body == PAGE
    assert (tally.requests, tally.retries) == (3, 2)
    assert [nap for nap in naps.taken if nap >= 0.5] == [0.5, 1.0]


async def test_an_empty_page_is_asked_for_again_where_the_source_says_so(
    client: httpx.AsyncClient,
) -> None:
    async def moody(visit: Visit) -> None:
        await visit.answer(body=b"" if visit.count == 1 else PAGE)

    raw = await visited(client, moody, retry_empty=True)

    assert raw.body == PAGE


async def test_a_post_is_never_sent_twice(client: httpx.AsyncClient) -> None:
    with pytest.raises(HttpStatus) as caught:
        await visited(client, honest("503 Down"), method="POST", body=b"{}")

    assert caught.value.attempts == 1


WAITS = [
    ("7", 7.0),
    ("0", 0.0),
    ("Sun, 01 Mar 2026 12:00:09 GMT", 9.0),
    ("Sun, 01 Mar 2020 12:00:00 GMT", 0.0),
    ("-5", None),
    ("soon", None),
]


@pytest.mark.parametrize(("header", "seconds"), WAITS)
async def test_retry_after_is_the_least_we_wait(
    client: httpx.AsyncClient, header: str, seconds: float | None
) -> None:
    async def throttled(visit: Visit) -> None:
        if visit.count == 1:
            await visit.answer("429 Slow down", retry_after=header)
        else:
            await visit.answer()

    naps = Naps()
    async with serving(throttled) as base:
        raw = await ask(fetcher_on(client, naps=naps), SourceRequest(base))

    assert raw.body == PAGE
    assert naps.taken[0] == max(seconds or 0.0, 0.5)


@pytest.mark.parametrize("status", ["429 Slow down", "503 Down"])
async def test_a_long_wait_is_raised_not_slept_and_closes_the_host(
    client: httpx.AsyncClient, status: str
) -> None:
    tally, naps = RequestCounts(), Naps()
    async with serving(honest(status, retry_after="120")) as base:
        fetcher = fetcher_on(client, naps=naps)
        with pytest.raises(RateLimited) as first:
            await ask(fetcher, SourceRequest(base), tally)
        with pytest.raises(RateLimited) as second:
            await ask(fetcher, SourceRequest(f"{base}/other"), tally)

    assert (first.value.retry_in, first.value.status) == (120, int(status[:3]))
    assert second.value.retry_in == pytest.approx(120, abs=3)
    assert (tally.requests, naps.taken) == (1, [])


async def test_a_redirect_keeps_our_headers_within_the_origin_only(
    client: httpx.AsyncClient,
) -> None:
    heads: list[str] = []

    async def far(visit: Visit) -> None:
        heads.append(visit.head.lower())
        await visit.answer()

    async with serving(far) as other:

        async def near(visit: Visit) -> None:
            heads.append(visit.head.lower())
            there = "/second" if visit.path == "/first" else f"{other}/third"
            await visit.answer("302 Found", location=there, set_cookie="session=1")

        async with serving(near) as base:
            request = SourceRequest(f"{base}/first", headers={"authorization": "Bearer hush"})
            raw = await ask(fetcher_on(client), request)

    assert raw.url == f"{other}/third"
    assert ["bearer hush" in head for head in heads] == [True, True, False]
    assert not any("cookie" in head for head in heads)
    assert all("accept-encoding: gzip, deflate\r\n" in head for head in heads)
    assert all("user-agent: rollcall-test\r\n" in head for head in heads)


async def test_an_error_says_what_the_site_said_without_our_secrets(
    client: httpx.AsyncClient,
) -> None:
    said = b'{"code": 403001, "detail": "plan of hush-hush", "access_token": "abc"}'
    headers = {"authorization": "Bearer hush-hush"}

    with pytest.raises(Blocked) as caught:
        await visited(client, honest("403 Forbidden", said), headers=headers)

    assert "403001" in str(caught.value)
    assert "hush-hush" not in str(caught.value)
    assert "abc" not in str(caught.value)


async def test_a_status_counts_even_if_its_page_never_ends(client: httpx.AsyncClient) -> None:
    with pytest.raises(HttpStatus):
        await visited(client, partial(endless, b"404 Gone"))


@pytest.mark.parametrize(
    "url", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://u:p@127.0.0.1/", "http://", "/x"]
)
async def test_an_address_that_is_not_plain_http_is_unsafe(
    client: httpx.AsyncClient, url: str
) -> None:
    with pytest.raises(UnsafeAddress):
        await ask(fetcher_on(client), SourceRequest(url))


@pytest.mark.parametrize(
    "host", ["xn--a", "xn--ls8h.invalid", "xn--", "xn--ü", "x.xn--zz9999999999", "a\u3002b", "[::1"]
)
async def test_a_host_that_cannot_be_decoded_fails_as_any_other(
    client: httpx.AsyncClient, host: str
) -> None:
    async def near(visit: Visit) -> None:
        location = f"http://{host}/".encode().decode("latin-1")
        await visit.answer("302 Found", b"", location=location)

    async with serving(near) as base:
        for url in (f"http://{host}/", base):
            with pytest.raises(Failure):
                await ask(replace(fetcher_on(client), attempts=1), SourceRequest(url))


async def test_no_more_requests_are_under_way_than_allowed(client: httpx.AsyncClient) -> None:
    under_way = most = 0

    async def counting(visit: Visit) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await asyncio.sleep(0.005)
        under_way -= 1
        await visit.answer()

    async with serving(counting) as base:
        fetcher = fetcher_on(client)
        await asyncio.gather(*(ask(fetcher, SourceRequest(base)) for _ in range(60)))

    assert most == FAST.concurrency


async def test_after_1200_cancelled_requests_healthy_ones_succeed(
    client: httpx.AsyncClient,
) -> None:
    async def stuck(visit: Visit) -> None:
        if visit.path == "/stuck":
            await visit.hang()
        await visit.answer()

    async with serving(stuck) as base:
        fetcher = fetcher_on(client)

        async def impatient() -> None:
            async with asyncio.timeout(0.02):
                await ask(fetcher, SourceRequest(f"{base}/stuck"))

        lost: list[BaseException | None] = []
        for _ in range(57):  # half of each round is under way, half stands at our gate
            lost += await asyncio.gather(*(impatient() for _ in range(20)), return_exceptions=True)
        for _ in range(6):  # and some are cancelled before they are connected
            tasks = [
                asyncio.create_task(ask(fetcher, SourceRequest(f"{base}/stuck"))) for _ in range(10)
            ]
            await asyncio.sleep(0)
            for task in tasks:
                task.cancel()
            gone = await asyncio.gather(*tasks, return_exceptions=True)
            lost += [one for one in gone if isinstance(one, BaseException)]
        healthy = await asyncio.gather(
            *(ask(fetcher, SourceRequest(f"{base}/well")) for _ in range(5))
        )

    assert len(lost) == 1_200
    assert all(isinstance(error, TimeoutError | asyncio.CancelledError) for error in lost)
    assert [raw.body for raw in healthy] == [PAGE] * 5


BOMBED = """
import asyncio, re, sys
from pathlib import Path
from app.core.errors import TooLarge
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.solo_limiter import SoloLimiter
from app.core.messages import HostLimits, SourceRequest

def peak():  # kilobytes; getrusage would count what the parent had before exec
    return int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])

async def main(base):
    limits = HostLimits(rate=100, burst=10, concurrency=2)
    how = {"tally": RequestCounts()}
    async with open_client("t", concurrency=2) as client:
        fetcher = Fetcher(client, SoloLimiter(), source="t", limits=limits)
        await fetcher.fetch(SourceRequest(base + "/well"), **how)
        before = peak()
        try:
            await fetcher.fetch(SourceRequest(base + "/bomb"), **how)
        except TooLarge:
            print(peak() - before)

asyncio.run(main(sys.argv[1]))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
async def test_a_bomb_of_500_megabytes_costs_less_than_50() -> None:
    async def bombing(visit: Visit) -> None:
        if visit.path == "/bomb":
            await visit.answer(body=bomb(500), content_encoding="gzip")
        await visit.answer()

    async with serving(bombing) as base:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-c",
            BOMBED,
            base,
            stdout=subprocess.PIPE,
            cwd=Path(__file__).parents[2],
        )
        said, _ = await child.communicate()

    assert int(said.split()[-1]) < 50 * 1024


async def test_a_timeout_of_httpx_itself_is_a_timeout() -> None:
    def late(request: httpx.Request) -> httpx.Response:
        raise httpx.ReadTimeout("late", request=request)

    async with httpx.AsyncClient(transport=httpx.MockTransport(late)) as mocked:
        with pytest.raises(Timeout):
            await ask(fetcher_on(mocked), SourceRequest("https://site.test/"))


async def test_the_wait_for_a_slot_is_slept_and_counted() -> None:
    def well(_: httpx.Request) -> httpx.Response:
        return httpx.Response(200, stream=httpx.ByteStream(PAGE))

    tally, naps = RequestCounts(), Naps()
    async with httpx.AsyncClient(transport=httpx.MockTransport(well)) as mocked:
        limiter = SoloLimiter(clock=lambda: 1.0)
        limits = HostLimits(rate=2, burst=1, concurrency=1)
        fetcher = Fetcher(mocked, limiter, source="t", limits=limits, sleep=naps)
        for _ in range(3):
            await ask(fetcher, SourceRequest("https://site.test/"), tally)

    assert naps.taken == [0.5, 1.0]
    assert tally.throttled_ms == 1_500
