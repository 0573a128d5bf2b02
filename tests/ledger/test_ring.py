"""A ring decides what is due once, however often, late, early or together it comes."""

import asyncio
import time
from datetime import timedelta

import pytest

from app.core.enums import Coalesce, Overlap
from app.ledger import decide, edit
from app.store.db import Pool, open_pool
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import DueQuery
from tests.clock import NOON, SettableClock
from tests.ledger.harness import KEY, MINUTE, Book, every, times

HOUR = timedelta(hours=1)


async def test_a_tick_rung_by_eight_workers_at_once_makes_one_run(book: Book, dsn: str) -> None:
    await book.open(every(1))
    book.clock.pass_by(minutes=1)
    workers = [await open_pool(dsn, size=1) for _ in range(8)]

    rung = await asyncio.gather(
        *(decide.decide_schedule(worker, KEY, book.clock()) for worker in workers)
    )

    assert sum(map(len, rung)) == 1
    assert await book.ticks() == [("12:01", "ran")]
    assert len(await book.run_ids()) == 1
    await asyncio.gather(*(worker.close() for worker in workers))


async def test_a_ring_that_comes_twice_changes_nothing(book: Book) -> None:
    await book.open(every(1))
    await book.ring(after=MINUTE)
    before = (await book.ticks(), dict(await book.row()))

    assert await book.ring() == []
    assert await book.ring(after=timedelta(seconds=20)) == []

    assert (await book.ticks(), dict(await book.row())) == before


async def test_a_ring_that_comes_early_decides_nothing(book: Book) -> None:
    await book.open(every(1))

    assert await book.ring(after=timedelta(seconds=59)) == []

    assert await book.ticks() == []


async def test_a_ring_for_a_schedule_that_is_not_there_does_nothing(book: Book) -> None:
    assert await book.ring() == []


async def test_a_tick_rung_within_its_grace_still_runs(book: Book) -> None:
    await book.open(every(5, misfire_grace=timedelta(seconds=30)))

    queued = await book.ring(after=timedelta(minutes=5, seconds=30))

    assert len(queued) == 1
    assert await book.ticks() == [("12:05", "ran")]


async def test_the_queued_run_carries_its_tick_and_its_policies(book: Book) -> None:
    await book.open(every(1, timeout=33, max_attempts=7))

    (queued,) = await book.ring(after=MINUTE)

    row = await book.pool.fetchrow("SELECT * FROM runs WHERE execution_id = $1", queued.run_id)
    assert row is not None
    assert (row["status"], row["trigger"], row["attempt"]) == ("queued", "scheduled", 1)
    assert row["scheduled_for"] == NOON + MINUTE
    assert (row["timeout_seconds"], row["max_attempts"]) == (33, 7)


async def test_a_tick_whose_schedule_still_works_is_skipped_and_names_what_blocks_it(
    book: Book,
) -> None:
    await book.open(every(1))
    (running,) = await book.ring(after=MINUTE)
    await book.claim(running)

    await book.ring(after=MINUTE)

    assert await book.ticks() == [("12:01", "ran"), ("12:02", "skipped(overlap)")]
    blocking = await book.pool.fetchval(
        "SELECT blocking_run_id FROM ticks WHERE reason = 'overlap'"
    )
    assert blocking == running.run_id


@pytest.mark.parametrize("claimed", [False, True], ids=["queued", "running"])
async def test_of_several_open_runs_the_oldest_is_said_to_block(book: Book, claimed: bool) -> None:
    await book.open(every(1, overlap=Overlap.ALLOW))
    (first,) = await book.ring(after=MINUTE)
    (second,) = await book.ring(after=MINUTE)
    for run in (second, first) if claimed else ():
        await book.claim(run)
    await book.edit(every(1, overlap=Overlap.SKIP))

    await book.ring(after=MINUTE)

    blocking = await book.pool.fetchval(
        "SELECT blocking_run_id FROM ticks WHERE reason = 'overlap'"
    )
    assert blocking == first.run_id


async def test_a_tick_blocked_by_one_just_decided_names_the_run_of_that(book: Book) -> None:
    await book.open(every(1, coalesce=Coalesce.ALL, overlap=Overlap.QUEUE_ONE, misfire_grace=HOUR))

    queued = await book.ring(after=timedelta(minutes=3))

    blocking = await book.pool.fetchval(
        "SELECT blocking_run_id FROM ticks WHERE reason = 'overlap'"
    )
    assert len(queued) == 2
    assert blocking == queued[-1].run_id


async def test_a_tick_that_cancels_the_run_in_its_way_ends_that_run(book: Book) -> None:
    await book.open(every(1, overlap=Overlap.CANCEL_RUNNING))
    (running,) = await book.ring(after=MINUTE)
    await book.claim(running)

    (following,) = await book.ring(after=MINUTE)

    rows = await book.pool.fetch("SELECT execution_id, status FROM runs ORDER BY scheduled_for")
    assert [tuple(row) for row in rows] == [
        (running.run_id, "cancelled"),
        (following.run_id, "queued"),
    ]


