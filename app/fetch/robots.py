"""robots.txt, as RFC 9309 has it: read once a day for each origin, and kept to."""

from dataclasses import dataclass
from functools import lru_cache
from http import HTTPStatus

import httpx
from protego import Protego
from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.errors import Blocked, Failure, LocalNetwork, RateLimited, Unsafe
from app.fetch import urls
from app.fetch.client import Tally, Window
from app.log import logger
from app.messages import Request

AGENT = "Rollcall"
DAY = 86_400
SHORT = 600  # seconds after which a site whose rules could not be read is asked for them again
LARGEST = 500 * 1024  # bytes; what comes after them is not read

NO_RULES = ""
FORBIDDING = f"User-agent: {AGENT}\nDisallow: /"

_log = logger("fetch")


def permits(text: str, url: str, agent: str = AGENT) -> bool:
    """Whether a robots.txt lets `agent` ask for `url`. One that makes no sense forbids nothing."""
    return _parsed(text).can_fetch(url, agent)


def rules_after(failure: Failure) -> tuple[str, int]:
    """The rules of a site whose robots.txt could not be had, and for how many seconds.

    RFC 9309 2.3.1: if there is none (4xx) everything is allowed; if it cannot be reached (5xx, no
    connection, asked to slow down) nothing is, for now.
    """
    status = failure.status or 0
    refused = HTTPStatus.BAD_REQUEST <= status < HTTPStatus.INTERNAL_SERVER_ERROR
    if refused and status != HTTPStatus.TOO_MANY_REQUESTS:
        return NO_RULES, DAY
    return FORBIDDING, SHORT


@dataclass(frozen=True, slots=True)
class Robots:
    """The rules of all sites, kept in Redis for all workers."""

    redis: Redis

    async def check(self, window: Window, request: Request, tally: Tally) -> None:
        """Raises Blocked if the site does not want `request` to be made; RateLimited as `ask`."""
        url = httpx.URL(request.url)
        if request.params:
            url = url.copy_merge_params(request.params)
        urls.vet(url)
        text = await self._rules(window, f"{url.scheme}://{urls.host_key(url)}", tally)
        if not permits(text, str(url)):
            raise Blocked("robots.txt forbids", url=urls.public(str(url)))

    async def _rules(self, window: Window, origin: str, tally: Tally) -> str:
        key = f"rollcall:robots:{origin}"
        kept = await self._kept(key)
        if kept is not None:
            return kept.decode("utf-8", "replace")
        text, seconds = await _fetched(window, origin, tally)
        try:
            await self.redis.set(key, text.encode(), ex=seconds)
        except (RedisError, OSError) as error:
            _log.warning("robots.not_kept", origin=origin, error=type(error).__name__)
        return text

    async def _kept(self, key: str) -> bytes | None:
        try:
            return await self.redis.get(key)
        except (RedisError, OSError):
            return None


async def _fetched(window: Window, origin: str, tally: Tally) -> tuple[str, int]:
    # A default port must not be said: some sites redirect to the address without it.
    request = Request(str(httpx.URL(f"{origin}/robots.txt")), accept="text/plain, */*;q=0.5")
    try:
        raw = await window.ask(request, partition=None, page=1, tally=tally)
    except RateLimited as failure:
        if failure.status is None:
            raise  # it is we who wait: the site was not asked
        return rules_after(failure)
    except (Unsafe, LocalNetwork):
        raise  # it is not the site that forbids
    except Failure as failure:
        return rules_after(failure)
    return raw.body[:LARGEST].decode("utf-8", "replace").replace("\0", ""), DAY


@lru_cache(maxsize=64)
def _parsed(text: str) -> Protego:
    return Protego.parse(text)
