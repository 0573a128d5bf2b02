"""robots.txt rules after RFC 9309: fetched once a day for each origin, and obeyed."""

import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httpx
import msgspec
from protego import Protego
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.errors import (
    Blocked,
    Failure,
    HttpStatus,
    LocalNetwork,
    Network,
    RateLimited,
    Schema,
    Timeout,
    TooLarge,
    UnsafeAddress,
)
from app.core.log import logger
from app.core.messages import SourceRequest
from app.fetch import urls
from app.fetch.client import Fetcher, RequestCounts

AGENT = "Rollcall"
RULES_TTL = 86_400
FAILURE_TTL = 600  # seconds until robots.txt is fetched again after a failure
MAX_BYTES = 500 * 1024  # bytes; the rest is ignored

ALLOW_ALL = ""
_UNREACHABLE = "\0"  # begins a cached failure; NUL is removed from rules

_KINDS: dict[str, type[Failure]] = {
    kind.kind.value: kind
    for kind in (Network, Timeout, RateLimited, Blocked, HttpStatus, Schema, TooLarge)
}

_RULE = re.compile(r"\s*(?:user-agent|allow|disallow)\s*:", re.IGNORECASE)
_log = logger("fetch")


class _CachedFailure(msgspec.Struct):
    """Why robots.txt could not be fetched."""

    kind: str
    message: str
    status: int | None
    url: str | None


def is_allowed(text: str, url: str, agent: str = AGENT) -> bool:
    """Whether a robots.txt allows `agent` to fetch `url`. An invalid file forbids nothing."""
    return _parsed(text).can_fetch(url, agent)


def allows_all(failure: Failure) -> bool:
    """Whether a site whose robots.txt could not be fetched allows everything.

    RFC 9309 2.3.1: it does if robots.txt is unavailable (4xx), and it is not to be visited if
    robots.txt is unreachable (5xx, no connection, 429).
    """
    status = failure.status or 0
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    return refused and status != HTTPStatus.TOO_MANY_REQUESTS


@dataclass(frozen=True, slots=True)
class Robots:
    """The robots.txt rules of all sites, cached in Redis for all workers."""

    redis: Redis

    async def check(self, fetcher: Fetcher, request: SourceRequest, tally: RequestCounts) -> None:
        """Raise Blocked if robots.txt forbids `request`, or what `Fetcher.fetch` raises.

        A robots.txt that is unreachable is the failure that it was, not a refusal by the site.
        """
        url = httpx.URL(request.url)
        if request.params:
            url = url.copy_merge_params(request.params)
        urls.check_url(url)
        text = await self._rules_of(fetcher, f"{url.scheme}://{urls.host_key(url)}", tally)
        if text.startswith(_UNREACHABLE):
            raise _unreachable(text)
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
        return _rules_after(failure)
    except (UnsafeAddress, LocalNetwork):
        raise  # not a response of the site
    except Failure as failure:
        return _rules_after(failure)
    return _rules_only(raw.body[:MAX_BYTES]), RULES_TTL


def _rules_only(body: bytes) -> str:
    """The lines that hold rules: nothing else is worth the memory of the cache."""
    lines = body.decode("utf-8-sig", "ignore").replace("\0", "").splitlines()
    return "\n".join(line.partition("#")[0].strip() for line in lines if _RULE.match(line))


def _rules_after(failure: Failure) -> tuple[str, int]:
    """The rules to cache after a failure, or the failure itself, and their lifetime in seconds."""
    if allows_all(failure):
        return ALLOW_ALL, RULES_TTL
    kept = _CachedFailure(failure.kind.value, str(failure)[:500], failure.status, failure.url)
    return _UNREACHABLE + msgspec.json.encode(kept).decode(), FAILURE_TTL


def _unreachable(text: str) -> Failure:
    kept = msgspec.json.decode(text.removeprefix(_UNREACHABLE), type=_CachedFailure)
    kind = _KINDS.get(kept.kind, Network)
    message = f"robots.txt could not be fetched: {kept.message}"
    return kind(message, status=kept.status, url=kept.url, retry=False)


@lru_cache(maxsize=64)
def _parsed(text: str) -> Protego:
    return Protego.parse(text)