async def test_a_tick_missed_while_no_worker_lived_is_scheduler_down(book: Book) -> None:
    await book.open(every(5))
    await book.beating(NOON, NOON + MINUTE)
    book.clock.now = NOON + timedelta(minutes=7)
    await book.beating(book.clock(), book.clock())

    await book.ring()

    assert await book.ticks() == [("12:05", "missed(scheduler_down)")]


async def test_a_tick_missed_while_a_worker_lived_is_late(book: Book) -> None:
    await book.open(every(5))
    await book.beating(NOON, NOON + timedelta(minutes=7))

    await book.ring(after=timedelta(minutes=7))

    assert await book.ticks() == [("12:05", "missed(late)")]


async def test_a_tick_missed_because_the_clock_leapt_is_clock_jump(book: Book) -> None:
    await book.open(every(5))
    await book.beating(NOON, NOON + MINUTE)
    book.clock.now = NOON + timedelta(minutes=7)
    await book.beating(book.clock(), book.clock(), jumped=True)

    await book.ring()

    assert await book.ticks() == [("12:05", "missed(clock_jump)")]


async def test_of_several_late_ticks_the_newest_runs_and_the_others_are_coalesced(
    book: Book,
) -> None:
    await book.open(every(1, misfire_grace=HOUR))

    queued = await book.ring(after=timedelta(minutes=4))

    ticks = await book.ticks()
    assert len(queued) == 1
    assert times(ticks, "skipped(coalesced)") == ["12:01", "12:02", "12:03"]
    assert times(ticks, "ran") == ["12:04"]


async def test_a_backlog_that_is_to_run_whole_runs_whole(book: Book) -> None:
    await book.open(every(1, coalesce=Coalesce.ALL, overlap=Overlap.ALLOW, misfire_grace=HOUR))

    queued = await book.ring(after=timedelta(minutes=4))

    assert len(queued) == 4
    assert times(await book.ticks(), "ran") == ["12:01", "12:02", "12:03", "12:04"]


async def test_a_clock_going_backwards_moves_no_frontier_and_runs_nothing_twice(
    book: Book,
) -> None:
    await book.open(every(1))
    await book.ring_each(3)
    frontier = (await book.row())["evaluated_through"]
    book.clock.now = NOON - HOUR

    assert await book.ring() == []
    await book.edit(every(1, timeout=99))
    await book.ring_each(30)

    row = await book.row()
    assert row["evaluated_through"] == frontier
    assert [minute for minute, _ in await book.ticks()] == ["12:01", "12:02", "12:03"]
    book.clock.now = NOON + timedelta(minutes=3)
    await book.ring_each(1)
    assert times(await book.ticks(), "ran") == ["12:01", "12:02", "12:03", "12:04"]


async def test_a_week_of_downtime_is_decided_in_no_time_and_kept_in_one_row(book: Book) -> None:
    await book.open(every(1))
    week = timedelta(days=7)
    book.clock.now = NOON + week + timedelta(seconds=30)
    await book.beating(book.clock(), book.clock())
    started = time.monotonic()

    queued = await book.ring()

    seconds = time.monotonic() - started
    print(f"a week of minutes was decided in {seconds:.3f} s")  # noqa: T201 - for whoever looks
    assert seconds < 3
    assert len(queued) == 1
    assert await book.gaps() == [("missed(scheduler_down)", 7 * 24 * 60 - 1)]
    assert await book.ticks() == [("12:00", "ran")]


async def test_more_ticks_than_one_decision_takes_are_all_decided_in_one_ring(book: Book) -> None:
    await book.open(every(1))
    book.clock.now = NOON + timedelta(days=20, seconds=30)
    await book.beating(book.clock(), book.clock())

    queued = await book.ring()

    assert len(queued) == 1
    assert sum(count for _, count in await book.gaps()) == 20 * 24 * 60 - 1


async def test_ticks_that_were_pruned_never_come_back_as_work(
    pool: Pool, clock: SettableClock
) -> None:
    pruned = Book(pool, clock)  # its books do not balance any more: no proof at its end
    await pruned.open(every(1))
    await pruned.ring_each(5)
    await pool.execute("DELETE FROM ticks")

    assert await pruned.ring() == []
    assert await schedule_rows.due_built_in(pool, DueQuery(clock(), 10)) == []
    await pruned.edit(every(2))
    await pruned.ring_each(1)

    assert await pruned.ticks() == [("12:06", "ran")]


@pytest.mark.parametrize("workers", [2, 6])
async def test_two_registrations_at_once_make_one_schedule(book: Book, workers: int) -> None:
    wanted = [every(1)]

    await asyncio.gather(*(edit.register(book.pool, wanted, NOON) for _ in range(workers)))

    assert await book.pool.fetchval("SELECT count(*) FROM schedules") == 1
    assert await book.pool.fetchval("SELECT count(*) FROM schedule_versions") == 1
    await book.ring_each(2)
