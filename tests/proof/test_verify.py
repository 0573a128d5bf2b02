"""The proof finds each way in which books can be wrong, and nothing in books that are right."""

from datetime import timedelta

import pytest

from app.ledger import proof
from app.ledger.proof import TickAccount
from tests.clock import NOON
from tests.ledger.harness import MINUTE, Book, every


async def accounted(book: Book) -> TickAccount:
    (account,) = await proof.verify(book.pool, book.clock())
    return account


@pytest.fixture
async def kept(book: Book) -> Book:
    """Five ticks that ran, 12:01 to 12:05."""
    await book.open(every(1))
    await book.ring_each(5)
    return book


async def test_books_that_are_right_are_sound(kept: Book) -> None:
    account = await accounted(kept)

    assert account.consistent
    assert (account.expected, account.ran) == (5, 5)
    assert account.frontier == NOON + timedelta(minutes=5)


async def test_what_did_not_run_is_counted_by_its_reason(kept: Book) -> None:
    await kept.pause()
    await kept.ring_each(60)
    await kept.resume()
    await kept.ring(after=timedelta(minutes=3, seconds=30))

    account = await accounted(kept)

    assert account.consistent
    assert account.skipped == {"paused": 60}
    assert account.missed == {"scheduler_down": 2}
    assert (account.expected, account.ran) == (68, 6)


async def test_a_schedule_that_is_not_due_yet_is_sound(book: Book) -> None:
    await book.open(every(1))

    account = await accounted(book)

    assert account.consistent
    assert account.expected == 0


async def test_a_tick_that_is_gone_is_unaccounted_and_named(kept: Book) -> None:
    await kept.pool.execute("UPDATE runs SET trigger = 'manual', schedule_id = NULL")
    await kept.pool.execute(
        "DELETE FROM ticks WHERE scheduled_for = $1", NOON + timedelta(minutes=3)
    )

    account = await accounted(kept)

    assert not account.consistent
    assert account.unaccounted == 1
    assert account.examples == [NOON + timedelta(minutes=3)]
    assert account.expected == 5


async def test_an_answer_for_an_instant_never_named_is_invented(kept: Book) -> None:
    await kept.pool.execute(
        "UPDATE ticks SET scheduled_for = scheduled_for + interval '1 second', outcome = 'skipped',"
        " reason = 'paused', run_id = NULL WHERE scheduled_for = $1",
        NOON + MINUTE,
    )

    account = await accounted(kept)

    assert (account.unexpected, account.unaccounted) == (1, 1)


async def test_a_run_whose_tick_says_it_did_not_run_is_a_duplicate(kept: Book) -> None:
    await kept.pool.execute(
        "UPDATE ticks SET outcome = 'missed', reason = 'late', run_id = NULL"
        " WHERE scheduled_for = $1",
        NOON + MINUTE,
    )

    account = await accounted(kept)

    assert (account.duplicates, account.unaccounted, account.unexpected) == (1, 0, 0)


async def test_two_runs_of_one_tick_are_a_duplicate(kept: Book) -> None:
    await kept.pool.execute("DROP INDEX runs_one_per_tick")
    await kept.pool.execute(
        "INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status,"
        " attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats)"
        " SELECT gen_random_uuid(), job, schedule_id, scheduled_for, trigger, params, status,"
        " attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats"
        " FROM runs WHERE scheduled_for = $1",
        NOON + MINUTE,
    )

    assert (await accounted(kept)).duplicates >= 1


async def test_a_stretch_laid_over_a_tick_is_a_duplicate(kept: Book) -> None:
    await lay_over(kept, NOON + timedelta(minutes=4), NOON + timedelta(minutes=5), 2)

    assert (await accounted(kept)).duplicates > 0


async def test_two_stretches_over_each_other_are_a_duplicate(book: Book) -> None:
    await book.open(every(1))
    await book.pause()
    await book.ring_each(60)
    assert (await accounted(book)).consistent
    await lay_over(book, NOON + timedelta(minutes=50), NOON + timedelta(minutes=55), 6)

    assert (await accounted(book)).duplicates == 1


async def test_a_stretch_that_counts_too_few_leaves_ticks_unaccounted(book: Book) -> None:
    await book.open(every(1))
    await book.pause()
    await book.ring_each(60)
    await book.pool.execute("UPDATE tick_gaps SET count = count - 4")

    account = await accounted(book)

    assert (account.unaccounted, account.unexpected) == (4, 0)


async def test_a_stretch_that_counts_too_many_has_invented_some(book: Book) -> None:
    await book.open(every(1))
    await book.pause()
    await book.ring_each(60)
    await book.pool.execute("UPDATE tick_gaps SET count = count + 4")

    account = await accounted(book)

    assert (account.unaccounted, account.unexpected) == (0, 4)


async def test_a_run_nobody_works_on_any_more_is_stuck(book: Book) -> None:
    await book.open(every(1))
    (run,) = await book.ring(after=MINUTE)
    await book.claim(run)

    assert (await accounted(book)).stuck == 0
    book.clock.pass_by(minutes=2)

    account = await accounted(book)
    assert account.stuck == 1
    assert account.consistent, "stuck is late, not lost"


async def lay_over(book: Book, first: object, last: object, count: int) -> None:
    await book.pool.execute(
        "INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version, outcome,"
        " reason, decided_at) SELECT id, $1, $2, $3, version, 'skipped', 'paused', $2"
        " FROM schedules",
        first,
        last,
        count,
    )
