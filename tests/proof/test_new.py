"""`verify` counts what is new since the last proof, and its numbers are those of all ticks."""

from datetime import datetime, timedelta

import pytest

from app.ledger import proof
from app.ledger.proof import TickAccount
from app.maintenance import tick_retention
from app.store.reports import proof as store
from tests.clock import NOON
from tests.ledger.harness import MINUTE, Book, every


async def counted(book: Book) -> TickAccount:
    (account,) = await proof.verify_new(book.pool, book.clock())
    (whole,) = await proof.verify(book.pool, book.clock())
    assert account == whole
    return account


async def read(book: Book) -> int:
    """How many rows a verification of what is new reads."""
    async with book.pool.acquire() as connection, connection.transaction():
        (versions,) = (await store.versions(connection)).values()
        return sum(
            [
                1
                for version in versions
                async for _ in store.recorded_ticks(
                    connection, version, version.after_proven().since
                )
            ]
        )


@pytest.fixture
async def proven(book: Book) -> Book:
    """Twenty ticks that ran and were proven."""
    await book.open(every(1))
    await book.ring_each(20)
    assert (await counted(book)).expected == 20
    return book


async def test_ticks_that_were_proven_are_not_read_again(proven: Book) -> None:
    await proven.ring_each(3)

    assert await read(proven) == 3
    account = await counted(proven)
    assert (account.expected, account.ran, account.consistent) == (23, 23, True)
    assert await read(proven) == 0


async def test_a_new_tick_without_its_outcome_is_found_each_time_until_it_is_mended(
    proven: Book,
) -> None:
    await proven.pause()
    await proven.ring_each(3)
    await proven.pool.execute(
        "DELETE FROM ticks WHERE scheduled_for = $1", NOON + timedelta(minutes=22)
    )

    for _ in range(2):
        account = await counted(proven)
        assert (account.unaccounted, account.expected) == (1, 23)


async def test_a_proven_tick_that_was_lost_is_found_by_counting_all(proven: Book) -> None:
    await proven.pool.execute("UPDATE runs SET trigger = 'manual', schedule_id = NULL")
    await proven.pool.execute("DELETE FROM ticks WHERE scheduled_for = $1", NOON + MINUTE)

    (new,) = await proof.verify_new(proven.pool, proven.clock())
    (whole,) = await proof.verify(proven.pool, proven.clock())

    assert (new.unaccounted, whole.unaccounted) == (0, 1)


async def test_a_gap_that_has_grown_since_counts_with_its_new_ticks(proven: Book) -> None:
    await proven.pause()
    await proven.ring_each(60)
    await counted(proven)

    await proven.ring_each(5)

    account = await counted(proven)
    assert (account.expected, account.skipped) == (85, {"paused": 65})


@pytest.mark.parametrize("kept", [2, 15])
async def test_pruning_before_and_after_changes_no_number(proven: Book, kept: int) -> None:
    await proven.edit(every(2))
    await proven.ring_each(6)
    await counted(proven)
    schedule_id = (await proven.row())["id"]
    before: datetime = proven.clock() - kept * MINUTE

    while await tick_retention.prune_ticks(proven.pool, schedule_id, before, batch=100):
        pass
    await proven.ring_each(4)

    account = await counted(proven)
    assert account.consistent
    assert account.pruned > 0


async def test_a_proven_version_that_cannot_be_read_any_more_is_counted_once(proven: Book) -> None:
    await proven.pool.execute(
        "UPDATE schedule_versions SET spec = '{}' WHERE schedule_id = $1",
        (await proven.row())["id"],
    )

    assert (await counted(proven)).ran == 20
