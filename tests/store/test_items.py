"""Items: written once, changed only when they say something else, missing only from a listing."""

import re
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.core.records import JSON, Item
from app.orgs import tokens
from app.store import tenancy
from app.store.content import items
from app.store.content.write_counts import WriteCounts
from app.store.db import Pool

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
HOUSE = None


def later(**by: float) -> datetime:
    return NOW + timedelta(**by)


def item(key: str, **data: JSON) -> Item:
    return Item("toy", key, data)


async def write(
    pool: Pool,
    *page: Item,
    owner: UUID | None = HOUSE,
    now: datetime = NOW,
    run: UUID | None = None,
    source: str = "toy",
) -> WriteCounts:
    async with pool.acquire() as connection, connection.transaction():
        return await items.write(connection, owner, source, page, now, run or uuid4())


async def rows(
    pool: Pool, owner: UUID | None = HOUSE, source: str = "toy"
) -> dict[str, dict[str, Any]]:
    found = await pool.fetch(
        "SELECT * FROM items WHERE org_id IS NOT DISTINCT FROM $1 AND source = $2 ORDER BY key",
        owner,
        source,
    )
    return {row["key"]: dict(row) for row in found}


async def written(pool: Pool) -> list[tuple[Any, ...]]:
    """Every row with where it stands in the heap: any write, even a lock, moves or marks it."""
    return [tuple(r) for r in await pool.fetch("SELECT id, ctid, xmin, xmax FROM items ORDER BY 1")]


async def test_a_new_item_is_kept_as_it_came(pool: Pool) -> None:
    run = uuid4()

    result = await write(pool, item("a", price="2.10", tags=["x", None], deep={"n": 1}), run=run)

    row = (await rows(pool))["a"]
    assert result == WriteCounts(1, 1, 0)
    assert row["data"] == {"price": "2.10", "tags": ["x", None], "deep": {"n": 1}}
    assert (row["first_seen"], row["last_seen"], row["changed_at"]) == (NOW, NOW, NOW)
    assert (row["missing_since"], row["run_id"]) == (None, run)


async def test_an_item_that_is_as_it_was_costs_no_write(pool: Pool) -> None:
    await write(pool, item("a", x=1, y=2))
    before = await written(pool)

    result = await write(pool, item("a", y=2, x=1), now=later(minutes=59))

    assert (result.inserted, result.changed, result.unchanged) == (0, 0, 1)
    assert await written(pool) == before


async def test_last_seen_moves_after_an_hour_and_changed_at_does_not(pool: Pool) -> None:
    run = uuid4()
    await write(pool, item("a", x=1), run=run)

    result = await write(pool, item("a", x=1), now=later(minutes=61))

    row = (await rows(pool))["a"]
    assert result.unchanged == 1
    assert (row["last_seen"], row["changed_at"]) == (later(minutes=61), NOW)
    assert row["run_id"] == run


async def test_an_item_that_says_something_else_is_changed(pool: Pool) -> None:
    await write(pool, item("a", x=1), item("b", x=1))

    result = await write(pool, item("a", x=2), item("b", x=1), now=later(minutes=1))

    kept = await rows(pool)
    assert (result.inserted, result.changed, result.unchanged) == (0, 1, 1)
    assert (kept["a"]["data"], kept["a"]["changed_at"]) == ({"x": 2}, later(minutes=1))
    assert (kept["a"]["first_seen"], kept["a"]["last_seen"]) == (NOW, later(minutes=1))
    assert kept["b"]["changed_at"] == NOW


async def test_of_two_items_with_one_key_on_a_page_the_last_counts(pool: Pool) -> None:
    result = await write(pool, item("a", x=1), item("a", x=2))

    assert result == WriteCounts(1, 1, 0)
    assert (await rows(pool))["a"]["data"] == {"x": 2}


