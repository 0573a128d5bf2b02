"""A stranger who knows every id, cursor, place and key of another organisation gets nothing."""

from dataclasses import dataclass, replace
from typing import Any
from uuid import uuid4

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.core.records import Item
from app.store import tenancy
from app.store.content import items
from app.store.db import Pool
from tests.api.clients import ODDS, Org, Visitor, api, had_item, had_run, org, other, wares
from tests.clock import NOON
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.horizon import settled
from tests.orgs.furnishing import rows_by_owner

__all__ = ["api", "org", "other"]
MARK = "only-of-acme"


@dataclass(frozen=True, slots=True)
class Known:
    """What the stranger knows of the other: ids, cursors and places in its lists."""

    owner: Visitor
    stranger: Visitor
    preset: str
    run: str
    webhook: str
    channel: str
    cursors: dict[str, str]
    place: str
    export: str


LISTS = ("items", "runs", "ticks", "schedule/edits")


@pytest.fixture
async def known(api: httpx.AsyncClient, pool: Pool, org: Org, other: Org) -> Known:
    """Two organisations that have rows, and what one knows of the other's."""
    owner, stranger = (
        Visitor(api, org.secrets[Scope.ADMIN]),
        Visitor(api, other.secrets[Scope.ADMIN]),
    )
    for who, whose, mark in ((owner, org, MARK), (stranger, other, "own")):
        for number in range(3):
            await who.patch(preset_id=ODDS, notify=bool(number % 2), enabled=False)
            await had_item(pool, whose, NOON, source=f"{mark}-{number}")
            await had_run(pool, whose, NOON)
        async with tenancy.org_transaction(pool, whose.id) as connection:
            page = [Item("shop", f"{mark}-{n}", {"name": mark}) for n in range(5)]
            await items.write(connection, whose.id, "shop", page, NOON, uuid4())
    await settled(pool)
    sources = [{"source": "bet9ja"}]
    preset = await made(owner, "/collection/presets", name=MARK, sources=sources)
    webhook = await made(owner, "/collection/webhooks", url=f"https://example.com/{MARK}")
    channel = await made(owner, "/collection/channels", label=MARK, url=f"ifttt://{MARK}@x")
    await made(owner, "/collection/sources", recipe=wares("wares") + f"# {MARK}")
    await owner("PUT", "/collection/secrets/TOKEN", json={"value": MARK})
    runs = (await owner("GET", "/collection/runs")).json()["runs"]
    cursors: dict[str, str] = {}
    for name in LISTS:
        found = (await owner("GET", f"/collection/{name}?limit=1")).json()
        cursors[name] = found["next_cursor"] or ""
    feed = (await owner("GET", "/collection/changes?limit=2")).json()
    lines = (await owner("GET", "/collection/exports/items?format=jsonl")).text.splitlines()
    export = lines[1].rpartition('"cursor": "')[2].partition('"')[0]
    return Known(
        owner,
        stranger,
        preset["id"],
        runs[0]["id"],
        webhook["id"],
        channel["id"],
        cursors,
        feed["next"],
        export,
    )


async def made(who: Visitor, path: str, **body: Any) -> dict[str, Any]:
    answer = await who("POST", path, json=body)
    assert answer.status_code < 300, answer.text
    return answer.json()


async def owned(pool: Pool, whose: Org) -> dict[str, str]:
    rows = await rows_by_owner(pool)
    return {table: digest for (owner, table), digest in rows.items() if owner == whose.id}


Asked = tuple[str, str, dict[str, Any]]  # method, path, and the rest of the request


