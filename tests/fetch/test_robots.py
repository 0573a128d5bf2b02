"""robots.txt is kept to, and asked for once a day."""

import asyncio
import tracemalloc
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any, cast

import httpx
import pytest
from redis.asyncio import Redis

from app.core.errors import Blocked, Failure, HttpStatus, Network, RateLimited, TooLarge
from app.core.messages import HostLimits, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.robots import (
    BOUNDS,
    FAILURE_TTL,
    MAX_BYTES,
    MAX_RULES,
    RULES_TTL,
    Robots,
    is_allowed,
)
from app.fetch.solo_limiter import SoloLimiter
from tests.fetch.hostile import Visit, serving
from tests.longest_step import longest_step

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
async def fetcher() -> AsyncIterator[Fetcher]:
    async with open_client("t", concurrency=2) as client:
        yield fast(client)


def fast(client: httpx.AsyncClient) -> Fetcher:
    limits = HostLimits(rate=1_000, burst=1_000, concurrency=2)

    async def no_nap(_: float) -> None:
        await asyncio.sleep(0)

    return Fetcher(client, SoloLimiter(), source="t", limits=limits, sleep=no_nap)


async def allowed(redis: Redis, fetcher: Fetcher, url: str, **params: str) -> bool:
    try:
        await Robots(redis).check(
            fetcher, SourceRequest(url, params=tuple(params.items())), RequestCounts()
        )
    except Blocked as refusal:
        return "robots.txt forbids" not in str(refusal)
    return True


async def test_the_rules_for_us_count_and_are_read_once(redis: Redis, fetcher: Fetcher) -> None:
    site = Site()
    async with serving(site) as base:
        answers = [
            await allowed(redis, fetcher, f"{base}/"),
            await allowed(redis, fetcher, f"{base}/private/open/page"),
            await allowed(redis, fetcher, f"{base}/private/page"),
            await allowed(redis, fetcher, f"{base}/list", sort="up"),
        ]
        (key,) = await redis.keys("rollcall:robots:*")  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open

        assert RULES_TTL - 60 < await redis.ttl(key) <= RULES_TTL

    assert answers == [True, True, False, False]
    assert site.read == 1


@pytest.mark.parametrize("status", ["404 Not Found", "401 Unauthorized", "403 Forbidden"])
async def test_a_site_without_rules_forbids_nothing(
    redis: Redis, fetcher: Fetcher, status: str
) -> None:
    async with serving(Site(b"Disallow: /", status)) as base:
        assert await allowed(redis, fetcher, f"{base}/private")


@pytest.mark.parametrize(
    ("status", "kind"),
    [("500 Down", HttpStatus), ("503 Down", HttpStatus), ("429 Slow down", RateLimited)],
)
async def test_a_site_whose_rules_cannot_be_read_is_not_visited_for_a_while(
    redis: Redis, fetcher: Fetcher, status: str, kind: type[Failure]
) -> None:
    site, reads = Site(b"", status), 0
    async with serving(site) as base:
        for _ in range(2):
            with pytest.raises(kind, match=r"robots\.txt could not be fetched: HTTP") as caught:
                await Robots(redis).check(fetcher, SourceRequest(f"{base}/"), RequestCounts())
            assert caught.value.status == int(status[:3])
            reads = site.read
    assert reads == site.read, "the failure is kept"

    (key,) = await redis.keys("rollcall:robots:*")  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open
    assert 0 < await redis.ttl(key) <= FAILURE_TTL


async def test_a_site_that_refuses_connections_is_recorded_as_such(
    redis: Redis, fetcher: Fetcher
) -> None:
    async with serving(Site()) as base:
        pass

    for _ in range(2):  # the second time from the cache
        with pytest.raises(Network, match=r"robots\.txt could not be fetched") as caught:
            await Robots(redis).check(fetcher, SourceRequest(f"{base}/"), RequestCounts())
        assert not caught.value.retry


async def test_endless_rules_are_read_up_to_their_bound(redis: Redis, fetcher: Fetcher) -> None:
    head = b"User-agent: *\nDisallow: /a\n"
    body = head + b"#" * (MAX_BYTES - len(head)) + b"\nDisallow: /b\n"
    async with serving(Site(body)) as base:
        answers = [await allowed(redis, fetcher, f"{base}/{name}") for name in "ab"]

    assert answers == [False, True]


@pytest.mark.parametrize("text", ["", "<html>no rules</html>", "\ufeff\ud7ff", "Disallow: /"])
def test_rules_that_make_no_sense_forbid_nothing(text: str) -> None:
    assert is_allowed(text, "https://site.test/page")


