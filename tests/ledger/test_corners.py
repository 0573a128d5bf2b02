"""Corners of the ledger that took thought: each was a fault, or nearly one."""

import asyncio
from datetime import timedelta

from app.core.enums import Coalesce, Overlap
from app.ledger import edit
from app.scheduling.schedule import Schedule
from tests.clock import NOON
from tests.ledger.harness import KEY, MINUTE, Book, DeclaredSchedule, Policies, every

HUNDRED = 100 * MINUTE
SECOND = timedelta(seconds=1)


async def test_a_stretch_does_not_reach_over_another_one(book: Book) -> None:
    await book.open(every(1, misfire_grace=SECOND))
    await book.pause()
    await book.ring(after=HUNDRED)
    await book.resume()
    await book.ring(after=HUNDRED + 30 * SECOND)
    await book.pause()

    await book.ring(after=MINUTE)

    assert await book.gaps() == [("skipped(paused)", 100), ("missed(scheduler_down)", 100)]
    assert len(await book.ticks()) == 1


async def test_ticks_are_gathered_although_a_later_one_was_superseded_already(book: Book) -> None:
    yearly = DeclaredSchedule(KEY, "job", Schedule.cron("@yearly", name=KEY), Policies())
    await book.open(yearly)
    await book.edit(every(1))
    await book.pause()

    for _ in range(60):
        await book.ring(after=MINUTE)

    assert await book.gaps() == [("skipped(paused)", 60)]


async def test_a_tick_blocked_by_one_decided_with_it_names_its_run(book: Book) -> None:
    await book.open(
        every(
            1,
            misfire_grace=HUNDRED,
            coalesce=Coalesce.ALL,
            overlap=Overlap.QUEUE_ONE,
        )
    )

    await book.ring(after=4 * MINUTE)

    runs = await book.run_ids()
    blocking = await book.pool.fetch(
        "SELECT blocking_run_id FROM ticks WHERE reason = 'overlap' ORDER BY scheduled_for"
    )
    assert [row[0] for row in blocking] == [runs[1], runs[1]]


async def test_a_paused_schedule_starts_nothing_that_waited_for_its_jitter(book: Book) -> None:
    await book.open(every(10, jitter=9 * MINUTE))
    row = await book.row()
    assert row["due_at"] > row["next_tick_at"] + 2 * SECOND
    book.clock.now = row["next_tick_at"] + SECOND
    await book.pause()

    book.clock.now = row["due_at"]
    await book.ring()

    assert await book.ticks() == [("12:10", "skipped(paused)")]


async def test_of_two_workers_that_create_a_schedule_the_later_wording_holds(book: Book) -> None:
    first, second = every(1), every(2)

    await asyncio.gather(edit.edit(book.pool, first, NOON), edit.edit(book.pool, second, NOON))

    versions = await book.pool.fetchval("SELECT count(*) FROM schedule_versions")
    assert versions == 2


async def test_an_edit_takes_over_a_tick_that_waits_for_its_jitter_if_it_names_it(
    book: Book,
) -> None:
    await book.open(every(10, jitter=9 * MINUTE))
    book.clock.now = (await book.row())["next_tick_at"] + SECOND

    await book.edit(every(10, jitter=9 * MINUTE, timeout=11))
    book.clock.now = (await book.row())["due_at"]
    await book.ring()

    assert await book.ticks() == [("12:10", "ran")]


async def test_an_edit_names_no_past_instant_for_the_sake_of_a_waiting_tick(book: Book) -> None:
    await book.open(every(10, jitter=9 * MINUTE))
    row = await book.row()
    assert row["due_at"] > row["next_tick_at"] + 2 * MINUTE
    book.clock.now = row["next_tick_at"] + 2 * MINUTE

    await book.edit(every(1))
    await book.ring(after=MINUTE)

    assert await book.ticks() == [("12:10", "skipped(superseded)"), ("12:13", "ran")]
