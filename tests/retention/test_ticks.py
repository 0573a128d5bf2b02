"""Ticks that are pruned leave their numbers, and the proof still comes out."""

import asyncio
from datetime import timedelta

import pytest

from app.ledger import edit, explain, proof
from app.ledger.proof import TickAccount
from app.maintenance import tick_retention
from app.store.db import Pool
from tests.clock import NOON, SettableClock
from tests.ledger.harness import KEY, MINUTE, Book, every


@pytest.fixture
def book(pool: Pool, clock: SettableClock) -> Book:
    return Book(pool, clock)


async def pruned(book: Book, age: timedelta = timedelta(0), batch: int = 1000) -> int:
    """Prune what is older than `age`, to the end; returns how many ticks that were."""
    schedule_id = (await book.row())["id"]
    gone = 0
    while some := await tick_retention.prune_ticks(
        book.pool, schedule_id, book.clock() - age, batch=batch
    ):
        gone += some
    return gone


async def accounted(book: Book) -> TickAccount:
    (account,) = await proof.verify(book.pool, book.clock())
    return account


async def test_the_proof_counts_pruned_ticks_and_stays_sound(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(20)
    before = await accounted(book)

    gone = await pruned(book, timedelta(minutes=5))

    account = await accounted(book)
    assert (gone, account.pruned) == (14, 14)
    assert account.consistent
    assert (account.expected, account.ran) == (before.expected, before.ran) == (20, 20)
    assert len(await book.ticks()) == 6


async def test_batches_come_to_the_same_as_one(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(20)

    gone = await pruned(book, timedelta(minutes=5), batch=3)

    account = await accounted(book)
    assert gone == 14
    assert account.consistent
    assert (account.expected, account.ran) == (20, 20)


async def test_pruned_ticks_keep_their_reasons(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(2)
    await book.pause()
    await book.ring_each(60)
    await book.resume()
    await book.ring_each(2)

    await pruned(book)

    account = await accounted(book)
    assert account.consistent
    assert (account.ran, dict(account.skipped)) == (4, {"paused": 60})
    assert await book.gaps() == []


async def test_a_stretch_that_reaches_over_the_boundary_is_kept_whole(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(3)
    await book.pause()
    await book.ring_each(60)

    gone = await pruned(book, timedelta(minutes=30))

    assert gone == 3
    assert [count for _, count in await book.gaps()] == [60]
    assert (await accounted(book)).consistent


async def test_a_tick_that_was_unaccounted_before_it_was_pruned_stays_so(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(10)
    await book.pool.execute("UPDATE runs SET trigger = 'manual', schedule_id = NULL")
    await book.pool.execute(
        "DELETE FROM ticks WHERE scheduled_for = (SELECT min(scheduled_for) FROM ticks)"
    )

    await pruned(book, timedelta(minutes=2))

    account = await accounted(book)
    assert (account.unaccounted, account.unexpected) == (1, 0)


async def test_what_goes_missing_after_the_boundary_is_still_noticed(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(10)
    await pruned(book, timedelta(minutes=5))
    await book.pool.execute("UPDATE runs SET trigger = 'manual', schedule_id = NULL")

    await book.pool.execute(
        "DELETE FROM ticks WHERE scheduled_for = (SELECT min(scheduled_for) FROM ticks)"
    )

    assert (await accounted(book)).unaccounted == 1


async def test_old_wordings_go_and_leave_their_numbers_to_the_next(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(10)
    book.clock.now += timedelta(seconds=20)
    await book.edit(every(2))
    await book.ring_each(10, timedelta(minutes=2))
    book.clock.now += timedelta(seconds=20)
    await book.edit(every(3))
    await book.ring_each(4, timedelta(minutes=3))
    before = await accounted(book)

    await pruned(book, timedelta(minutes=4))

    account = await accounted(book)
    versions = await book.pool.fetch("SELECT version FROM schedule_versions")
    assert [row["version"] for row in versions] == [3]
    assert account.consistent
    assert (account.expected, account.ran, account.skipped) == (
        before.expected,
        before.ran,
        before.skipped,
    )


async def test_pruned_ticks_never_come_back_as_work(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(10)

    await pruned(book)

    assert await book.ring() == []
    assert [run.task for run in await book.ring(after=MINUTE)] == ["job"]
    assert (await accounted(book)).expected == 11


async def test_runs_outlive_their_ticks_without_counting_as_doubled(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(5)

    await pruned(book)

    assert (await accounted(book)).duplicates == 0
    assert len(await book.run_ids()) == 5


async def test_two_prunings_and_the_ledger_at_once_lose_nothing(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(40)

    await asyncio.gather(
        pruned(book, batch=2), pruned(book, batch=3), book.ring(after=MINUTE), book.ring()
    )

    account = await accounted(book)
    assert account.consistent
    assert account.expected == 41


async def test_why_says_that_a_tick_was_pruned(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(5)
    await pruned(book)

    said = await explain.explain(book.pool, KEY, book.clock() - MINUTE)

    assert "only their counts are kept" in said[-1]


async def test_a_schedule_revived_after_retirement_is_pruned_with_its_runs_kept(
    book: Book,
) -> None:
    await book.open(every(1))
    await book.ring_each(3)
    async with book.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, KEY, book.clock())
    book.clock.pass_by(hours=1)
    await book.edit(every(1))
    await book.ring_each(2)

    await pruned(book, timedelta(minutes=30))

    account = await accounted(book)
    assert account.consistent
    assert account.ran == 5
    [said, *_] = (await explain.explain(book.pool, KEY, NOON + MINUTE))[-1:]
    assert "were pruned" in said


async def test_an_edit_at_the_instant_of_a_tick_is_pruned_with_its_runs_kept(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(3)

    await book.edit(every(2))  # at 12:03 exactly
    await book.ring_each(1)
    await pruned(book)

    account = await accounted(book)
    assert account.consistent
    assert account.ran == 4


async def test_a_version_between_two_that_stay_is_kept_for_the_ticks_that_may_return(
    book: Book,
) -> None:
    await book.open(every(61))
    book.clock.now += 10 * MINUTE
    await book.edit(every(2))  # 13:01 is superseded
    await book.ring_each(5, 2 * MINUTE)
    book.clock.now += MINUTE / 2
    await book.edit(every(3))
    await book.ring_each(1, MINUTE / 2)
    await book.ring_each(2, 3 * MINUTE)
    await pruned(book)

    await book.edit(every(61))  # 13:01 is back
    await book.finish(*await book.ring(after=34 * MINUTE))

    account = await accounted(book)
    assert account.consistent
    assert (account.ran, account.skipped) == (9, {"superseded": 2})
