"""SSRF guard for URLs that users supply: no connection to an address off the public internet.

The guard checks the address of each connection when it is made, since a host name may resolve to
another address by then (DNS rebinding) and a redirect names another host. A host is refused by its
text only if it is an obfuscated address.

Refused is every address that IANA's special-purpose registries do not list as globally reachable,
and every address that embeds another one (RFC 4291 mapped and compatible, RFC 6052 NAT64, RFC 3056
6to4, RFC 4380 Teredo, RFC 5214 ISATAP), because its destination network cannot be determined.
"""

import re
import socket
from collections.abc import Callable, Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Any

import aiohttp
from aiohttp.abc import AbstractResolver

from app.core.errors import BadConfig, UnsafeAddress

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
AddrInfo = tuple[Any, Any, int, str, tuple[Any, ...]]

_REFUSED_4 = tuple(
    IPv4Network(net)
    for net in (
        "0.0.0.0/8",
        "10.0.0.0/8",
        "100.64.0.0/10",
        "127.0.0.0/8",
        "168.63.129.16/32",  # Azure's platform services
        "169.254.0.0/16",
        "172.16.0.0/12",
        "192.0.0.0/24",
        "192.0.2.0/24",
        "192.31.196.0/24",
        "192.52.193.0/24",
        "192.88.99.0/24",
        "192.168.0.0/16",
        "192.175.48.0/24",
        "198.18.0.0/15",
        "198.51.100.0/24",
        "203.0.113.0/24",
        "224.0.0.0/3",
    )
)
_GLOBAL_6 = IPv6Network("2000::/3")
_REFUSED_6 = tuple(
    IPv6Network(net)
    for net in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
_ISATAP = frozenset({0x00005EFE, 0x02005EFE})  # the upper half of the interface identifier

# RFC 1123 host names never end in a number; the C library parses such names as IPv4 addresses.
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*", re.IGNORECASE)
_REFUSAL_MESSAGE = "an address that is not on the public internet"


def is_refused(address: Address) -> bool:
    if isinstance(address, IPv4Address):
        return any(address in net for net in _REFUSED_4) or not address.is_global
    if address.scope_id is not None or address not in _GLOBAL_6:
        return True
    isatap = int(address) >> 32 & 0xFFFFFFFF in _ISATAP
    return isatap or any(address in net for net in _REFUSED_6) or not address.is_global


def is_obfuscated_address(host: str) -> bool:
    """Whether `host` is an address in an obfuscated form (`0x7f.1`)."""
    try:
        ip_address(host)
    except ValueError:
        last = host.rstrip(".").rpartition(".")[2]
        return ":" in host or "%" in host or _NUMBER.fullmatch(last) is not None
    return False


class _Refused(OSError):
    """Raised in the socket factory; aiohttp then tries the next address of the name."""

    def __init__(self) -> None:
        super().__init__(_REFUSAL_MESSAGE)


@dataclass(frozen=True, slots=True)
class Guard:
    """Allows connections to public addresses and to listed exceptions only.

    `hosts` are lower-case names that are allowed whatever they resolve to; `networks` are allowed
    by address. `resolver` replaces the system's resolver in tests.
    """

    hosts: frozenset[str] = frozenset()
    networks: tuple[Network, ...] = ()
    resolver: Callable[[], AbstractResolver] | None = None

    @classmethod
    def allowing(cls, entries: Iterable[str]) -> "Guard":
        """Return a guard with exceptions: host names, addresses and networks (`10.1.0.0/16`).

        Raises BadConfig for an invalid address or network.
        """
        networks: list[Network] = []
        hosts: set[str] = set()
        for entry in entries:
            if "/" in entry or ":" in entry or is_obfuscated_address(entry) or _is_address(entry):
                networks.append(_network(entry))
            else:
                hosts.add(entry.lower().rstrip("."))
        return cls(frozenset(hosts), tuple(networks))

    def vet(self, host: str) -> None:
        """Check the text of a host; one that passes may still be refused. Raises UnsafeAddress."""
        unbracketed = host.removeprefix("[").removesuffix("]")
        if is_obfuscated_address(unbracketed):
            raise UnsafeAddress("an address in an obfuscated form")
        if _is_address(unbracketed) and not self._allows(unbracketed):
            raise UnsafeAddress(_REFUSAL_MESSAGE)

    def trusts(self, host: str) -> bool:
        """Whether this name is allowed whatever it resolves to."""
        return host.lower().rstrip(".") in self.hosts

    def lists(self, host: str) -> bool:
        """Whether the operator has listed this name or address as an exception."""
        listed = _is_address(host) and any(ip_address(host) in net for net in self.networks)
        return self.trusts(host) or listed

    def socket_factory(self, addr_info: AddrInfo) -> socket.socket:
        """Return a socket for an address about to be connected to. Raises OSError if refused."""
        family, kind, protocol, _, sockaddr = addr_info
        if family not in (socket.AF_INET, socket.AF_INET6) or not self._allows(str(sockaddr[0])):
            raise _Refused
        return socket.socket(family, kind, protocol)

    def connector(self, **options: Any) -> aiohttp.TCPConnector:
        """Return a TCPConnector with aiohttp's `options`, whose `connect` raises UnsafeAddress."""
        resolver = self.resolver() if self.resolver else None
        return _GuardedConnector(self, resolver=resolver, use_dns_cache=resolver is None, **options)

    def _allows(self, written: str) -> bool:
        try:
            address = ip_address(written)
        except ValueError:
            return False
        return any(address in net for net in self.networks) or not is_refused(address)


# aiohttp resolves and connects in tasks of its own, which inherit this context variable.
_trusted: ContextVar[bool] = ContextVar("_trusted", default=False)


class _GuardedConnector(aiohttp.TCPConnector):
    def __init__(self, guard: Guard, **options: Any) -> None:
        self._guard = guard
        super().__init__(socket_factory=self._open_socket, **options)  # pyright: ignore[reportUnknownMemberType] - aiohttp's own tuple

    def _open_socket(self, addr_info: AddrInfo) -> socket.socket:
        if _trusted.get():
            family, kind, protocol, *_ = addr_info
            return socket.socket(family, kind, protocol)
        return self._guard.socket_factory(addr_info)

    async def connect(
        self,
        req: aiohttp.ClientRequest,
        traces: list[Any],
        timeout: aiohttp.ClientTimeout,  # noqa: ASYNC109 - aiohttp's own signature
    ) -> aiohttp.connector.Connection:
        host = req.url.raw_host or ""
        trusted = self._guard.trusts(host)
        if not trusted:
            self._guard.vet(host)
        outer = _trusted.set(trusted)
        try:
            return await super().connect(req, traces, timeout)
        except aiohttp.ClientConnectorError as error:
            if isinstance(error.os_error, _Refused):
                raise UnsafeAddress(_REFUSAL_MESSAGE) from error
            raise
        finally:
            _trusted.reset(outer)


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _network(entry: str) -> Network:
    try:
        return ip_network(entry)
    except ValueError as error:
        raise BadConfig(f"GUARD_ALLOW: {entry!r} is not a valid network: {error}") from None
