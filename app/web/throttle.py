"""Limits on failed authentication per client, and on changes per organisation."""

from dataclasses import dataclass
from hashlib import blake2b
from ipaddress import ip_address, ip_network
from uuid import UUID

from redis.asyncio import Redis
from starlette.requests import Request

from app.web import fixed_window

ANY_PROXY = "*"
LOOPBACK = "127.0.0.1"
IPV6_PREFIX = 64  # bits; a client usually has a whole network of that size


@dataclass(frozen=True, slots=True)
class FailureThrottle:
    """Counts failures per client in fixed windows of `seconds`.

    Only failures count: valid credentials are accepted from a client over the limit too.
    """

    redis: Redis
    name: str
    limit: int
    seconds: int

    async def count(self, client: str) -> int:
        """Count a failure. Returns the seconds to wait if the limit is exceeded, else 0.

        Without Redis nothing is counted: tokens are too long to be guessed.
        """
        # Clients share 65,536 counters, so that the number of keys is bounded.
        bucket = blake2b(client.encode("utf-8", "replace"), digest_size=2).hexdigest()
        key = f"rollcall:{self.name}:{bucket}"
        return await fixed_window.seconds_over(self.redis, "sign_in", key, self.limit, self.seconds)


@dataclass(frozen=True, slots=True)
class ChangeThrottle:
    """Counts the changes of an organisation, over all its tokens and sessions.

    `per_minute`, `per_day`: how many are allowed. Each leaves a row that is kept.
    """

    redis: Redis
    per_minute: int = 240
    per_day: int = 5_000

    async def count(self, org_id: UUID | None) -> int:
        """Count a change. Returns the seconds to wait if a limit is exceeded, else 0.

        `org_id`: None is the operator. Without Redis nothing is counted.
        """
        minute, day = f"rollcall:api:changed:{org_id}", f"rollcall:api:changed_today:{org_id}"
        return max(
            await fixed_window.seconds_over(self.redis, "changes", minute, self.per_minute, 60),
            await fixed_window.seconds_over(self.redis, "changes", day, self.per_day, 86_400),
        )


def client_address(request: Request, trusted_proxies: tuple[str, ...]) -> str:
    """The address of the client: the peer, or what trusted proxies say in `X-Forwarded-For`.

    `trusted_proxies`: addresses and networks; `*` trusts the peer, whatever its address is.
    An IPv6 address is reduced to its network.
    """
    client = request.client
    # uvicorn replaces a loopback peer by what the header claims, and sets its port to 0.
    peer = LOOPBACK if client is None or client.port == 0 else client.host
    if not _trusted(peer, trusted_proxies) and ANY_PROXY not in trusted_proxies:
        return _network(peer)
    hops = [hop.strip() for hop in ",".join(request.headers.getlist("x-forwarded-for")).split(",")]
    for hop in reversed(hops):
        if _network(hop) == "invalid":
            return _network(peer)
        if not _trusted(hop, trusted_proxies):
            return _network(hop)
    return _network(peer)


def _trusted(address: str, proxies: tuple[str, ...]) -> bool:
    try:
        known = ip_address(address)
        return any(known in ip_network(proxy) for proxy in proxies if proxy != ANY_PROXY)
    except ValueError:
        return False


def _network(address: str) -> str:
    try:
        known = ip_address(address)
    except ValueError:
        return "invalid"
    if known.version == 4:  # noqa: PLR2004 - the version of IP
        return str(known)
    mapped = known.ipv4_mapped
    return str(mapped or ip_network((known, IPV6_PREFIX), strict=False))
