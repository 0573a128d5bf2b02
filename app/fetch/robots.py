"""robots.txt rules after RFC 9309: fetched once a day for each origin, and obeyed."""

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httpx
from protego import Protego
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.errors import Blocked, Failure, LocalNetwork, RateLimited, UnsafeAddress
from app.core.log import logger
from app.core.messages import SourceRequest
from app.fetch import urls
from app.fetch.client import Fetcher, RequestCounts

AGENT = "Rollcall"
RULES_TTL = 86_400
FAILURE_TTL = 600  # seconds until robots.txt is fetched again after a failure
MAX_BYTES = 500 * 1024  # bytes; the rest is ignored

ALLOW_ALL = ""
DISALLOW_ALL = f"User-agent: {AGENT}\nDisallow: /"

_log = logger("fetch")


def is_allowed(text: str, url: str, agent: str = AGENT) -> bool:
    """Whether a robots.txt allows `agent` to fetch `url`. An invalid file forbids nothing."""
    return _parsed(text).can_fetch(url, agent)


def rules_after_failure(failure: Failure) -> tuple[str, int]:
    """The rules that apply after robots.txt could not be fetched, and their lifetime in seconds.

    RFC 9309 2.3.1: if it is unavailable (4xx), everything is allowed; if it is unreachable (5xx, no
    connection, 429), nothing is.
    """
    status = failure.status or 0
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if refused and status != HTTPStatus.TOO_MANY_REQUESTS:
        return ALLOW_ALL, RULES_TTL
    return DISALLOW_ALL, FAILURE_TTL


@dataclass(frozen=True, slots=True)
class Robots:
    """The robots.txt rules of all sites, cached in Redis for all workers."""

    redis: Redis

    async def check(self, fetcher: Fetcher, request: SourceRequest, tally: RequestCounts) -> None:
        """Raise Blocked if robots.txt forbids `request`, or what `Fetcher.fetch` raises."""
        url = httpx.URL(request.url)
        if request.params:
            url = url.copy_merge_params(request.params)
        urls.check_url(url)
        text = await self._rules_of(fetcher, f"{url.scheme}://{urls.host_key(url)}", tally)
        if not is_allowed(text, str(url)):
            raise Blocked("robots.txt forbids", url=urls.public_url(str(url)))

    async def _rules_of(self, fetcher: Fetcher, origin: str, tally: RequestCounts) -> str:
        key = f"rollcall:robots:{origin}"
        cached = await self._cached(key)
        if cached is not None:
            return cached.decode("utf-8", "replace")
        text, ttl = await _fetch_rules(fetcher, origin, tally)
        try:
            await self.redis.set(key, text.encode(), ex=ttl)
        except (RedisError, OSError) as error:
            _log.warning("robots.not_kept", origin=origin, error=type(error).__name__)
        return text

    async def _cached(self, key: str) -> bytes | None:
        try:
            return await self.redis.get(key)
        except (RedisError, OSError):
            return None


async def _fetch_rules(fetcher: Fetcher, origin: str, tally: RequestCounts) -> tuple[str, int]:
    # httpx drops a default port: some sites redirect to the URL without it.
    request = SourceRequest(str(httpx.URL(f"{origin}/robots.txt")), accept="text/plain, */*;q=0.5")
    try:
        raw = await fetcher.fetch(request, partition=None, page=1, tally=tally)
    except RateLimited as failure:
        if failure.status is None:
            raise  # our own rate limit: no request was sent
        return rules_after_failure(failure)
    except (UnsafeAddress, LocalNetwork):
        raise  # not a response of the site
    except Failure as failure:
        return rules_after_failure(failure)
    return raw.body[:MAX_BYTES].decode("utf-8", "replace").replace("\0", ""), RULES_TTL


@lru_cache(maxsize=64)
def _parsed(text: str) -> Protego:
    return Protego.parse(text)
