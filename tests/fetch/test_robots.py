"""robots.txt is kept to, and asked for once a day."""

import asyncio
from collections.abc import AsyncIterator

import httpx
import pytest
from redis.asyncio import Redis

from app.core.errors import Blocked, Failure, HttpStatus, Network, RateLimited
from app.core.messages import HostLimits, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.robots import FAILURE_TTL, MAX_BYTES, RULES_TTL, Robots, is_allowed
from app.fetch.solo_limiter import SoloLimiter
from tests.fetch.hostile import Visit, serving

RULES = b"""
User-agent: *
Disallow: /private
User-agent: rollcall
Allow: /private/open
Disallow: /private
Disallow: /*?sort=
"""


class Site:
    """Serves a robots.txt with that status, and counts how often it is read."""

    def __init__(self, body: bytes = RULES, status: str = "200 OK") -> None:
        self.body = body
        self.status = status
        self.read = 0

    async def __call__(self, visit: Visit) -> None:
        assert visit.path == "/robots.txt"
        self.read += 1
        await visit.answer(self.status, self.body, content_type="text/plain")


@pytest.fixture
async def window() -> AsyncIterator[Fetcher]:
    async with open_client("t", concurrency=2) as client:
        yield fast(client)


def fast(client: httpx.AsyncClient) -> Fetcher:
    limits = HostLimits(rate=1_000, burst=1_000, concurrency=2)

    async def no_nap(_: float) -> None:
        await asyncio.sleep(0)

    return Fetcher(client, SoloLimiter(), source="t", limits=limits, sleep=no_nap)


async def allowed(redis: Redis, window: Fetcher, url: str, **params: str) -> bool:
    try:
        await Robots(redis).check(
            window, SourceRequest(url, params=tuple(params.items())), RequestCounts()
        )
    except Blocked as refusal:
        return "robots.txt forbids" not in str(refusal)
    return True


async def test_the_rules_for_us_count_and_are_read_once(redis: Redis, window: Fetcher) -> None:
    site = Site()
    async with serving(site) as base:
        answers = [
            await allowed(redis, window, f"{base}/"),
            await allowed(redis, window, f"{base}/private/open/page"),
            await allowed(redis, window, f"{base}/private/page"),
            await allowed(redis, window, f"{base}/list", sort="up"),
        ]
        (key,) = await redis.keys("rollcall:robots:*")  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open

        assert RULES_TTL - 60 < await redis.ttl(key) <= RULES_TTL

    assert answers == [True, True, False, False]
    assert site.read == 1


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "403 Forbidden"])
async def test_a_site_without_rules_forbids_nothing(
    redis: Redis, window: Fetcher, status: str
) -> None:
    async with serving(Site(b"Disallow: /", status)) as base:
        assert await allowed(redis, window, f"{base}/private")


@pytest.mark.parametrize(
    ("status", "kind"),
    [("500 Down", HttpStatus), ("503 Down", HttpStatus), ("429 Slow down", RateLimited)],
)
async def test_a_site_whose_rules_cannot_be_read_is_not_visited_for_a_while(
    redis: Redis, window: Fetcher, status: str, kind: type[Failure]
) -> None:
    site, reads = Site(b"", status), 0
    async with serving(site) as base:
        for _ in range(2):
            with pytest.raises(kind, match=r"robots\.txt could not be fetched: HTTP") as caught:
                await Robots(redis).check(window, SourceRequest(f"{base}/"), RequestCounts())
            assert caught.value.status == int(status[:3])
            reads = site.read
    assert reads == site.read, "the failure is kept"

    (key,) = await redis.keys("rollcall:robots:*")  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open
    assert 0 < await redis.ttl(key) <= FAILURE_TTL


async def test_a_site_that_refuses_connections_is_recorded_as_such(
    redis: Redis, window: Fetcher
) -> None:
    async with serving(Site()) as base:
        pass

    for _ in range(2):  # the second time from the cache
        with pytest.raises(Network, match=r"robots\.txt could not be fetched") as caught:
            await Robots(redis).check(window, SourceRequest(f"{base}/"), RequestCounts())
        assert not caught.value.retry


async def test_endless_rules_are_read_up_to_their_bound(redis: Redis, window: Fetcher) -> None:
    head = b"User-agent: *\nDisallow: /a\n"
    body = head + b"#" * (MAX_BYTES - len(head)) + b"\nDisallow: /b\n"
    async with serving(Site(body)) as base:
        answers = [await allowed(redis, window, f"{base}/{name}") for name in "ab"]

    assert answers == [False, True]


@pytest.mark.parametrize("text", ["", "<html>no rules</html>", "\ufeff\ud7ff", "Disallow: /"])
def test_rules_that_make_no_sense_forbid_nothing(text: str) -> None:
    assert is_allowed(text, "https://site.test/page")


async def test_only_rules_are_kept_of_a_robots_txt(redis: Redis, window: Fetcher) -> None:
    junk = b"\xff" * 400_000 + b"\nUser-agent: *\nDisallow: /a # why\nSitemap: x\n"
    async with serving(Site(junk)) as base:
        answers = [await allowed(redis, window, f"{base}/{name}") for name in "ab"]
    (key,) = await redis.keys("rollcall:robots:*")  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open

    assert answers == [False, True]
    assert await redis.get(key) == b"User-agent: *\nDisallow: /a"