async def test_what_two_complete_listings_lack_is_missing_since_the_first(pool: Pool) -> None:
    await write(pool, item("a"), item("b"))
    await write(pool, item("a"), source="other")

    await items.mark_unlisted(pool, HOUSE, "toy", ["a"], later(minutes=5), uuid4())
    once = (await rows(pool))["b"]
    await items.mark_unlisted(pool, HOUSE, "toy", ["a"], later(minutes=9), uuid4())

    kept = await rows(pool)
    assert (once["absent_since"], once["missing_since"]) == (later(minutes=5), None)
    assert (kept["a"]["missing_since"], kept["b"]["missing_since"]) == (None, later(minutes=5))
    assert (await rows(pool, source="other"))["a"]["missing_since"] is None


async def test_an_item_that_returns_is_missing_no_more_and_has_not_changed(pool: Pool) -> None:
    await write(pool, item("a", x=1))
    for minutes in (5, 6):
        await items.mark_unlisted(pool, HOUSE, "toy", [], later(minutes=minutes), uuid4())

    result = await write(pool, item("a", x=1), now=later(minutes=10))

    row = (await rows(pool))["a"]
    assert result.unchanged == 1
    assert (row["missing_since"], row["changed_at"]) == (None, NOW)


async def test_an_item_on_an_unchanged_page_is_seen_once_an_hour(pool: Pool) -> None:
    await write(pool, item("a"), item("b"))

    await items.touch(pool, HOUSE, "toy", ["a"], later(minutes=30))
    soon = (await rows(pool))["a"]["last_seen"]
    await items.touch(pool, HOUSE, "toy", ["a"], later(hours=2))

    kept = await rows(pool)
    assert soon == NOW
    assert (kept["a"]["last_seen"], kept["b"]["last_seen"]) == (later(hours=2), NOW)


@pytest.mark.parametrize("most", [1, 300])
async def test_an_organisation_writes_its_own_and_leaves_the_same_key_of_others_alone(
    pool: Pool, most: int
) -> None:
    ours = await tokens.create_org(pool, "Ours", NOW)
    theirs = await tokens.create_org(pool, "Theirs", NOW)
    page = [item(f"k{n}", x=1) for n in range(most)]
    for owner in (HOUSE, theirs):
        await write(pool, *page, owner=owner)

    async with tenancy.org_transaction(pool, ours) as connection:
        first = [item("k0", x=9), *page[1:]]
        result = await items.write(connection, ours, "toy", first, NOW, uuid4())
        await items.mark_unlisted(connection, ours, "toy", ["k0"], later(minutes=1), uuid4())

    assert result == WriteCounts(most, most, 0)
    assert sum(r["absent_since"] is not None for r in (await rows(pool, ours)).values()) == most - 1
    assert (await rows(pool, ours))["k0"]["data"] == {"x": 9}
    for owner in (HOUSE, theirs):
        kept = (await rows(pool, owner)).values()
        assert {(r["data"]["x"], r["absent_since"]) for r in kept} == {(1, None)}


@pytest.mark.parametrize("statement", [items.WRITE, items.TOUCH, items.LISTED])
async def test_behind_row_level_security_an_organisations_items_are_looked_up_in_the_index(
    pool: Pool, statement: str
) -> None:
    ours = await tokens.create_org(pool, "Ours", NOW)
    some: list[Any] = [["k"], ["{}"], [b""], [False]]
    given = [NOW, uuid4(), *some] if statement is items.WRITE else [NOW, ["k"]]
    given += [uuid4()] if statement is items.LISTED else []
    await pool.execute(
        "INSERT INTO items (source, key, content_hash, first_seen, last_seen, changed_at)"
        " SELECT 'toy', n, '', now(), now(), now() FROM generate_series(1, 20000) AS n"
    )
    await pool.execute("ANALYZE items")

    async with tenancy.org_transaction(pool, ours) as connection:
        await connection.execute("SET LOCAL plan_cache_mode = force_custom_plan")
        sql = "EXPLAIN " + items.for_owner(statement, ours)
        plan = "\n".join(row[0] for row in await connection.fetch(sql, ours, "toy", *given))

    assert re.search(r"Index Cond: \(\(?\(?org_id = ", plan), plan


async def test_a_run_that_writes_its_page_again_brings_nothing_new(pool: Pool) -> None:
    run = uuid4()
    await write(pool, item("a", x=1), run=run)

    result = await write(pool, item("a", x=1), now=later(seconds=9), run=run)

    assert (result.inserted, result.changed) == (0, 0)
