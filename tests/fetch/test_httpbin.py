"""The fetcher against httpbin, a server nobody here wrote. scripts/httpbin makes what it needs."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from app.core.errors import (
    Auth,
    Blocked,
    Failure,
    HttpStatus,
    RateLimited,
    Schema,
    Timeout,
    TooLarge,
)
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.solo_limiter import SoloLimiter

PYTHON = Path(__file__).parents[2] / ".rollcall" / "httpbin" / "bin" / "python"
SERVE = """
from httpbin import app
from werkzeug.serving import WSGIRequestHandler, make_server
WSGIRequestHandler.protocol_version = "HTTP/1.1"
server = make_server("127.0.0.1", 0, app, threaded=True)
print(server.port, flush=True)
server.serve_forever()
"""

pytestmark = pytest.mark.skipif(not PYTHON.exists(), reason="scripts/httpbin makes its environment")


@pytest.fixture(scope="module")
def base() -> Iterator[str]:
    command = [str(PYTHON), "-c", SERVE]
    with subprocess.Popen(  # noqa: S603 - our own words
        command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        assert server.stdout is not None
        try:
            yield f"http://127.0.0.1:{int(server.stdout.readline())}"
        finally:
            server.terminate()


@pytest.fixture
async def fetcher() -> AsyncIterator[Fetcher]:
    async def no_nap(_: float) -> None:
        await asyncio.sleep(0)

    async with open_client("rollcall-test", concurrency=4) as client:
        yield Fetcher(
            client,
            SoloLimiter(),
            source="httpbin",
            limits=HostLimits(rate=1_000, burst=1_000, concurrency=4),
            max_bytes=50_000,
            deadline=0.6,
            sleep=no_nap,
        )


async def ask(
    fetcher: Fetcher, url: str, tally: RequestCounts | None = None, **details: Any
) -> RawPage:
    return await fetcher.fetch(SourceRequest(url, **details), tally or RequestCounts())


@pytest.mark.parametrize(("path", "field"), [("gzip", "gzipped"), ("deflate", "deflated")])
async def test_both_encodings_we_ask_for_are_read(
    fetcher: Fetcher, base: str, path: str, field: str
) -> None:
    raw = await ask(fetcher, f"{base}/{path}")

    assert json.loads(raw.body)[field] is True


async def test_it_hears_who_we_are_and_no_more_than_we_say(fetcher: Fetcher, base: str) -> None:
    raw = await ask(fetcher, f"{base}/headers")

    result = json.loads(raw.body)["headers"]
    assert result["User-Agent"] == "rollcall-test"
    assert result["Accept-Encoding"] == "gzip, deflate"
    assert set(result) == {"Accept", "Accept-Encoding", "Host", "User-Agent"}


@pytest.mark.parametrize("way", ["redirect/4", "relative-redirect/4", "absolute-redirect/4"])
async def test_redirects_of_each_kind_are_followed(fetcher: Fetcher, base: str, way: str) -> None:
    tally = RequestCounts()

    raw = await ask(fetcher, f"{base}/{way}", tally)

    assert raw.url == f"{base}/get"
    assert tally.requests == 5


async def test_a_cookie_set_on_the_way_is_not_sent_back(fetcher: Fetcher, base: str) -> None:
    raw = await ask(fetcher, f"{base}/cookies/set?a=1")

    assert json.loads(raw.body) == {"cookies": {}}


REFUSED: dict[str, tuple[str, type[Failure], int]] = {
    "six redirects": ("redirect/6", HttpStatus, 1),
    "401": ("status/401", Auth, 1),
    "403": ("status/403", Blocked, 1),
    "404": ("status/404", HttpStatus, 1),
    "418": ("status/418", HttpStatus, 1),
    "429": ("status/429", RateLimited, 3),
    "500": ("status/500", HttpStatus, 3),
    "503": ("status/503", HttpStatus, 3),
    "a password wanted": ("basic-auth/a/b", Auth, 1),
    "304 unasked": ("status/304", Schema, 1),
    "brotli unasked": ("brotli", Schema, 1),
    "a web page": ("html", Blocked, 1),
    "too many bytes": ("bytes/60000", TooLarge, 1),
    "too many bytes, in chunks": ("stream-bytes/60000", TooLarge, 1),
    "too late": ("delay/3", Timeout, 1),
    "too slow": ("drip?duration=4&numbytes=8&delay=0", Timeout, 1),
}


@pytest.mark.parametrize(("path", "kind", "attempts"), REFUSED.values(), ids=REFUSED.keys())
async def test_what_is_no_answer_is_called_by_its_name(
    fetcher: Fetcher, base: str, path: str, kind: type[Failure], attempts: int
) -> None:
    with pytest.raises(Failure) as caught:
        await ask(fetcher, f"{base}/{path}")

    assert type(caught.value) is kind
    assert caught.value.attempts == attempts


async def test_a_stream_is_read_to_its_end(fetcher: Fetcher, base: str) -> None:
    raw = await ask(fetcher, f"{base}/stream/30")

    assert [json.loads(line)["id"] for line in raw.body.splitlines()] == list(range(30))


async def test_a_drip_within_the_deadline_is_read(fetcher: Fetcher, base: str) -> None:
    raw = await ask(fetcher, f"{base}/drip?duration=0.2&numbytes=4&delay=0")

    assert raw.body == b"****"


async def test_a_validator_it_gave_comes_back_as_not_modified(fetcher: Fetcher, base: str) -> None:
    first = await ask(fetcher, f"{base}/etag/one")
    again = await ask(fetcher, f"{base}/etag/one", headers={"if-none-match": first.headers["etag"]})

    assert (first.status, again.status, again.body) == (200, 304, b"")
