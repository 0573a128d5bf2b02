"""What one organisation holds open is no other's loss: streams, waiting requests, exports."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from app.core.enums import Scope
from app.core.tasks import cancel_all
from app.orgs import exports
from app.store import tenancy
from app.store.content import changes
from app.store.content.changes import FeedPosition
from app.web.open_streams import OpenStreams
from tests.api.clients import Org, Visitor, api, org, other, visitor
from tests.wait import until

__all__ = ["api", "org", "other", "visitor"]

FEED = "/collection/changes"


def test_organisations_have_a_share_and_leave_room_for_the_operator() -> None:
    streams, ours, theirs = OpenStreams(10, per_org=6), uuid4(), uuid4()
    held = [streams.hold(ours) for _ in range(6)]
    for one in held:
        one.__enter__()

    assert not streams.has_room(ours)
    with streams.hold(theirs), streams.hold(theirs), streams.hold(theirs):
        assert not streams.has_room(theirs), "nine of ten are organisations'"
        assert streams.has_room(None)
        with streams.hold(None):
            assert not streams.has_room(None)

    held[0].__exit__(None, None, None)
    assert streams.has_room(ours)


async def test_an_organisation_that_waits_often_leaves_room_for_others(
    api: httpx.AsyncClient, visitor: Visitor, other: Org
) -> None:
    stranger = Visitor(api, other.secrets[Scope.ADMIN])
    waiting = [
        asyncio.create_task(visitor("GET", FEED, params={"wait": 30, "after": "0"}))
        for _ in range(25)
    ]

    async def refused() -> list[Any]:
        return [task for task in waiting if task.done()]

    try:
        await until(refused, 20)
        answer = await stranger("GET", FEED, params={"wait": 1, "after": "0"})
        codes = Counter(task.result().status_code for task in waiting if task.done())
    finally:
        await cancel_all(waiting)

    assert answer.status_code == 200
    assert codes.keys() == {503}
    assert codes[503] <= 5


async def test_streams_that_begin_at_once_are_refused_before_they_begin(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = asyncio.Event(), list[int]()

    async def gated(*_: object) -> tuple[list[Any], FeedPosition]:
        begun.append(1)
        await gate.wait()
        return [], FeedPosition(0)

    @asynccontextmanager
    async def without_connection(*_: object) -> AsyncGenerator[None]:
        yield

    monkeypatch.setattr(changes, "feed", gated)
    monkeypatch.setattr(tenancy, "org_transaction", without_connection)
    streams = [asyncio.create_task(visitor("GET", f"{FEED}/stream")) for _ in range(25)]

    async def all_asked() -> bool:
        return len(begun) + sum(task.done() for task in streams) == 25

    async def some_ended() -> bool:
        return any(task.done() for task in streams)

    try:
        await until(all_asked, 20)
        gate.set()
        await until(some_ended, 20)
        codes = [task.result().status_code for task in streams if task.done()]
    finally:
        await cancel_all(streams)

    assert codes == [503] * 5


async def test_an_organisation_that_exports_often_leaves_room_for_others(
    api: httpx.AsyncClient, visitor: Visitor, other: Org, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, begun = asyncio.Event(), list[int]()

    async def gated(*_: object) -> AsyncGenerator[list[dict[str, Any]]]:
        begun.append(1)
        await gate.wait()
        for page in list[list[dict[str, Any]]]():
            yield page

    monkeypatch.setattr(exports, "pages", gated)
    path, stranger = "/collection/exports/items", Visitor(api, other.secrets[Scope.ADMIN])
    ours = [asyncio.create_task(visitor("GET", path)) for _ in range(3)]

    async def three() -> bool:
        return len(begun) == 3

    await until(three, 20)
    asyncio.get_running_loop().call_later(30, gate.set)  # if the fourth is not refused
    fourth = await visitor("GET", path)
    theirs = asyncio.create_task(stranger("GET", path))

    async def four() -> bool:
        return len(begun) == 4

    await until(four, 20)
    gate.set()
    answers = await asyncio.gather(*ours, theirs)

    assert fourth.status_code == 503
    assert [answer.status_code for answer in answers] == [200] * 4
    assert (await visitor("GET", path)).status_code == 200, "what has ended is not counted"
