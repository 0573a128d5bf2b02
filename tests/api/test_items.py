"""What was collected, leafed through over HTTP."""

from datetime import timedelta
from typing import Any

import pytest

from app.store.db import Pool
from tests.api.clients import Org, Visitor, fields, had_item, leaf
from tests.clock import NOON

ITEMS = "/collection/items"


async def test_items_are_leafed_through_last_changed_first_and_each_once(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    for n in range(10):
        await had_item(pool, org, NOON + timedelta(seconds=n))

    rows = await leaf(visitor, ITEMS, "items", limit=4)

    assert [row["key"] for row in rows] == [f"12:00:{n:02}" for n in reversed(range(10))]
    assert rows[0] == {
        "source": "bet9ja",
        "key": "12:00:09",
        "data": {"n": 1},
        "first_seen": "2026-09-05T12:00:09Z",
        "last_seen": "2026-09-05T12:00:09Z",
        "changed_at": "2026-09-05T12:00:09Z",
        "missing_since": None,
    }


async def test_items_that_change_while_leafing_are_not_seen_twice(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    for n in range(4):
        await had_item(pool, org, NOON + timedelta(seconds=n))
    first = (await visitor("GET", ITEMS, params={"limit": 2})).json()

    await pool.execute(
        "UPDATE items SET changed_at = $1 WHERE key = '12:00:03'", NOON + timedelta(hours=1)
    )
    second = await visitor("GET", ITEMS, params={"limit": 2, "cursor": first["next_cursor"]})

    seen = [row["key"] for row in (*first["items"], *second.json()["items"])]
    assert seen == ["12:00:03", "12:00:02", "12:00:01", "12:00:00"]


@pytest.mark.parametrize(
    ("query", "keys"),
    [
        ({"source": "betpawa"}, ["12:00:02"]),
        ({"changed_since": "2026-09-05T12:00:01Z"}, ["12:00:02", "12:00:01"]),
        ({"missing": "true"}, ["12:00:01"]),
        ({"missing": "false"}, ["12:00:02", "12:00:00"]),
        ({"source": "nobody"}, []),
    ],
)
async def test_items_can_be_asked_for_by_source_change_and_absence(
    visitor: Visitor, pool: Pool, org: Org, query: dict[str, Any], keys: list[str]
) -> None:
    await had_item(pool, org, NOON)
    await had_item(pool, org, NOON + timedelta(seconds=1), gone=NOON)
    await had_item(pool, org, NOON + timedelta(seconds=2), source="betpawa")

    rows = await leaf(visitor, ITEMS, "items", **query)

    assert [row["key"] for row in rows] == keys


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ({"missing": "yes"}, "missing"),
        ({"source": "a\x00b"}, "source"),
        ({"cursor": "W10"}, "cursor"),
    ],
)
async def test_a_query_that_cannot_be_taken_is_422_with_its_name(
    visitor: Visitor, query: dict[str, str], field: str
) -> None:
    assert fields(await visitor("GET", ITEMS, params=query)) == [field]


async def test_a_page_ends_by_its_bytes_too_and_all_pages_have_all_items(
    visitor: Visitor, pool: Pool, org: Org
) -> None:
    await pool.execute(
        "INSERT INTO items (org_id, source, key, data, content_hash, first_seen, last_seen,"
        " changed_at) SELECT $1, 's', n::text, jsonb_build_object('text', repeat('x', 200000)),"
        " '', now(), now(), now() - n * interval '1 second' FROM generate_series(1, 60) n",
        org.id,
    )
    keys: list[str] = []
    sizes: list[int] = []
    cursor = ""

    while True:
        more = f"&cursor={cursor}" if cursor else ""
        answer = await visitor("GET", f"/collection/items?limit=200{more}")
        body = answer.json()
        keys += [item["key"] for item in body["items"]]
        sizes.append(len(answer.content))
        cursor = body["next_cursor"]
        if not cursor:
            break

    assert keys == [str(n) for n in range(1, 61)]
    assert max(sizes) < 1_300_000
    assert len(sizes) == 13, "five in each, and an empty last one"