def requests_of(known: Known) -> list[Asked]:
    """Requests of the stranger that name what is the other's, in path, query, body or header."""
    preset, run, hook, channel = known.preset, known.run, known.webhook, known.channel
    in_paths: list[Asked] = [
        ("GET", f"/collection/presets/{preset}", {}),
        ("PATCH", f"/collection/presets/{preset}", {"json": {"name": "x"}}),
        ("DELETE", f"/collection/presets/{preset}", {}),
        ("GET", f"/collection/runs/{run}", {}),
        ("POST", f"/collection/runs/{run}/cancel", {}),
        ("POST", f"/collection/runs/{run}/retry", {}),
        ("GET", f"/collection/webhooks/{hook}", {}),
        ("GET", f"/collection/webhooks/{hook}/deliveries", {}),
        ("POST", f"/collection/webhooks/{hook}/test", {}),
        ("POST", f"/collection/webhooks/{hook}/replay", {"json": {"after": "0"}}),
        ("POST", f"/collection/webhooks/{hook}/pause", {"json": {"note": "x"}}),
        ("DELETE", f"/collection/webhooks/{hook}", {}),
        ("GET", f"/collection/channels/{channel}", {}),
        ("POST", f"/collection/channels/{channel}/test", {}),
        ("DELETE", f"/collection/channels/{channel}", {}),
        ("GET", "/collection/sources/wares", {}),
        ("DELETE", "/collection/sources/wares", {}),
        ("DELETE", "/collection/secrets/TOKEN", {}),
        ("GET", f"/collection/items/{MARK}-1/history", {}),
        ("GET", f"/collection/items/{MARK}-1/history?source=shop", {}),
    ]
    in_bodies: list[Asked] = [
        ("PATCH", "/collection/schedule", {"json": {"preset_id": preset}}),
        ("PATCH", "/collections/nightly/schedule", {"json": {"preset_id": preset}}),
        (
            "POST",
            "/collection/presets",
            {"json": {"name": "y", "sources": [{"source": "wares"}]}},
        ),
        (
            "POST",
            "/collection/sources/dry-run",
            {"json": {"recipe": wares("mine")}},
        ),
    ]
    lists = [f"{n}?limit=200&cursor={cursor}" for n, cursor in known.cursors.items() if cursor]
    read = [
        *lists,
        f"changes?after={known.place}&limit=200",
        "changes?after=0&limit=200&kind=new",
        f"items?source={MARK}-0",
        f"exports/items?format=jsonl&after={known.export}",
        f"exports/changes?format=jsonl&after={known.place}",
        "exports/runs?format=jsonl",
        "webhooks",
        "channels",
        "secrets",
        "presets",
        "sources",
        "usage",
    ]
    queries: list[Asked] = [("GET", f"/collection/{path}", {}) for path in read]
    return [*in_paths, *in_bodies, *queries]


async def test_ids_cursors_and_places_of_another_give_nothing_of_it(
    known: Known, pool: Pool, org: Org
) -> None:
    before = await owned(pool, org)
    faults: list[str] = []
    for method, path, asked in requests_of(known):
        answer = await known.stranger(method, path, **asked)
        if answer.status_code >= 500:
            faults.append(f"{method} {path}: {answer.status_code}")
        if MARK in answer.text or MARK in str(answer.headers):
            faults.append(f"{method} {path} shows it: {answer.text[:200]}")
        if await owned(pool, org) != before:
            faults.append(f"{method} {path} changes it")

    assert faults == []
    named = (await known.stranger("GET", "/collection/schedule")).json()
    assert named["preset_id"] == ODDS


async def test_an_idempotency_key_of_another_is_a_key_of_ones_own(known: Known) -> None:
    key = {"idempotency-key": "shared"}
    hook = {"url": f"https://example.com/{MARK}-secret"}
    first = await known.owner("POST", "/collection/webhooks", json=hook, headers=key)
    answer = await known.stranger("POST", "/collection/webhooks", json=hook, headers=key)

    assert answer.status_code == 201
    assert "idempotency-replayed" not in answer.headers
    assert answer.json()["secret"] != first.json()["secret"]
    assert answer.json()["id"] != first.json()["id"]


async def test_a_reader_of_the_same_organisation_does_not_get_a_secret_of_its_admin(
    known: Known, org: Org
) -> None:
    key = {"idempotency-key": "mine"}
    hook = {"url": "https://example.com/in"}
    await known.owner("POST", "/collection/webhooks", json=hook, headers=key)
    for scope in (Scope.READ, Scope.OPERATE):
        lower = replace(known.owner, secret=org.secrets[scope])
        answer = await lower("POST", "/collection/webhooks", json=hook, headers=key)
        assert answer.status_code == 403
        assert "whsec_" not in answer.text


async def test_a_stream_after_anothers_event_has_ones_own_changes_only(
    dsn: str, redis_url: str, redis: ArqRedis, pool: Pool, known: Known
) -> None:
    del redis
    await pool.execute("UPDATE api_tokens SET expires_at = NULL")
    headers = {"authorization": f"Bearer {known.stranger.secret}", "last-event-id": known.place}
    text = ""
    async with (
        sites.opened(config_for(dsn, redis_url), pool) as site,
        httpx.AsyncClient(timeout=20) as client,
        client.stream("GET", f"{site.url}/collection/changes/stream", headers=headers) as answer,
    ):
        async for part in answer.aiter_text():
            text += part
            if text.count("data:") >= 5:
                break

    assert "own-" in text
    assert MARK not in text


async def test_the_operators_lists_are_closed_to_organisations(known: Known) -> None:
    for path in ("/operator/ticks", "/operator/runs", "/operator/jobs", "/operator/tokens"):
        assert (await known.stranger("GET", path)).status_code == 403
        assert (await known.stranger("GET", f"{path}?job=collection:x")).status_code == 403
