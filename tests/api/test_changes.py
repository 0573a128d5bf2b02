"""The change feed and the history of items over HTTP."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import timedelta
from typing import Any
from urllib.parse import quote
from uuid import UUID, uuid4

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.core.records import Item
from app.store import tenancy
from app.store.content import changes, items
from app.store.db import Pool
from app.store.orgs import orgs
from app.web.open_streams import OpenStreams
from tests.api.clients import Org, Visitor, fields, problem
from tests.clock import NOON
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.horizon import settled

FEED = "/collection/changes"
HORIZON = "SELECT base + pg_snapshot_xmin(pg_current_snapshot())::text::bigint FROM change_clock"
KEY = "https://shop.example/a b?c=1/2"


async def wrote(pool: Pool, org: Org, number: int, key: str = KEY) -> None:
    at = NOON + timedelta(minutes=number)
    async with tenancy.org_transaction(pool, org.id) as connection:
        page = [Item("shop", key, {"n": number})]
        await items.write(connection, org.id, "shop", page, at, uuid4())
    await settled(pool)


async def got(visitor: Visitor, path: str = FEED, **query: Any) -> dict[str, Any]:
    answer = await visitor("GET", path, params=query)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def test_the_feed_is_read_page_by_page_to_its_end(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    for number in range(3):
        await wrote(pool, org, number)

    first = await got(visitor, limit=2)
    second = await got(visitor, limit=2, after=first["next"])
    third = await got(visitor, after=second["next"])

    result = [(one["kind"], one["fields"]) for one in first["changes"] + second["changes"]]
    assert result == [
        ("new", None),
        ("changed", {"n": {"from": 0, "to": 1}}),
        ("changed", {"n": {"from": 1, "to": 2}}),
    ]
    assert third["changes"] == []


async def test_history_is_found_by_any_key(visitor: Visitor, org: Org, pool: Pool) -> None:
    for number in range(3):
        await wrote(pool, org, number)
    path = f"/collection/items/{quote(KEY, safe='')}/history"

    first = await got(visitor, path, limit=2)
    rest = await got(visitor, path, limit=2, cursor=first["next_cursor"], source="shop")

    assert [one["kind"] for one in first["changes"] + rest["changes"]] == [
        "changed",
        "changed",
        "new",
    ]
    assert {one["key"] for one in first["changes"]} == {KEY}
    assert rest["next_cursor"] is None


async def test_a_request_that_waits_is_answered_by_the_next_change(
    visitor: Visitor, org: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    hold, held = OpenStreams.hold, asyncio.Event()

    def noticed(streams: OpenStreams, org_id: UUID | None) -> AbstractContextManager[None]:
        held.set()
        return hold(streams, org_id)

    monkeypatch.setattr(OpenStreams, "hold", noticed)
    start = await got(visitor)

    waiting = asyncio.create_task(got(visitor, after=start["next"], wait=20))
    async with asyncio.timeout(20):
        await held.wait()
    await wrote(pool, org, 1)

    async with asyncio.timeout(10):
        assert [one["kind"] for one in (await waiting)["changes"]] == ["new"]


async def test_a_request_that_waits_gets_nothing_after_its_token_is_revoked(
    visitor: Visitor, org: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    start = await got(visitor)
    read, count = changes.feed, 0

    async def revoked_after_the_first_read(*arguments: Any) -> Any:
        nonlocal count
        count += 1
        if count == 2:
            await pool.execute("UPDATE api_tokens SET revoked_at = $1", NOON)
            await wrote(pool, org, 1)
        return await read(*arguments)

    monkeypatch.setattr(changes, "feed", revoked_after_the_first_read)
    answer = await visitor("GET", FEED, params={"after": start["next"], "wait": 20})

    assert answer.status_code == 401, answer.text


async def test_another_organisation_gets_none_of_it(
    visitor: Visitor, org: Org, other: Org, pool: Pool
) -> None:
    await wrote(pool, org, 1)
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])

    assert (await got(stranger))["changes"] == []
    path = f"/collection/items/{quote(KEY, safe='')}/history"
    assert (await got(stranger, path))["changes"] == []


async def test_a_place_that_is_none_is_refused(visitor: Visitor) -> None:
    for after in ("x", "-1", "1.", "9" * 30, "9" * 19 + ".1"):
        assert fields(await visitor("GET", FEED, params={"after": after})) == ["after"]


async def test_a_place_that_the_feed_has_not_reached_is_gone(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    """A backup was restored: what changes next would be passed by."""
    await wrote(pool, org, 1)
    after = f"{(await pool.fetchval(HORIZON)) + 1_000}.1"

    for path in (FEED, f"{FEED}/stream", "/collection/exports/changes"):
        answer = await visitor("GET", path, params={"after": after})
        assert "start again" in problem(answer, 410)["detail"]


async def test_a_stream_sends_changes_and_goes_on_after_the_last_one_it_sent(
    dsn: str, redis_url: str, redis: ArqRedis, pool: Pool, org: Org
) -> None:
    del redis
    await pool.execute("UPDATE api_tokens SET expires_at = NULL")
    async with sites.opened(config_for(dsn, redis_url), pool) as site:
        await wrote(pool, org, 1)
        first = await events(site.url, org, 1)
        await wrote(pool, org, 2)
        again = await events(site.url, org, 1, last=first[0]["id"])

    assert [one["event"] for one in first + again] == ["new", "changed"]
    assert json.loads(again[0]["data"])["fields"] == {"n": {"from": 1, "to": 2}}


@pytest.mark.parametrize(
    "end",
    [
        "UPDATE api_tokens SET revoked_at = now()",
        "UPDATE api_tokens SET expires_at = now()",
        "UPDATE organizations SET disabled_at = now()",
        "DELETE FROM api_tokens",
    ],
)
async def test_a_stream_ends_without_what_changes_once_its_token_is_no_longer_valid(
    dsn: str, redis_url: str, redis: ArqRedis, pool: Pool, org: Org, end: str
) -> None:
    del redis
    await pool.execute("UPDATE api_tokens SET expires_at = NULL")
    async with sites.opened(config_for(dsn, redis_url), pool) as site:
        await wrote(pool, org, 1)

        async def ended() -> None:
            await pool.execute(end)
            await wrote(pool, org, 2)

        found = await events(site.url, org, 2, after_first=ended)

    assert len(found) == 1


@pytest.mark.parametrize("path", [f"{FEED}/stream", "/collection/exports/items?format=csv"])
async def test_the_headers_of_a_stream_are_answered_without_it(
    dsn: str, redis_url: str, redis: ArqRedis, pool: Pool, org: Org, path: str
) -> None:
    del redis
    await pool.execute("UPDATE api_tokens SET expires_at = NULL")
    headers = {"authorization": f"Bearer {org.secrets[Scope.READ]}"}
    async with (
        sites.opened(config_for(dsn, redis_url), pool) as site,
        httpx.AsyncClient(base_url=site.url, headers=headers, timeout=20) as client,
    ):
        head = await client.head(path)
        other = await client.get("/collection/usage")  # on the same connection

    assert (head.status_code, other.status_code) == (200, 200)
    assert head.headers["content-type"].startswith("text/")
    assert "content-length" not in head.headers


async def test_a_stream_is_refused_without_a_valid_token(
    api: httpx.AsyncClient, org: Org, pool: Pool
) -> None:
    secret = org.secrets[Scope.READ]
    await orgs.revoke(pool, UUID(secret[3:35]), NOON)

    answer = await Visitor(api, secret)("GET", f"{FEED}/stream")

    assert answer.status_code == 401


async def events(
    url: str,
    org: Org,
    count: int,
    last: str = "0",
    after_first: Callable[[], Awaitable[None]] | None = None,
) -> list[dict[str, str]]:
    """The first events of the stream after that place. `after_first`: called once one came."""
    headers = {"authorization": f"Bearer {org.secrets[Scope.READ]}", "last-event-id": last}
    found: list[dict[str, str]] = []
    event: dict[str, str] = {}
    async with (
        asyncio.timeout(20),
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"{url}{FEED}/stream", headers=headers) as answer,
    ):
        assert answer.status_code == 200
        async for line in answer.aiter_lines():
            if line:
                name, _, value = line.partition(": ")
                event[name] = value
            elif "data" in event:
                found.append(event)
                event = {}
                if after_first is not None and len(found) == 1:
                    await after_first()
            if len(found) == count:
                break
    return found
