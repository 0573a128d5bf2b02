"""Items: one row for each key, moved only by what counts, once however often a page is written."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest

from app.core.enums import StoreMode
from app.core.records import Item
from app.store.content import cursors, items
from app.store.content.write_counts import WriteCounts
from app.store.db import Pool
from app.store.orgs import orgs

NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)
LATER = NOON + timedelta(minutes=5)
RUN, NEXT = uuid4(), uuid4()


def item(key: str, mode: StoreMode = StoreMode.UPSERT, **data: Any) -> Item:
    return Item("shop", key, data, mode, ("views",))


async def write(
    pool: Pool, *page: Item, now: datetime = NOON, run: UUID = RUN, org: UUID | None = None
) -> WriteCounts:
    async with pool.acquire() as connection, connection.transaction():
        return await items.write(connection, org, "shop", page, now, run)


async def rows(pool: Pool) -> list[dict[str, Any]]:
    return [dict(row) for row in await pool.fetch("SELECT * FROM items ORDER BY id")]


async def test_a_page_written_again_changes_nothing_but_when_it_was_seen(pool: Pool) -> None:
    first = await write(pool, item("a", price=1), item("b", price=2))
    an_hour_on = NOON + timedelta(minutes=61)

    again = await write(pool, item("a", price=1), item("b", price=2), now=an_hour_on, run=NEXT)

    assert (first.inserted, first.changed, first.unchanged) == (2, 0, 0)
    assert (again.inserted, again.changed, again.unchanged) == (0, 0, 2)
    seen = {
        (row["key"], row["changed_at"], row["last_seen"], row["run_id"]) for row in await rows(pool)
    }
    assert seen == {("a", NOON, an_hour_on, RUN), ("b", NOON, an_hour_on, RUN)}


async def test_only_a_change_of_what_counts_is_a_change(pool: Pool) -> None:
    await write(pool, item("a", price=1, views=10), item("b", price=1, views=10))

    written = await write(
        pool, item("a", price=1, views=11), item("b", price=2, views=10), now=LATER
    )

    a, b = await rows(pool)
    assert written.changed == 1
    assert (a["changed_at"], a["data"]) == (NOON, {"price": 1, "views": 11})
    assert (b["changed_at"], b["data"]) == (LATER, {"price": 2, "views": 10})


async def test_an_older_page_does_not_undo_a_newer_one(pool: Pool) -> None:
    await write(pool, item("a", price=2), now=LATER)

    await write(pool, item("a", price=1), now=NOON)

    assert [row["data"] for row in await rows(pool)] == [{"price": 2}]


async def test_appending_keeps_a_row_for_each_run_however_often_its_page_is_written(
    pool: Pool,
) -> None:
    append = StoreMode.APPEND
    await write(pool, item("a", append, price=1))
    await write(pool, item("a", append, price=1), now=LATER)

    written = await write(pool, item("a", append, price=1), now=LATER, run=NEXT)

    assert written.inserted == 1
    assert [(row["series"], row["run_id"]) for row in await rows(pool)] == [("a", RUN), ("a", NEXT)]


async def test_appending_on_change_keeps_a_row_only_for_what_is_new(pool: Pool) -> None:
    mode = StoreMode.APPEND_ON_CHANGE
    prices = [1, 1, 2, 2, 1]

    written = [
        await write(
            pool, item("a", mode, price=price, views=n), now=NOON + timedelta(hours=n), run=uuid4()
        )
        for n, price in enumerate(prices)
    ]

    assert [one.inserted for one in written] == [1, 0, 1, 0, 1]
    kept = await rows(pool)
    assert [row["data"]["price"] for row in kept] == [1, 2, 1]
    assert kept[0]["last_seen"] == NOON + timedelta(hours=1)


async def test_the_same_key_is_another_row_for_every_organisation(pool: Pool) -> None:
    org = uuid4()
    await orgs.create(pool, org, "acme", NOON)
    await write(pool, item("a", price=1))

    written = await write(pool, item("a", price=2), org=org)

    assert written.inserted == 1
    assert [(row["org_id"], row["data"]["price"]) for row in await rows(pool)] == [
        (None, 1),
        (org, 2),
    ]


@pytest.fixture
async def run(pool: Pool) -> UUID:
    """A run that was queued between the two instants."""
    run_id = uuid4()
    await pool.execute(
        "INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses,"
        " max_attempts, timeout_seconds, lease_epoch, queued_at, stats)"
        " VALUES ($1, 'source', 'manual', '{}', 'running', 1, 0, 3, 60, 1, $2, '{}')",
        run_id,
        NOON + timedelta(minutes=1),
    )
    return run_id


async def test_what_a_whole_listing_lacks_is_missing_until_it_is_seen_again(
    pool: Pool, run: UUID
) -> None:
    await write(pool, item("a"), item("b"), item("c"))
    async with pool.acquire() as connection:
        await items.mark_seen(connection, None, "shop", ["a"], LATER)
        await items.mark_missing(connection, None, "shop", run, LATER)
        await items.mark_missing(connection, None, "shop", run, LATER)  # another attempt
    doubted = {row["key"]: (row["absent_since"], row["missing_since"]) for row in await rows(pool)}
    assert doubted == {"a": (None, None), "b": (LATER, None), "c": (LATER, None)}

    await pool.execute("UPDATE runs SET queued_at = $1", LATER + timedelta(minutes=1))
    async with pool.acquire() as connection:
        at = LATER + timedelta(minutes=2)
        await items.mark_seen(connection, None, "shop", ["a"], at)
        await items.mark_missing(connection, None, "shop", run, at)
    marked = {row["key"]: row["missing_since"] for row in await rows(pool)}

    await write(pool, item("b"), now=LATER + timedelta(minutes=5))

    assert marked == {"a": None, "b": LATER, "c": LATER}
    assert {r["key"] for r in await rows(pool) if r["missing_since"]} == {"c"}


async def test_what_comes_back_on_a_page_that_has_not_changed_is_missing_no_longer(
    pool: Pool,
) -> None:
    await write(pool, item("a"), item("b"))
    for at in (LATER, LATER + timedelta(minutes=1)):
        await items.mark_unlisted(pool, None, "shop", [], at, RUN)

    await items.touch(pool, None, "shop", ["a"], LATER + timedelta(minutes=5))

    assert {r["key"]: r["missing_since"] for r in await rows(pool)} == {"a": None, "b": LATER}


async def test_a_cursor_moves_forward_only(pool: Pool) -> None:
    async with pool.acquire() as connection:
        await cursors.move_cursor(connection, None, ("shop", "all"), "5", LATER, RUN)
        await cursors.move_cursor(connection, None, ("shop", "all"), "4", NOON, RUN)

        known = await cursors.cursors(connection, None, "shop")

    assert known == {"all": "5"}
