"""The guard: no form of a private address is ever connected to, and public ones are."""

import ipaddress
import socket
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import urlsplit

import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import BadConfig, UnsafeAddress
from app.core.messages import HostLimits, RawPage, SourceRequest
from app.fetch.client import Fetcher, RequestCounts, open_client
from app.fetch.solo_limiter import SoloLimiter
from app.fetch.ssrf_guard import Guard, is_obfuscated_address, is_refused
from tests.fetch.hostile import PAGE, Visit, serving

PRIVATE_4 = [
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.88.99.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
    "168.63.129.16/32",
]
PRIVATE_6 = [
    "::/96",
    "::ffff:0:0/96",
    "64:ff9b::/96",
    "64:ff9b:1::/48",
    "100::/64",
    "2001::/23",
    "2001:db8::/32",
    "2002::/16",
    "3fff::/20",
    "5f00::/16",
    "fc00::/7",
    "fe80::/10",
    "fec0::/10",
    "ff00::/8",
    "4000::/3",
    "fd00:ec2::254/128",
]


Carry = Callable[[IPv4Address], IPv6Address]
Spell = Callable[[IPv4Address], str]


def within(networks: list[str]) -> st.SearchStrategy[IPv4Address | IPv6Address]:
    return st.sampled_from(networks).flatmap(lambda net: st.ip_addresses(network=net))


def private_4() -> st.SearchStrategy[IPv4Address]:
    return within(PRIVATE_4).map(lambda address: IPv4Address(int(address)))


PRIVATE = st.one_of(within(PRIVATE_4), within(PRIVATE_6))
CARRIERS: list[Carry] = [
    lambda v4: IPv6Address(int(v4)),
    lambda v4: IPv6Address(0xFFFF << 32 | int(v4)),
    lambda v4: IPv6Address(0xFFFF << 48 | int(v4)),  # SIIT, RFC 2765
    lambda v4: IPv6Address(int(IPv6Address("64:ff9b::")) | int(v4)),
    lambda v4: IPv6Address(int(IPv6Address("64:ff9b:1::")) | int(v4)),
    lambda v4: IPv6Address(0x2002 << 112 | int(v4) << 80 | 1),
    lambda v4: IPv6Address(0x20010000 << 96 | (int(v4) ^ 0xFFFFFFFF)),
    lambda v4: IPv6Address(0x20010000 << 96 | int(v4) << 64),
    lambda v4: IPv6Address(int(IPv6Address("2a00:1::5efe:0:0")) | int(v4)),
    lambda v4: IPv6Address(int(IPv6Address("2a00:1::200:5efe:0:0")) | int(v4)),
]
SPELLINGS: list[Spell] = [
    lambda v4: str(int(v4)),
    lambda v4: hex(int(v4)),
    lambda v4: f"0{int(v4):o}",
    lambda v4: ".".join(f"0{part:o}" for part in v4.packed),
    lambda v4: ".".join(hex(part) for part in v4.packed),
    lambda v4: f"{v4.packed[0]}.{int(v4) & 0xFFFFFF}",
    lambda v4: f"{v4.packed[0]}.{v4.packed[1]}.{int(v4) & 0xFFFF}",
    lambda v4: f"{v4}.",
    lambda v4: f"0x{v4.packed[0]:X}.{v4.packed[1]}.0{v4.packed[2]:o}.{v4.packed[3]}",
    lambda v4: f"::ffff:{v4}",
    lambda v4: f"[::ffff:{v4}]",
    lambda v4: f"[0:0:0:0:0:ffff:{v4.packed[0]:02x}{v4.packed[1]:02x}:0]",
]


@given(PRIVATE)
def test_every_address_of_a_network_that_is_not_public_is_refused(
    address: IPv4Address | IPv6Address,
) -> None:
    assert is_refused(address)


@given(st.ip_addresses())
def test_what_python_does_not_call_global_is_refused(address: IPv4Address | IPv6Address) -> None:
    assert is_refused(address) or (address.is_global and not address.is_multicast)


@given(st.sampled_from(CARRIERS), private_4())
def test_an_address_that_carries_a_private_one_is_refused(carry: Carry, v4: IPv4Address) -> None:
    assert is_refused(carry(v4))


@given(st.sampled_from(SPELLINGS), private_4())
def test_a_private_address_is_refused_however_it_is_spelt(spell: Spell, v4: IPv4Address) -> None:
    with pytest.raises(UnsafeAddress):
        Guard().vet(spell(v4))


@pytest.mark.parametrize(
    "host",
    [
        "127.1",
        "0",
        "0x",
        "0x7f.1",
        "evil.0x7f",
        "1.2.3.4.5",
        "256.256.256.256",
        "fe80::1%eth0",
        "[fe80::1%25eth0]",
        "2a00:1450::1%1",
        "::",
        "[::1]",
        "169.254.169.254",
        "fd00:ec2::254",
    ],
)
def test_a_host_that_is_or_hides_an_address_of_ours_is_refused(host: str) -> None:
    with pytest.raises(UnsafeAddress):
        Guard().vet(host)


PUBLIC = ("8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00:1450::1")


@pytest.mark.parametrize("host", PUBLIC)
def test_a_public_address_is_let_through(host: str) -> None:
    assert not is_refused(ipaddress.ip_address(host))
    Guard().vet(host)


