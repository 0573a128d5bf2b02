"""Whose failures are counted together, and what proxies are believed."""

import pytest
from redis.asyncio import Redis
from starlette.requests import Request
from structlog.testing import capture_logs

from app.web.throttle import ChangeThrottle, FailureThrottle, client_address

PROXY = ("10.0.0.0/8",)


@pytest.mark.parametrize(
    ("peer", "header", "trusted", "client"),
    [
        ("192.0.2.1", "198.51.100.7", (), "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", PROXY, "192.0.2.1"),
        ("10.0.0.1", "198.51.100.7", PROXY, "198.51.100.7"),
        ("10.0.0.1", "203.0.113.9, 198.51.100.7", PROXY, "198.51.100.7"),
        ("10.0.0.1", "198.51.100.7, 10.2.3.4", PROXY, "198.51.100.7"),
        ("10.0.0.1", "", PROXY, "10.0.0.1"),
        ("10.0.0.1", "198.51.100.7, <script>", PROXY, "10.0.0.1"),
        ("192.0.2.1", "203.0.113.9, 198.51.100.7", ("*",), "198.51.100.7"),
        ("2001:db8:1:2:3::4", "", (), "2001:db8:1:2::/64"),
        ("::ffff:192.0.2.1", "", (), "192.0.2.1"),
    ],
)
def test_the_client_is_what_trusted_proxies_say(
    peer: str, header: str, trusted: tuple[str, ...], client: str
) -> None:
    headers = [(b"x-forwarded-for", header.encode())] if header else []
    request = Request({"type": "http", "client": (peer, 4711), "headers": headers})

    assert client_address(request, trusted) == client


def test_a_peer_that_uvicorn_replaced_is_the_loopback_address() -> None:
    headers = [(b"x-forwarded-for", b"198.51.100.7")]
    request = Request({"type": "http", "client": ("198.51.100.7", 0), "headers": headers})

    assert client_address(request, ()) == "127.0.0.1"
    assert client_address(request, ("127.0.0.1",)) == "198.51.100.7"


async def test_what_is_not_counted_without_redis_is_named_in_the_log() -> None:
    away = Redis(port=1)

    with capture_logs() as lines:
        waits = [
            await FailureThrottle(away, "test", 0, 60).count("192.0.2.1"),
            await ChangeThrottle(away, per_minute=0).count(None),
        ]

    assert waits == [0, 0]
    events = ["sign_in.not_counted", "changes.not_counted", "changes.not_counted"]
    assert [line["event"] for line in lines] == events


async def test_failures_of_many_clients_take_a_bounded_number_of_keys(redis: Redis) -> None:
    throttle = FailureThrottle(redis, "test", 2, 60)

    waits = [await throttle.count("192.0.2.1") for _ in range(3)]
    await throttle.count("x" * 10_000)

    assert [wait > 0 for wait in waits] == [False, False, True]
    keys = await redis.keys("rollcall:test:*")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    assert len(keys) == 2
    assert all(len(key) < 30 for key in keys)
