"""Ticks of a pause, and of a schedule switched off, are recorded as such; many become one row."""

import asyncio
from datetime import timedelta

import pytest

from app.core.errors import UnknownJob
from app.ledger import edit
from app.store.db import Pool
from tests.clock import NOON
from tests.ledger.harness import KEY, MINUTE, Book, every, times
from tests.wait import until as until_true

SECOND = timedelta(seconds=1)


async def test_a_pause_says_since_when_by_whom_and_why(book: Book) -> None:
    await book.open(every(1))
    book.clock.pass_by(seconds=30)

    await book.pause(by="ada", note="the site moves house")

    row = await book.row()
    assert row["paused_at"] == NOON + timedelta(seconds=30)
    assert (row["paused_by"], row["paused_note"]) == ("ada", "the site moves house")


async def test_a_tick_due_before_the_pause_still_runs(book: Book) -> None:
    await book.open(every(1))
    book.clock.pass_by(minutes=1, seconds=5)

    await book.pause()

    assert len(book.queued) == 1
    assert await book.ticks() == [("12:01", "ran")]


async def test_ticks_of_a_pause_are_recorded_and_the_first_after_it_runs(book: Book) -> None:
    await book.open(every(1))
    book.clock.pass_by(seconds=5)
    await book.pause()
    await book.ring(after=MINUTE)
    book.clock.pass_by(minutes=2)

    await book.resume()
    queued = await book.ring(after=MINUTE)

    ticks = await book.ticks()
    assert times(ticks, "skipped(paused)") == ["12:01", "12:02", "12:03"]
    assert times(ticks, "ran") == ["12:04"]
    assert len(queued) == 1
    row = await book.row()
    assert (row["paused_at"], row["paused_by"], row["paused_note"]) == (None, None, None)


async def test_what_is_no_schedule_cannot_be_paused_or_resumed(pool: Pool) -> None:
    with pytest.raises(UnknownJob, match="nobody"):
        await edit.pause(pool, "nobody", NOON, by="ada", note="")
    with pytest.raises(UnknownJob, match="nobody"):
        await edit.resume(pool, "nobody", NOON, by="ada")


async def test_a_tick_of_a_schedule_that_is_switched_off_is_disabled(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(1)

    await book.edit(every(1, enabled=False))
    await book.ring_each(2)
    await book.edit(every(1, enabled=True))
    await book.ring_each(1)

    assert await book.ticks() == [
        ("12:01", "ran"),
        ("12:02", "skipped(disabled)"),
        ("12:03", "skipped(disabled)"),
        ("12:04", "ran"),
    ]
    assert (await book.row())["version"] == 1, "a switch is no new wording"


async def test_fifty_paused_ticks_stay_rows_and_one_more_makes_them_one(book: Book) -> None:
    await book.open(every(1))
    await book.pause()

    await book.ring_each(50)

    assert len(await book.ticks()) == 50
    await book.ring_each(1)
    assert await book.ticks() == []
    assert await book.gaps() == [("skipped(paused)", 51)]


async def test_one_row_of_paused_ticks_keeps_growing(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(2)
    await book.pause()

    await book.ring_each(60)
    await book.resume()
    await book.ring_each(1)

    assert await book.gaps() == [("skipped(paused)", 60)]
    assert times(await book.ticks(), "ran") == ["12:01", "12:02", "13:03"]


async def test_a_row_of_many_ticks_does_not_swallow_those_before_it(book: Book) -> None:
    await book.open(every(1))
    await book.pause()
    await book.ring_each(10)

    await book.ring(after=timedelta(minutes=60))
    await book.ring_each(2)

    assert await book.gaps() == [("skipped(paused)", 62)]
    assert len(await book.ticks()) == 10


async def test_two_pauses_with_an_outage_between_them_stay_apart(book: Book) -> None:
    await book.open(every(1, misfire_grace=5 * SECOND))
    await book.pause()
    await book.ring_each(55)
    await book.resume()
    await book.ring(after=timedelta(minutes=55, seconds=30))
    await book.pause()

    await book.ring_each(55)

    assert await book.gaps() == [
        ("skipped(paused)", 55),
        ("missed(scheduler_down)", 55),
        ("skipped(paused)", 55),
    ]


async def test_a_long_pause_is_one_row_for_each_wording(book: Book) -> None:
    await book.open(every(1))
    await book.pause()
    await book.ring_each(55)

    await book.edit(every(2))
    await book.ring_each(52, timedelta(minutes=2))

    assert sum(count for _, count in await book.gaps()) == 55 + 52
    assert {what for what, _ in await book.gaps()} == {"skipped(paused)"}
    assert len(await book.gaps()) == 2


async def test_a_pause_with_an_end_skips_up_to_it_and_no_tick_more(book: Book) -> None:
    await book.open(every(1))
    book.clock.pass_by(seconds=5)
    until = NOON + timedelta(minutes=3)
    await edit.pause(book.pool, "scrape", book.clock(), by="ada", note="a rest", until=until)

    await book.ring(after=timedelta(seconds=55))
    await book.ring_each(2)
    await book.ring_each(1)

    ticks = await book.ticks()
    assert times(ticks, "skipped(paused)") == ["12:01", "12:02"]
    assert times(ticks, "ran")[0] == "12:03"


async def test_a_pause_that_is_over_is_cleared_and_its_ticks_are_decided(book: Book) -> None:
    await book.open(every(1))
    book.clock.pass_by(seconds=5)
    until = NOON + timedelta(minutes=2, seconds=30)
    await edit.pause(book.pool, "scrape", book.clock(), by="ada", note="a rest", until=until)
    early = await edit.end_pauses(book.pool, until - SECOND)
    book.clock.pass_by(minutes=3)

    queued = await edit.end_pauses(book.pool, book.clock())

    row = await book.row()
    acts = await book.pool.fetch("SELECT by, action FROM schedule_edits ORDER BY at")
    assert early == []
    assert len(queued) == 1
    assert (row["paused_at"], row["paused_until"]) == (None, None)
    assert times(await book.ticks(), "skipped(paused)") == ["12:01", "12:02"]
    assert times(await book.ticks(), "ran") == ["12:03"]
    assert [tuple(act) for act in acts] == [
        ("ada", "pause"),
        ("rollcall (the pause ended)", "resume"),
    ]


async def test_at_the_instant_of_its_end_a_pause_is_over(book: Book) -> None:
    await book.open(every(1))
    first, second = NOON + MINUTE, NOON + 2 * MINUTE
    await edit.pause(book.pool, KEY, book.clock(), by="ada", note="a rest", until=first)

    await edit.pause(book.pool, KEY, first, by="bob", note="his turn", until=second)
    his = await book.row()
    await edit.end_pauses(book.pool, second)

    assert his["paused_by"] == "bob"
    assert (await book.row())["paused_by"] is None


async def test_a_schedule_that_is_paused_anew_meanwhile_stays_paused(book: Book) -> None:
    await book.open(every(1))
    first = NOON + timedelta(minutes=2)
    await edit.pause(book.pool, KEY, book.clock(), by="ada", note="a rest", until=first)
    book.clock.pass_by(minutes=3)
    later = book.clock() + timedelta(hours=1)

    async with book.pool.acquire() as another, another.transaction():
        await another.execute("UPDATE schedules SET paused_until = $1", later)
        ending = asyncio.create_task(edit.end_pauses(book.pool, book.clock()))
        await until_true(lambda: _waits_for_a_lock(book), what="the end of the pause to wait")
    await ending

    assert (await book.row())["paused_until"] == later


async def _waits_for_a_lock(book: Book) -> bool:
    return bool(await book.pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))
