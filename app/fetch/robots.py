"""robots.txt rules after RFC 9309: fetched once a day for each origin, and obeyed.

Each tenant has rules of its own, so that what a site says to one is not said to another. Only the
rules for us are kept, because a parser needs time and memory for each rule of each agent.
"""

import asyncio
import re
from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httpx
import msgspec
from protego import Protego
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.cache_bounds import CacheBounds
from app.core.errors import (
    FAILURES,
    Blocked,
    Failure,
    LocalNetwork,
    Network,
    RateLimited,
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
MAX_RULES = 128 * 1024  # bytes of rules for us; a site with more is not visited
SMALL = 8 * 1024  # bytes or characters that are read at once; more are read in a thread
BOUNDS = CacheBounds(
    "robots",
    seconds=RULES_TTL,
    operator=(2_000, 8_000_000),
    tenant=(200, 1_000_000),
    all_tenants=8_000_000,
)

ALLOW_ALL = ""
_UNREACHABLE = "\0"  # begins a cached failure; NUL is removed from rules

_RULE = re.compile(r"\s*(user-agent|allow|disallow)\s*:(.*)", re.IGNORECASE)
_PRODUCT = re.compile(r"\*|[a-z_-]*", re.IGNORECASE)
_log = logger("fetch")


class _CachedFailure(msgspec.Struct):
    """Why robots.txt could not be fetched."""

    kind: str
    message: str
    status: int | None
    url: str | None


def is_allowed(text: str, url: str) -> bool:
    """Whether a robots.txt allows us to fetch `url`. An invalid file forbids nothing."""
    rules = _parsed(text) if len(text) <= SMALL else Protego.parse(text)
    return rules.can_fetch(url, AGENT)


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
    """The robots.txt rules of all sites, cached in Redis for all workers.

    `bounds`: of the cache; None if it is not shared.
    """

    redis: Redis
    bounds: CacheBounds | None = BOUNDS

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
        if len(text) <= SMALL:
            allowed = is_allowed(text, str(url))
        else:
            allowed = await asyncio.to_thread(is_allowed, text, str(url))
        if not allowed:
            raise Blocked("robots.txt forbids", url=urls.public_url(str(url)))

    async def _rules_of(self, fetcher: Fetcher, origin: str, tally: RequestCounts) -> str:
        owner = fetcher.tenant.partition(":")[0]
        key = f"rollcall:robots:of:{owner}:{origin}" if owner else f"rollcall:robots:{origin}"
        cached = await self._cached(key)
        if cached is not None:
            return cached.decode("utf-8", "replace")
        text, ttl = await _fetch_rules(fetcher, origin, tally)
        try:
            await self.redis.set(key, text.encode(), ex=ttl)
            if self.bounds is not None:
                await self.bounds.apply(self.redis, owner, [key])
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
        raw = await fetcher.fetch(request, tally)
        body = raw.body[:MAX_BYTES]
        if len(body) <= SMALL:
            return _rules_for_us(body), RULES_TTL
        return await asyncio.to_thread(_rules_for_us, body), RULES_TTL
    except RateLimited as failure:
        if failure.status is None:
            raise  # our own rate limit: no request was sent
        return _rules_after(failure)
    except (UnsafeAddress, LocalNetwork):
        raise  # not a response of the site
    except Failure as failure:
        return _rules_after(failure)


def _rules_for_us(body: bytes) -> str:
    """Return the rules for our agent, or else for all. Raises TooLarge if there are too many."""
    groups: dict[str, list[str]] = {}
    agents = set[str]()  # those of ours that the current group names
    named = False
    for line in body.decode("utf-8-sig", "ignore").replace("\0", "").splitlines():
        match = _RULE.match(line.partition("#")[0])
        if match is None:
            continue
        name, value = match[1].capitalize(), match[2].strip()
        if name != "User-agent":
            named = False
            for agent in agents:
                groups[agent].append(f"{name}: {value}")
            continue
        if not named:
            agents, named = set[str](), True
        if (agent := _agent(value)) in {AGENT.lower(), "*"}:
            agents.add(agent)
            groups.setdefault(agent, [])
    rules = groups.get(AGENT.lower(), groups.get("*"))
    text = "\n".join(["User-agent: *", *rules]) if rules else ALLOW_ALL
    if len(text.encode()) > MAX_RULES:
        raise TooLarge(f"more than {MAX_RULES // 1024} KiB of rules")
    return text


def _agent(value: str) -> str:
    """Return the product token of a user-agent line (RFC 9309 2.2.1), in lower case."""
    match = _PRODUCT.match(value)
    return match[0].lower() if match else ""


def _rules_after(failure: Failure) -> tuple[str, int]:
    """The rules to cache after a failure, or the failure itself, and their lifetime in seconds."""
    if allows_all(failure):
        return ALLOW_ALL, RULES_TTL
    kept = _CachedFailure(failure.kind.value, str(failure)[:500], failure.status, failure.url)
    return _UNREACHABLE + msgspec.json.encode(kept).decode(), FAILURE_TTL


def _unreachable(text: str) -> Failure:
    kept = msgspec.json.decode(text.removeprefix(_UNREACHABLE), type=_CachedFailure)
    kind = FAILURES.get(kept.kind, Network)
    message = f"robots.txt could not be fetched: {kept.message}"
    return kind(message, status=kept.status, url=kept.url, retry=False)


@lru_cache(maxsize=64)
def _parsed(text: str) -> Protego:
    return Protego.parse(text)
