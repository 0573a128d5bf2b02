"""A stored schedule that cannot be read holds its ticks and stops nothing else."""

from datetime import timedelta

import pytest
from arq.connections import ArqRedis

from app.core.errors import BadSchedule
from app.ledger import backfill, decide, edit, explain, proof
from app.ledger.backfill import BackfillRequest
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from tests.clock import NOON
from tests.ledger.harness import BREAKAGES, KEY, MINUTE, VERSION_TOO, Book, every


async def break_it(pool: Pool, statement: str = BREAKAGES[0]) -> None:
    await pool.execute(f"{statement} WHERE key = $1", KEY)
    await pool.execute(VERSION_TOO)


@pytest.mark.parametrize("statement", BREAKAGES)
async def test_its_ticks_are_held_and_every_command_works(book: Book, statement: str) -> None:
    await book.open(every(5))
    other = DeclaredSchedule("other", "job", Schedule.every(60, anchor=NOON), Policies())
    await edit.edit(book.pool, other, NOON)
    await break_it(book.pool, statement)
    book.clock.now = NOON + 7 * MINUTE

    with pytest.raises(BadSchedule):
        await decide.decide_schedule(book.pool, KEY, book.clock())
    assert len(await decide.decide_schedule(book.pool, "other", book.clock())) == 1
    await book.pause()
    await book.resume()
    said = await explain.explain(book.pool, KEY, None)
    accounts = {account.key: account for account in await proof.verify(book.pool, book.clock())}

    assert (await book.row())["evaluated_through"] == NOON
    assert "cannot be read" in said[0]
    assert accounts[KEY].unreadable
    assert accounts["other"].unreadable is None
    assert accounts["other"].expected == 7


async def test_an_edit_mends_it_and_accounts_for_what_it_held(book: Book) -> None:
    await book.open(every(5))
    await book.finish(*await book.ring(after=5 * MINUTE))
    await break_it(book.pool)
    book.clock.now = NOON + 17 * MINUTE

    await book.edit(every(4))
    await book.finish(*await book.ring(after=3 * MINUTE))

    assert await book.ticks() == [
        ("12:05", "ran"),
        ("12:08", "missed(unreadable)"),
        ("12:10", "missed(unreadable)"),
        ("12:12", "missed(unreadable)"),
        ("12:16", "missed(unreadable)"),
        ("12:20", "ran"),
    ]


async def test_many_held_ticks_become_one_row(book: Book) -> None:
    await book.open(every(1))
    await break_it(book.pool)
    book.clock.now = NOON + timedelta(days=30)

    await book.edit(every(1))

    assert await book.gaps() == [("missed(unreadable)", 30 * 24 * 60)]


async def test_the_restart_of_a_worker_that_declares_it_mends_it(book: Book) -> None:
    await book.open(every(5))
    await break_it(book.pool)

    await book.open(every(5))
    await book.finish(*await book.ring(after=5 * MINUTE))

    assert await book.ticks() == [("12:05", "ran")]


async def test_it_can_be_retired_and_revived(book: Book) -> None:
    await book.open(every(5))
    await break_it(book.pool)
    book.clock.now = NOON + 7 * MINUTE

    async with book.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, KEY, book.clock())
    await book.edit(every(5))
    await book.finish(*await book.ring(after=3 * MINUTE))

    assert await book.ticks() == [("12:05", "missed(unreadable)"), ("12:10", "ran")]


async def test_a_tick_it_missed_is_answered_once_though_the_clock_was_set_back(book: Book) -> None:
    await book.open(every(5))
    await break_it(book.pool)
    book.clock.now = NOON + 7 * MINUTE
    async with book.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, KEY, book.clock())
    book.clock.now = NOON + 2 * MINUTE

    await book.edit(every(5))
    await book.finish(*await book.ring(after=8 * MINUTE))

    assert await book.ticks() == [("12:05", "missed(unreadable)"), ("12:10", "ran")]


async def test_the_tick_it_had_announced_is_answered_once_after_two_edits(book: Book) -> None:
    await book.open(every(5))
    await break_it(book.pool)
    book.clock.now = NOON + 7 * MINUTE
    await book.edit(every(60))  # 12:05 is none of its ticks
    book.clock.now = NOON + 2 * MINUTE

    await book.edit(every(5))
    await book.finish(*await book.ring(after=8 * MINUTE))

    assert ("12:05", "missed(unreadable)") in await book.ticks()
    assert ("12:10", "ran") in await book.ticks()


async def test_a_backfill_of_it_is_held_and_others_are_fed(book: Book, redis: ArqRedis) -> None:
    await book.open(every(5))
    other = DeclaredSchedule("other", "job", Schedule.every(60, anchor=NOON), Policies())
    await edit.edit(book.pool, other, NOON)
    book.clock.now = NOON + 20 * MINUTE
    for key in (KEY, "other"):
        request = BackfillRequest(key, NOON + 5 * MINUTE, NOON + 10 * MINUTE, "ada", concurrency=9)
        plan = await backfill.make_plan(book.pool, request, book.clock())
        await backfill.start(book.pool, plan, book.clock())
    await break_it(book.pool, BREAKAGES[3])

    await backfill.feed(book.pool, redis, book.clock())

    rows = await book.pool.fetch(
        "SELECT s.key FROM runs JOIN backfills b ON b.id = backfill_id"
        " JOIN schedules s ON s.id = b.schedule_id"
    )
    assert {row["key"] for row in rows} == {"other"}
    await book.pool.execute("UPDATE runs SET status = 'success'")
