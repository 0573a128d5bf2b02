"""Ticks are kept in a table of days: a day that is old goes whole, and leaves its numbers."""

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta

import pytest

from app.ledger import proof
from app.ledger.proof import TickAccount
from app.maintenance import tick_retention
from app.store.content import partitions
from app.store.content.partitions import TICKS
from app.store.db import Pool
from app.store.schedules import tick_days
from tests.clock import NOON, SettableClock
from tests.ledger.harness import MINUTE, Book, every
from tests.wait import until

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
TODAY = NOON.replace(hour=0)
NAME = f"ticks_{NOON:%Y_%m_%d}"
PENDING = "SELECT sum(count) FROM metric_pending WHERE job IS NOT NULL"
WAITING = """
SELECT count(*) FROM pg_stat_activity
WHERE datname = current_database() AND wait_event_type = 'Lock' AND query LIKE '%EXCLUSIVE%'
"""


@pytest.fixture
def book(pool: Pool, clock: SettableClock) -> Book:
    return Book(pool, clock)


async def opened(pool: Pool, at: datetime = NOON) -> list[str]:
    return await partitions.create_upcoming(pool, at, TICKS)


async def days(pool: Pool) -> set[str]:
    """The days that exist, without those of the real present."""
    return {name for name in await partitions.existing_partitions(pool, TICKS) if "_09_" in name}


async def of(pool: Pool, table: str) -> int:
    count: int = await pool.fetchval(f"SELECT count(*) FROM {table}")  # noqa: S608 - our own
    return count


async def accounted(book: Book) -> TickAccount:
    (account,) = await proof.verify(book.pool, book.clock())
    return account


def numbers(account: TickAccount) -> tuple[object, ...]:
    return (account.expected, account.ran, account.skipped, account.missed, account.consistent)


async def test_days_are_created_ahead_and_ticks_are_kept_in_theirs(book: Book) -> None:
    created = await opened(book.pool)
    await book.open(every(60))

    await book.ring_each(13, HOUR)

    assert created == [NAME, "ticks_2026_09_06", "ticks_2026_09_07"]
    assert await opened(book.pool) == []
    assert (await of(book.pool, NAME), await of(book.pool, "ticks_2026_09_06")) == (11, 2)
    assert await of(book.pool, "ticks") == 13


async def test_a_day_goes_whole_once_all_of_it_is_old_and_leaves_its_numbers(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(60))
    await book.ring_each(20, HOUR)
    before = await accounted(book)

    early = await tick_retention.prune(book.pool, TODAY + DAY - timedelta(microseconds=1))
    gone = await tick_retention.prune(book.pool, TODAY + DAY + HOUR)

    account = await accounted(book)
    assert (early, gone, account.pruned) == (0, 11, 11)
    assert NAME not in await days(book.pool)
    assert await of(book.pool, "ticks") == 9
    assert numbers(account) == numbers(before)
    assert account.consistent
    again = (await proof.verify_new(book.pool, book.clock()))[0]
    assert numbers(again) == numbers(before)


async def test_the_last_tick_stays_when_its_day_goes(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(60))
    await book.ring_each(3, HOUR)
    pending = await book.pool.fetchval(PENDING)

    gone = await tick_retention.prune(book.pool, NOON + 9 * DAY)

    assert gone == 2
    assert NAME not in await days(book.pool)
    assert await book.ticks() == [("15:00", "ran")]
    assert (await accounted(book)).consistent
    counted = await book.pool.fetchval(PENDING)
    assert (counted, pending) == (3, 3)


async def test_gaps_and_what_stands_beside_them_stay_whole_when_a_day_goes(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(10))
    await book.ring_each(3, 10 * MINUTE)
    await book.pause()
    await book.ring_each(80, 10 * MINUTE)
    await book.resume()
    await book.ring_each(3, 10 * MINUTE)
    before = await accounted(book)

    gone = await tick_retention.prune(book.pool, TODAY + DAY)

    account = await accounted(book)
    assert gone == 3
    assert numbers(account) == numbers(before)
    assert account.consistent
    assert [count for _, count in await book.gaps()] == [80]
    assert (await tick_retention.prune(book.pool, TODAY + 2 * DAY)) == 80 + 2
    assert numbers(await accounted(book)) == numbers(before)


async def test_old_versions_go_with_their_day(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(60))
    await book.ring_each(3, HOUR)
    book.clock.now += 20 * MINUTE
    await book.edit(every(30))
    await book.ring_each(40, 30 * MINUTE)
    before = await accounted(book)

    await tick_retention.prune(book.pool, TODAY + DAY)

    assert [row[0] for row in await book.pool.fetch("SELECT version FROM schedule_versions")] == [2]
    assert numbers(await accounted(book)) == numbers(before)
    assert before.consistent


