"""Odds: only what moved is written, and every move is kept exactly once."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from app.core.records import OddsEvent
from app.store.content.write_counts import WriteCounts
from app.store.db import Pool
from tests.clock import NOON
from tests.store.odds import DRAW, HOME, OVER, event, rows, write


def counts(prices: int, inserted: int, changed: int, withdrawn: int = 0) -> WriteCounts:
    return WriteCounts(prices, inserted, changed, withdrawn=withdrawn, prices=prices)


async def everything(pool: Pool) -> list[list[dict[str, Any]]]:
    return [await rows(pool, t) for t in ("odds_events", "odds_prices", "odds_price_changes")]


async def test_an_empty_page_writes_nothing(pool: Pool) -> None:
    assert await write(pool) == counts(0, 0, 0)


async def test_an_event_without_prices_is_kept(pool: Pool) -> None:
    bare = replace(event(), prices=())

    assert await write(pool, bare) == counts(0, 0, 0)

    assert len(await rows(pool, "odds_events")) == 1


async def test_a_new_page_is_written_whole_with_a_first_move_for_each_price(pool: Pool) -> None:
    written = await write(pool, event(1), event(2))

    assert written == counts(prices=6, inserted=6, changed=0)
    assert len(await rows(pool, "odds_prices")) == 6
    assert len(await rows(pool, "odds_price_changes")) == 6


async def test_the_same_page_again_changes_nothing(pool: Pool) -> None:
    await write(pool, event(1), event(2))
    before = await everything(pool)

    written = await write(pool, event(2), event(1), minute=5, run=uuid4())

    assert written == counts(prices=6, inserted=0, changed=0)
    assert written.unchanged == 6
    assert await everything(pool) == before


async def test_the_same_price_in_other_digits_is_no_move(pool: Pool) -> None:
    await write(pool, event(1, HOME))

    written = await write(pool, event(1, replace(HOME, price=Decimal("2.4"))))

    assert written == counts(1, 0, 0)


async def test_one_price_that_moved_is_one_move(pool: Pool) -> None:
    await write(pool, event(1), event(2))
    moved = replace(DRAW, price=Decimal("3.15"))

    written = await write(pool, event(1, HOME, moved, OVER), event(2), minute=5)

    assert written == counts(prices=6, inserted=0, changed=1)
    *_, last = changes = await rows(pool, "odds_price_changes")
    assert len(changes) == 7
    assert (last["outcome"], last["price"]) == ("draw", Decimal("3.15"))
    assert last["observed_at"] == NOON + timedelta(minutes=5)
    (now,) = [p for p in await rows(pool, "odds_prices") if p["price"] == Decimal("3.15")]
    assert now["changed_at"] == NOON + timedelta(minutes=5)


async def test_a_price_that_is_suspended_and_released_moved_twice(pool: Pool) -> None:
    await write(pool, event(1, HOME))

    gone = await write(pool, event(1, replace(HOME, active=False)), minute=1)
    back = await write(pool, event(1, HOME), minute=2)

    assert gone == back == counts(prices=1, inserted=0, changed=1)
    changes = await rows(pool, "odds_price_changes")
    assert [change["active"] for change in changes] == [True, False, True]


async def test_a_price_that_a_complete_record_lacks_is_withdrawn_once(pool: Pool) -> None:
    await write(pool, event(1))

    written = await write(pool, event(1, HOME), minute=1)
    again = await write(pool, event(1, HOME), minute=2)

    assert written == counts(1, 0, 0, withdrawn=2)
    assert again == counts(1, 0, 0)
    prices = {row["outcome"]: row["price"] for row in await rows(pool, "odds_prices")}
    assert prices == {"home": Decimal("2.40"), "draw": None, "over": None}
    last = (await rows(pool, "odds_price_changes"))[3:]
    assert {(c["outcome"], c["price"], c["active"]) for c in last} == {
        ("draw", None, False),
        ("over", None, False),
    }


async def test_a_record_of_which_something_could_not_be_read_withdraws_nothing(pool: Pool) -> None:
    await write(pool, event(1))

    written = await write(pool, replace(event(1, HOME), complete=False), minute=1)
    whole = await write(pool, event(1), minute=2)

    assert written == counts(1, 0, 0)
    assert whole == counts(3, 0, 0)
    assert len(await rows(pool, "odds_price_changes")) == 3


async def test_a_price_that_comes_back_is_a_move_of_the_same_price(pool: Pool) -> None:
    await write(pool, event(1))
    await write(pool, event(1, HOME, DRAW), minute=1)

    written = await write(pool, event(1), minute=2)

    assert written == counts(prices=3, inserted=0, changed=1)
    assert len(await rows(pool, "odds_prices")) == 3


async def test_a_page_that_is_older_than_what_is_written_is_left_alone(pool: Pool) -> None:
    newer = event(1, replace(HOME, price=Decimal("2.6")))
    await write(pool, newer, minute=5)
    before = await everything(pool)

    written = await write(pool, event(1, HOME), event(2, HOME), minute=4)

    assert written == counts(prices=2, inserted=1, changed=0)
    assert [rows[:1] for rows in await everything(pool)] == before


async def test_prices_in_another_order_are_the_same_record(pool: Pool) -> None:
    await write(pool, event(1, HOME, DRAW, OVER))
    before = await everything(pool)

    await write(pool, event(1, OVER, HOME, DRAW), minute=1)

    assert await everything(pool) == before


async def test_without_a_line_and_with_one_are_two_prices(pool: Pool) -> None:
    bare = replace(OVER, line=None)
    whole = replace(OVER, line=Decimal(3))

    written = await write(pool, event(1, bare, OVER, whole))
    again = await write(pool, event(1, bare, OVER, replace(whole, line=Decimal("3.0"))))

    assert (written.inserted, again.inserted, again.changed) == (3, 0, 0)
    lines = [price["line"] for price in await rows(pool, "odds_prices")]
    assert sorted(lines, key=str) == sorted([None, Decimal("2.5"), Decimal(3)], key=str)


async def test_a_sportradar_id_once_known_is_never_forgotten(pool: Pool) -> None:
    await write(pool, event(1))

    await write(pool, replace(event(1), sportradar_id=None), minute=5)
    (row,) = await rows(pool, "odds_events")
    assert (row["sportradar_id"], row["updated_at"]) == ("70000001", NOON)
    await write(pool, replace(event(1), sportradar_id=None, home="Renamed"), minute=6)

    (row,) = await rows(pool, "odds_events")
    assert (row["sportradar_id"], row["home"]) == ("70000001", "Renamed")


async def test_a_sportradar_id_learnt_later_is_written_down(pool: Pool) -> None:
    await write(pool, replace(event(1), sportradar_id=None))

    await write(pool, event(1), minute=5)

    (row,) = await rows(pool, "odds_events")
    assert row["sportradar_id"] == "70000001"


async def test_a_kick_off_that_moves_is_followed_and_keeps_the_event(pool: Pool) -> None:
    await write(pool, event(1))
    later = NOON + timedelta(days=30)

    written = await write(pool, replace(event(1), kickoff=later), minute=5)

    (row,) = await rows(pool, "odds_events")
    assert row["kickoff"] == later
    assert row["updated_at"] == NOON + timedelta(minutes=5)
    assert row["first_seen_at"] == NOON
    assert written == counts(prices=3, inserted=0, changed=0)
    (change,) = await rows(pool, "odds_event_changes")
    assert (change["what"], change["after"]) == ("kickoff", later.isoformat())
    assert change["before"] == event(1).kickoff.isoformat()


async def test_the_same_id_at_two_sites_is_two_events(pool: Pool) -> None:
    await write(pool, event(1))
    await write(pool, replace(event(1), platform="bet9ja"))

    assert len(await rows(pool, "odds_events")) == 2


async def test_of_two_events_of_one_id_in_a_page_the_later_counts(pool: Pool) -> None:
    second = event(1, replace(HOME, price=Decimal("2.55")))

    written = await write(pool, event(1, HOME), second)

    (price,) = await rows(pool, "odds_prices")
    assert price["price"] == Decimal("2.55")
    assert written.inserted == 1


async def test_two_writers_on_the_same_events_write_each_move_once(pool: Pool) -> None:
    count = 120
    base = [event(number) for number in range(count)]
    moved = [event(n, replace(HOME, price=Decimal("2.6")), DRAW, OVER) for n in range(count)]

    first = await asyncio.gather(*(write(pool, *page) for page in shuffled(base)))
    second = await asyncio.gather(*(write(pool, *page, minute=1) for page in shuffled(moved)))

    assert sum(written.inserted for written in first) == 3 * count
    assert sum(written.changed for written in second) == count
    assert len(await rows(pool, "odds_events")) == count
    assert len(await rows(pool, "odds_price_changes")) == 4 * count


def shuffled(page: list[OddsEvent]) -> list[list[OddsEvent]]:
    """The page in many orders and cuts, to be written by eight writers at once."""
    cut = len(page) // 3
    cuts = [page, page[::-1], page[cut:], page[: 2 * cut][::-1]]
    return [*cuts, *cuts]


async def test_writers_of_many_pages_at_once_never_stop_each_other(pool: Pool) -> None:
    pages = [
        [event(n, replace(HOME, price=Decimal(200 + turn) / 100), DRAW) for n in range(60)]
        for turn in range(12)
    ]
    for turn, page in enumerate(pages):
        page.sort(key=lambda e, turn=turn: hash((turn, e.platform_event_id)))

    await asyncio.gather(*(write(pool, *page, minute=n) for n, page in enumerate(pages)))

    changes = await rows(pool, "odds_price_changes")
    draws = [change for change in changes if change["outcome"] == "draw"]
    assert len(draws) == 60
    current = {p["event_id"]: p["price"] for p in await rows(pool, "odds_prices")}
    assert len(current) == 60


async def test_a_price_that_is_blanked_while_suspended_keeps_its_last_value(pool: Pool) -> None:
    whole = event(1)
    await write(pool, whole)
    blanked = tuple(replace(price, price=None, active=False) for price in whole.prices)

    written = await write(pool, replace(whole, prices=blanked), minute=5)
    again = await write(pool, replace(whole, prices=blanked), minute=10)
    new = await write(pool, replace(event(2), prices=blanked), minute=15)

    prices = await rows(pool, "odds_prices")
    assert (written.changed, written.withdrawn) == (len(blanked), 0)
    assert (again.changed, new.inserted) == (0, 0)
    assert {(row["price"] is not None, row["active"]) for row in prices} == {(True, False)}