@pytest.mark.parametrize("host", ["example.org", "xn--bcher-kva.example", "7up.example", "x0a.de"])
def test_a_name_is_a_name(host: str) -> None:
    assert not is_obfuscated_address(host)


class Names(AbstractResolver):
    """Answers each question about a name with the next of its addresses; the last one stays."""

    def __init__(self, names: dict[str, list[list[str]]]) -> None:
        self.names = names
        self.asked: list[str] = []

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        self.asked.append(host)
        answers = self.names[host]
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(hostname=host, host=one, port=port, family=family, proto=0, flags=0)
            for one in found
        ]

    async def close(self) -> None:
        """Nothing to close."""


@asynccontextmanager
async def looking(guard: Guard) -> AsyncGenerator[Fetcher]:
    async with open_client("t", concurrency=2, guard=guard) as client:
        limits = HostLimits(rate=1_000, burst=1_000, concurrency=10)
        yield Fetcher(client, SoloLimiter(), source="t", limits=limits, rng=lambda: 0.0)


async def ask(fetcher: Fetcher, url: str) -> RawPage:
    return await fetcher.fetch(SourceRequest(url), RequestCounts())


async def fine(visit: Visit) -> None:
    await visit.answer()


def guard(names: dict[str, list[list[str]]], *allowed: str) -> Guard:
    made = Guard.allowing(allowed)
    return Guard(made.hosts, made.networks, lambda: Names(names))


async def test_a_name_is_refused_as_soon_as_it_leads_elsewhere() -> None:
    names = {"rebind.test": [["127.0.0.1"], ["127.0.0.2"]]}  # the first one stands for the public
    async with serving(fine) as base, looking(guard(names, "127.0.0.1")) as fetcher:
        url = f"http://rebind.test:{urlsplit(base).port}/"
        first = await ask(fetcher, url)
        with pytest.raises(UnsafeAddress) as caught:
            await ask(fetcher, url)

    assert first.body == PAGE
    assert (caught.value.attempts, caught.value.url) == (1, url)


def test_the_address_connected_to_counts_and_not_the_one_looked_up_before() -> None:
    stream = (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "")

    Guard().socket_factory((*stream, ("8.8.8.8", 80))).close()

    for place in ("127.0.0.1", "0x7f.1", "2130706433", "localhost", ""):
        with pytest.raises(OSError, match="public internet"):
            Guard().socket_factory((*stream, (place, 80)))
    with pytest.raises(OSError, match="public internet"):
        Guard().socket_factory((socket.AF_UNIX, socket.SOCK_STREAM, 0, "", ("8.8.8.8", 80)))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "2130706433", "0x7f000001", "0177.0.0.1", "127.1", "[::1]", "[::ffff:7f00:1]"],
)
async def test_no_form_of_loopback_reaches_a_server_there(host: str) -> None:
    visits = 0

    async def counting(visit: Visit) -> None:
        nonlocal visits
        visits += 1
        await visit.answer()

    async with serving(counting) as base, looking(Guard()) as fetcher:
        with pytest.raises(UnsafeAddress):
            await ask(fetcher, f"http://{host}:{urlsplit(base).port}/")

    assert visits == 0


async def test_every_hop_of_a_redirect_is_guarded() -> None:
    names = {"in.test": [["127.0.0.1"]], "out.test": [["10.0.0.1", "::1", "fe80::1%lo"]]}

    async def away(visit: Visit) -> None:
        await visit.answer("302 Found", location="http://out.test/")

    async with serving(away) as base, looking(guard(names, "127.0.0.1")) as fetcher:
        with pytest.raises(UnsafeAddress) as caught:
            await ask(fetcher, f"http://in.test:{urlsplit(base).port}/")

    assert caught.value.url == "http://out.test/"


async def test_of_several_addresses_only_those_allowed_are_tried() -> None:
    names = {"both.test": [["10.0.0.1", "127.0.0.1", "169.254.169.254"]]}
    async with serving(fine) as base, looking(guard(names, "127.0.0.1")) as fetcher:
        raw = await ask(fetcher, f"http://both.test:{urlsplit(base).port}/")

    assert raw.body == PAGE


async def test_a_host_is_allowed_by_its_name_and_no_other_with_it() -> None:
    names = {"intranet.test": [["127.0.0.1"]], "other.test": [["127.0.0.1"]]}
    async with serving(fine) as base, looking(guard(names, "Intranet.test.")) as fetcher:
        port = urlsplit(base).port
        raw = await ask(fetcher, f"http://intranet.test:{port}/")
        with pytest.raises(UnsafeAddress):
            await ask(fetcher, f"http://other.test:{port}/")

    assert raw.body == PAGE


async def test_refusals_do_not_clog_the_pool() -> None:
    names = {"in.test": [["127.0.0.1"]], "out.test": [["10.0.0.1"]]}
    async with serving(fine) as base, looking(guard(names, "127.0.0.0/24")) as fetcher:
        for _ in range(20):
            with pytest.raises(UnsafeAddress):
                await ask(fetcher, "http://out.test/")
        raw = await ask(fetcher, f"http://in.test:{urlsplit(base).port}/")

    assert raw.body == PAGE


@pytest.mark.parametrize("entry", ["10.0.0.0/33", "10.0.0.1/8", "intranet/8", "1.2.3", "0x7f.1"])
def test_an_exception_that_is_no_network_is_no_setting(entry: str) -> None:
    with pytest.raises(BadConfig, match="GUARD_ALLOW"):
        Guard.allowing([entry])