async def test_a_tick_without_a_day_is_kept_and_pruned_like_any_other(book: Book) -> None:
    """As after a maintenance that did not run: nothing is lost, and the next days are created."""
    await book.open(every(60))
    await book.ring_each(5, HOUR)

    created = await opened(book.pool, NOON + DAY)

    assert await of(book.pool, "ticks_rest") == 5
    assert created == ["ticks_2026_09_06", "ticks_2026_09_07", "ticks_2026_09_08"]
    assert (await accounted(book)).consistent
    assert await tick_retention.prune(book.pool, TODAY + DAY) == 4
    assert (await accounted(book)).consistent


async def test_ticks_decided_after_their_day_was_dropped_are_kept_and_counted(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(60))
    await book.ring_each(3, HOUR)
    assert await tick_retention.prune(book.pool, NOON + 9 * DAY) == 2
    assert NAME not in await days(book.pool)

    book.clock.now += 30 * HOUR
    await book.ring()

    account = await accounted(book)
    assert account.consistent
    assert account.expected == 33
    assert await of(book.pool, "ticks_rest") == 31
    assert await tick_retention.prune(book.pool, NOON + 9 * DAY) == 30
    assert numbers(await accounted(book)) == numbers(account)


async def test_a_tick_decided_ahead_moves_into_its_day_when_that_is_created(book: Book) -> None:
    await book.open(every(60 * 48))
    book.clock.now += HOUR
    await book.edit(every(50 * 60))  # the tick of the day after tomorrow is superseded
    assert await of(book.pool, "ticks_rest") == 1

    created = await opened(book.pool, NOON + DAY)

    assert len(created) == 3
    assert (await of(book.pool, "ticks_2026_09_07"), await of(book.pool, "ticks_rest")) == (1, 0)
    assert (await accounted(book)).consistent


async def test_a_day_with_more_rows_than_may_move_stays_in_the_rest(book: Book) -> None:
    await book.open(every(60))
    await book.ring_each(2, HOUR)

    created = await partitions.create_upcoming(book.pool, NOON, replace(TICKS, may_move=1))

    assert created == ["ticks_2026_09_06", "ticks_2026_09_07"]
    assert await of(book.pool, "ticks_rest") == 2


async def test_a_reader_delays_the_drop_and_is_not_disturbed(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(60))
    await book.ring_each(20, HOUR)
    before = await accounted(book)
    async with book.pool.acquire() as reader:
        async with reader.transaction(isolation="repeatable_read", readonly=True):
            await tick_days.lock_days(reader)
            dropping = asyncio.ensure_future(tick_retention.prune(book.pool, TODAY + DAY))
            await until(lambda: book.pool.fetchval(WAITING), 20, "the drop to wait")
            await until(lambda: _gave_way(book.pool), 20, "the drop to give way")
            assert await reader.fetchval("SELECT count(*) FROM ticks") == 20
            assert NAME in await days(book.pool)
        gone = await dropping

    assert gone == 11
    assert numbers(await accounted(book)) == numbers(before)


async def _gave_way(pool: Pool) -> bool:
    return await pool.fetchval(WAITING) == 0


async def test_a_day_that_changed_since_it_was_counted_is_not_dropped(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(10))
    await book.ring_each(75, 10 * MINUTE)
    before = await accounted(book)
    counted = await tick_days.count(book.pool, NAME, TODAY, TODAY + DAY)
    rows = [(one, TODAY + DAY - timedelta(microseconds=1), 71) for one in counted.versions]
    assert (counted.rows, len(rows)) == (71, 1)

    schedule_id = (await book.row())["id"]
    await tick_retention.prune_ticks(book.pool, schedule_id, NOON + HOUR)
    after_pruning = await tick_days.drop(book.pool, counted, rows)
    counted = await tick_days.count(book.pool, NAME, TODAY, TODAY + DAY)
    await book.pool.execute(
        "INSERT INTO tick_gaps VALUES ($1, $2, $3, 1, 1, 'skipped', 'paused', $3)",
        schedule_id,
        NOON - HOUR,
        NOON - HOUR,
    )
    rows = [(one, TODAY + DAY - timedelta(microseconds=1), 66) for one in counted.versions]
    after_a_gap = await tick_days.drop(book.pool, counted, rows)
    await book.pool.execute("DELETE FROM tick_gaps")

    assert (after_pruning, after_a_gap) == (False, False)
    assert NAME in await days(book.pool)
    assert numbers(await accounted(book)) == numbers(before)


async def test_two_that_prune_and_one_that_decides_at_once_lose_nothing(book: Book) -> None:
    await opened(book.pool)
    await book.open(every(60))
    await book.ring_each(40, HOUR)

    gone = await asyncio.gather(
        tick_retention.prune(book.pool, TODAY + 2 * DAY),
        tick_retention.prune(book.pool, TODAY + 2 * DAY),
        book.ring(after=HOUR),
        proof.verify_new(book.pool, book.clock()),
    )

    account = await accounted(book)
    assert account.consistent
    assert (account.expected, account.pruned) == (41, 35)
    assert sorted(gone[:2]) in ([0, 35], [11, 24])
    assert all(one.consistent for one in gone[3])