async def test_only_rules_are_kept_of_a_robots_txt(redis: Redis, fetcher: Fetcher) -> None:
    junk = b"\xff" * 400_000 + b"\nUser-agent: *\nDisallow: /a # why\nSitemap: x\n"
    async with serving(Site(junk)) as base:
        answers = [await allowed(redis, fetcher, f"{base}/{name}") for name in "ab"]
    (key,) = await redis.keys("rollcall:robots:*")  # pyright: ignore[reportUnknownMemberType] - redis-py leaves its keywords open

    assert answers == [False, True]
    assert await redis.get(key) == b"User-agent: *\nDisallow: /a"


@pytest.mark.parametrize(
    ("text", "forbidden"),
    [
        (b"User-agent: a\nUser-agent: ROLLCALL/2\nDisallow: /a", "a"),
        (b"User-agent: *\nDisallow: /b\nUser-agent: rollcall\nDisallow: /a", "a"),
        (b"User-agent: rollcall\nDisallow:\nUser-agent: *\nDisallow: /", ""),
        (b"User-agent: rollcall\nDisallow: /a\nUser-agent: x\nDisallow: /\n"
         b"User-agent: rollcall\nDisallow: /b", "ab"),
        (b"User-agent: *\nCrawl-delay: 9\nSitemap: x\nDisallow: /b", "b"),
        (b"Disallow: /\nUser-agent: rollcallbot\nDisallow: /a", ""),
    ],
)  # fmt: skip
async def test_the_groups_for_our_agent_count_or_else_those_for_all(
    redis: Redis, fetcher: Fetcher, text: bytes, forbidden: str
) -> None:
    async with serving(Site(text)) as base:
        refused = [n for n in "abc" if not await allowed(redis, fetcher, f"{base}/{n}")]

    assert "".join(refused) == forbidden


async def test_rules_for_thousands_of_agents_cost_nothing(redis: Redis, fetcher: Fetcher) -> None:
    agents = "".join(f"User-agent:a{n}\n" for n in range(15_000))
    rules = "".join(f"Allow:/{n}\n" for n in range(15_000))
    async with serving(Site((agents + rules).encode())) as base:
        tracemalloc.start()
        async with asyncio.timeout(30):
            assert await allowed(redis, fetcher, f"{base}/a")
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()

    assert peak < 50_000_000


async def test_a_site_with_too_many_rules_for_us_is_not_visited(
    redis: Redis, fetcher: Fetcher
) -> None:
    site = Site(b"User-agent: *\n" + b"Allow: /a\n" * (MAX_RULES // 10))
    async with serving(site) as base:
        for _ in range(2):
            with pytest.raises(TooLarge, match="more than 128 KiB of rules"):
                await allowed(redis, fetcher, f"{base}/a")

    assert site.read == 1


async def test_many_rules_do_not_hold_the_loop(redis: Redis, fetcher: Fetcher) -> None:
    rules = b"".join(b"Allow: /*b%d\n" % n for n in range(8_000))
    assert len(rules) < MAX_RULES

    async with (
        serving(Site(b"User-agent: *\n" + rules)) as base,
        longest_step() as longest,
    ):
        answers = [await allowed(redis, fetcher, f"{base}/{'a' * 500}") for _ in range(3)]

    assert answers == [True] * 3
    assert longest.seconds < 0.05, "seconds of this thread's processor in one step"


async def test_what_a_site_says_to_one_tenant_is_not_said_to_another(
    redis: Redis, fetcher: Fetcher
) -> None:
    site = Site(b"", "503 Down")
    async with serving(site) as base:
        with pytest.raises(HttpStatus):
            await allowed(redis, replace(fetcher, tenant="a:1"), f"{base}/")
        site.status = "200 OK"

        assert await allowed(redis, replace(fetcher, tenant="b:"), f"{base}/")
        assert await allowed(redis, fetcher, f"{base}/")
        with pytest.raises(HttpStatus):  # other credentials of the same tenant
            await allowed(redis, replace(fetcher, tenant="a:2"), f"{base}/")


async def test_the_rules_that_a_tenant_keeps_are_bounded_and_displace_no_others(
    redis: Redis, fetcher: Fetcher
) -> None:
    rules = b"User-agent: *\n" + b"Disallow: /b\n" * (MAX_RULES // 14)
    async with serving(Site()) as operator:
        await allowed(redis, fetcher, f"{operator}/")
        await allowed(redis, replace(fetcher, tenant="calm:"), f"{operator}/")
    for _ in range(12):
        async with serving(Site(rules)) as base:
            await allowed(redis, replace(fetcher, tenant="evil:"), f"{base}/")

    any_ = cast("Any", redis)
    names = [key.decode() async for key in any_.scan_iter("rollcall:robots:*")]
    size = sum([await any_.memory_usage(n) for n in names if ":of:evil:" in n])
    assert 0 < size <= BOUNDS.tenant[1]
    assert sum(":of:evil:" in name for name in names) > 1
    assert sum(":of:evil:" not in name for name in names) == 2
