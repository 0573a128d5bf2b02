"""A schedule that is due rarely: its newest ticks are in many partitions, and all are looked at."""

from datetime import timedelta

import pytest

from app.store.content import partitions
from app.store.db import Pool
from app.store.reports import health
from tests.clock import SettableClock
from tests.ledger.harness import KEY, Book, every

HALF_A_DAY = timedelta(hours=12)


@pytest.fixture
async def book(pool: Pool, clock: SettableClock) -> Book:
    for days in range(0, 12, 3):
        at = clock() + timedelta(days=days)
        await partitions.create_upcoming(pool, at, partitions.TICKS)
    return Book(pool, clock)


async def test_its_skipped_ticks_are_compressed_though_they_are_weeks_old(book: Book) -> None:
    await book.open(every(12 * 60))
    await book.ring_each(2, HALF_A_DAY)
    await book.pause()

    await book.ring_each(49, HALF_A_DAY)
    before = await book.gaps()
    await book.ring_each(3, HALF_A_DAY)

    assert before == []
    assert await book.gaps() == [("skipped(paused)", 52)]
    assert len(await book.ticks()) == 2


async def test_few_skipped_ticks_are_not_compressed_before_there_are_enough(book: Book) -> None:
    await book.open(every(12 * 60))
    await book.pause()

    await book.ring_each(20, HALF_A_DAY)

    assert await book.gaps() == []
    assert len(await book.ticks()) == 20


async def test_its_health_knows_its_last_hundred_ticks(book: Book) -> None:
    await book.open(every(12 * 60))
    await book.ring_each(20, HALF_A_DAY)

    (row,) = await health.facts(book.pool, book.clock(), [KEY])
    (all_of_it,) = await health.facts(book.pool, book.clock())

    assert len(row.ticks) == len(all_of_it.ticks) == 20
    assert row.ticks[0][2] == book.clock()
    assert [at for _, _, at, _ in row.ticks] == sorted((t[2] for t in row.ticks), reverse=True)
