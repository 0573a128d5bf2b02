"""The moves are kept in a table for each month, opened ahead and dropped whole."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from app.store.content import partitions
from app.store.db import Pool
from tests.clock import NOON
from tests.store.odds import event, rows, write

THEN = datetime(2026, 11, 30, 23, 59, tzinfo=UTC)


@pytest.mark.parametrize(
    ("at", "following"),
    [
        (datetime(2026, 1, 31, 12, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC)),
        (datetime(2026, 12, 1, tzinfo=UTC), datetime(2027, 1, 1, tzinfo=UTC)),
        (datetime(2028, 2, 29, 23, 59, tzinfo=UTC), datetime(2028, 3, 1, tzinfo=UTC)),
    ],
)
def test_after_a_month_comes_the_next(at: datetime, following: datetime) -> None:
    assert partitions.next_month(partitions.month_start(at)) == following


async def test_the_present_month_and_the_next_two_are_opened_once(pool: Pool) -> None:
    both = await asyncio.gather(
        partitions.create_upcoming(pool, THEN), partitions.create_upcoming(pool, THEN)
    )

    names = ["2026_11", "2026_12", "2027_01"]
    assert sorted(both, key=len) == [[], [f"odds_price_changes_{name}" for name in names]]
    assert await partitions.create_upcoming(pool, THEN) == []


async def test_a_move_is_kept_in_its_month(pool: Pool) -> None:
    await partitions.create_upcoming(pool, NOON)

    await write(pool, event(1))

    month = f"odds_price_changes_{NOON:%Y_%m}"
    assert len(await rows(pool, month)) == len(await rows(pool, "odds_price_changes")) == 3


async def test_moves_without_a_month_are_kept_and_their_month_is_not_opened(pool: Pool) -> None:
    await write(pool, event(1))

    opened = await partitions.create_upcoming(pool, NOON)

    assert f"odds_price_changes_{NOON:%Y_%m}" not in opened
    assert len(opened) == 2
    assert len(await rows(pool, "odds_price_changes")) == 3


async def test_months_that_ended_before_are_dropped_and_no_others(pool: Pool) -> None:
    await partitions.create_upcoming(pool, NOON)
    await write(pool, event(1))
    begin = partitions.month_start(NOON)

    early = await partitions.drop_ended(pool, partitions.next_month(begin) - timedelta(seconds=1))
    kept = len(await rows(pool, "odds_price_changes"))
    late = await partitions.drop_ended(pool, partitions.next_month(begin))

    assert (early, kept) == ([], 3)
    assert late == [f"odds_price_changes_{NOON:%Y_%m}"]
    assert await rows(pool, "odds_price_changes") == []


async def test_a_month_that_somebody_reads_is_kept_until_the_next_time_and_the_rest_goes_on(
    pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.store.content.partitions.LOCK_PAUSE_SECONDS", 0.01)
    await write(pool, event(1))  # in the default partition
    later = partitions.next_month(NOON)
    await partitions.create_upcoming(pool, later)
    end = partitions.next_month(later)

    async with pool.acquire() as reader, reader.transaction():
        await reader.execute(f"SELECT FROM odds_price_changes_{later:%Y_%m}")
        locked = await partitions.drop_ended(pool, end)
    left = len(await rows(pool, "odds_price_changes"))
    free = await partitions.drop_ended(pool, end)

    assert (locked, left) == ([], 0)
    assert free == [f"odds_price_changes_{later:%Y_%m}"]


async def test_what_is_old_in_the_rest_is_deleted_in_batches(pool: Pool) -> None:
    await write(pool, event(1), event(2))
    await write(pool, event(3), minute=9)

    await partitions.drop_ended(pool, NOON + timedelta(minutes=5), batch=2)

    assert len(await rows(pool, "odds_price_changes")) == 3
