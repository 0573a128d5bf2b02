"""What a listing lacks is gone only if the listing was whole; what it had is known to be seen."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from app.store.content import listings as boards
from app.store.content.listings import Listing
from app.store.db import Pool
from tests.clock import NOON
from tests.store.odds import RUN, event, rows, write

LATER = NOON + timedelta(minutes=5)
LATEST = NOON + timedelta(minutes=10)


def listing(*seen: int, at: datetime = LATER) -> Listing:
    keys = [str(number) for number in seen]
    return Listing("betpawa", "football", keys, keys, at)


async def keep(pool: Pool, *listings: Listing) -> None:
    for each in listings:
        async with pool.acquire() as connection, connection.transaction():
            await boards.record_listing(connection, each, RUN)


async def board(pool: Pool, *numbers: int) -> None:
    """Events that were written and listed."""
    await write(pool, *(event(number) for number in numbers))
    await keep(pool, listing(*numbers, at=NOON))


async def events(pool: Pool) -> dict[str, dict[str, Any]]:
    return {row["platform_event_id"]: row for row in await rows(pool, "odds_events")}


async def test_what_two_listings_lack_is_withdrawn_with_its_prices(pool: Pool) -> None:
    await board(pool, 1, 2)

    await keep(pool, listing(1), listing(1, at=LATEST))

    found = await events(pool)
    assert (found["1"]["withdrawn_at"], found["2"]["withdrawn_at"]) == (None, LATEST)
    quotes = {(p["event_id"], p["price"] is None) for p in await rows(pool, "odds_prices")}
    assert quotes == {(found["1"]["id"], False), (found["2"]["id"], True)}
    (change,) = await rows(pool, "odds_event_changes")
    assert (change["what"], change["event_id"]) == ("withdrawn", found["2"]["id"])
    assert len(await rows(pool, "odds_price_changes")) == 9


async def test_what_one_listing_lacks_is_only_absent(pool: Pool) -> None:
    await board(pool, 1, 2)

    await keep(pool, listing(1))

    found = (await events(pool))["2"]
    assert (found["absent_since"], found["withdrawn_at"]) == (LATER, None)
    assert await rows(pool, "odds_event_changes") == []


async def test_two_listings_of_one_run_are_one(pool: Pool) -> None:
    await board(pool, 1, 2)
    await pool.execute(
        "INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses,"
        " max_attempts, timeout_seconds, lease_epoch, queued_at, stats)"
        " VALUES ($1, 'scrape_odds', 'manual', '{}', 'running', 1, 0, 3, 60, 1, $2, '{}')",
        RUN,
        NOON,
    )

    await keep(pool, listing(1), listing(1, at=LATEST))

    assert (await events(pool))["2"]["withdrawn_at"] is None


async def test_an_event_that_was_absent_and_comes_back_unchanged_was_never_gone(pool: Pool) -> None:
    await board(pool, 1, 2)
    await keep(pool, listing(1))

    written = await write(pool, event(2), minute=10)

    assert (written.inserted, written.changed) == (0, 0)
    assert (await events(pool))["2"]["absent_since"] is None
    assert await rows(pool, "odds_event_changes") == []


async def test_an_event_that_was_withdrawn_and_comes_back_has_all_its_prices_again(
    pool: Pool,
) -> None:
    await board(pool, 1, 2)
    await keep(pool, listing(1), listing(1, at=LATEST))

    written = await write(pool, event(2), minute=20)

    assert written.changed == 3
    assert (await events(pool))["2"]["withdrawn_at"] is None
    assert [c["what"] for c in await rows(pool, "odds_event_changes")] == ["withdrawn", "returned"]


async def test_a_match_that_has_begun_leaves_the_board_with_its_last_prices(pool: Pool) -> None:
    begun = replace(event(2), kickoff=LATER - timedelta(minutes=1))
    await write(pool, event(1), begun)
    await keep(pool, listing(1, 2, at=NOON))

    await keep(pool, listing(1))

    assert (await events(pool))["2"]["withdrawn_at"] is None
    assert all(price["price"] for price in await rows(pool, "odds_prices"))


async def test_an_event_that_was_in_no_complete_listing_is_missed_in_none(pool: Pool) -> None:
    await board(pool, 1)
    await write(pool, event(2))

    await keep(pool, listing(1))

    assert (await events(pool))["2"]["absent_since"] is None


async def test_an_event_of_another_partition_is_not_missed(pool: Pool) -> None:
    await board(pool, 1)
    await write(pool, event(2))
    await keep(pool, replace(listing(2), partition="rugby"))

    await keep(pool, listing(1, at=LATER + timedelta(minutes=1)))

    assert (await events(pool))["2"]["absent_since"] is None


async def test_an_event_that_could_not_be_read_is_there_all_the_same(pool: Pool) -> None:
    await board(pool, 1, 2)

    await keep(pool, replace(listing(1), present=["1", "2"]))

    assert (await events(pool))["2"]["absent_since"] is None


async def test_a_listing_that_was_cut_short_says_what_it_saw_and_withdraws_nothing(
    pool: Pool,
) -> None:
    await board(pool, 1, 2)

    async with pool.acquire() as connection:
        await boards.record_partial_listing(connection, listing(1), RUN)

    found = await events(pool)
    assert (found["1"]["seen_at"], found["2"]["seen_at"]) == (LATER, NOON)
    assert found["2"]["absent_since"] is None


async def test_a_partition_that_left_the_catalogue_twice_takes_its_events_along(
    pool: Pool,
) -> None:
    await board(pool, 1)

    for minute in (5, 10):
        async with pool.acquire() as connection, connection.transaction():
            at = NOON + timedelta(minutes=minute)
            await boards.record_partitions(connection, "betpawa", ["rugby"], at, RUN)

    row = (await events(pool))["1"]
    assert (row["absent_since"], row["withdrawn_at"]) == (LATER, NOON + timedelta(minutes=10))


async def test_a_listing_of_what_was_there_already_writes_nothing_but_its_own_row(
    pool: Pool,
) -> None:
    await board(pool, 1, 2)
    before = [await rows(pool, t) for t in ("odds_events", "odds_prices", "odds_price_changes")]

    await keep(pool, listing(1, 2))

    after = [await rows(pool, t) for t in ("odds_events", "odds_prices", "odds_price_changes")]
    assert after == before
    (kept,) = await pool.fetch("SELECT * FROM odds_boards")
    assert (kept["listed_at"], kept["events"], kept["run_id"]) == (LATER, 2, RUN)


@pytest.mark.parametrize(
    ("statement", "values"),
    [
        (boards.ABSENT, "'betpawa', 'football', '{1,2}', now(), gen_random_uuid()"),
        (boards.ABSENT_PARTITIONS, "'betpawa', '{football}', now(), gen_random_uuid()"),
    ],
    ids=["events", "partitions"],
)
async def test_what_a_listing_lacks_is_found_without_comparing_each_event_with_each_key(
    pool: Pool, statement: str, values: str
) -> None:
    async with pool.acquire() as connection, connection.transaction():
        # What a long-lived worker gets: a plan that does not know the keys.
        await connection.execute("SET LOCAL plan_cache_mode = force_generic_plan")
        await connection.execute(f"PREPARE lacking AS {statement}")

        plan = await connection.fetch(f"EXPLAIN EXECUTE lacking ({values})")

    text = "\n".join(row[0] for row in plan)
    assert "hashed SubPlan" in text
    assert "ALL (" not in text
