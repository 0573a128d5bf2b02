"""A punctual tick is decided in one statement, if its schedule is as it was remembered."""

import asyncio
import copy
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from app import migrations
from app.core.enums import Overlap
from app.ledger.decide import decide_schedule
from app.ledger.remembered import RememberedRows
from app.store.db import open_pool
from tests.clock import SettableClock
from tests.ledger.harness import KEY, MINUTE, Book, every
from tests.servers import PrivatePostgres


class Statements:
    """Stands for the pool, and counts the statements that are sent without a transaction."""

    def __init__(self, book: Book) -> None:
        self._pool = book.pool
        self.sent = 0
        self.transactions = 0

    async def fetchval(self, *args: object) -> object:
        self.sent += 1
        return await self._pool.fetchval(*args)  # pyright: ignore[reportArgumentType] - passed on

    def acquire(self) -> object:
        self.transactions += 1
        return self._pool.acquire()


async def decided(book: Book, remembered: RememberedRows) -> tuple[int, int, int]:
    """A minute later: the runs that were queued, statements without a lock, and transactions."""
    book.clock.now += MINUTE
    counted = Statements(book)
    queued = await decide_schedule(counted, KEY, book.clock(), remembered)  # pyright: ignore[reportArgumentType] - stands for the pool
    book.queued += queued
    return len(queued), counted.sent, counted.transactions


async def test_a_remembered_schedule_takes_one_statement(book: Book) -> None:
    await book.open(every(1))
    remembered = RememberedRows()

    assert await decided(book, remembered) == (1, 0, 1)
    await book.finish()
    assert await decided(book, remembered) == (1, 1, 0)
    await book.finish()
    assert await decided(book, remembered) == (1, 1, 0)

    assert await book.ticks() == [("12:01", "ran"), ("12:02", "ran"), ("12:03", "ran")]
    row = await book.row()
    assert (row["evaluated_through"], row["next_tick_at"]) == (
        book.clock(),
        book.clock() + MINUTE,
    )


async def test_schedules_that_were_read_at_the_start_take_one_statement_from_the_first(
    book: Book,
) -> None:
    await book.open(every(1))
    remembered = RememberedRows()
    await remembered.read(book.pool, [KEY, "unknown"])

    assert await decided(book, remembered) == (1, 1, 0)
    assert await book.ticks() == [("12:01", "ran")]


async def test_a_schedule_that_another_process_decided_is_locked_and_read(book: Book) -> None:
    await book.open(every(1))
    remembered = RememberedRows()
    await decided(book, remembered)
    await book.finish()
    await book.finish(*await book.ring(after=MINUTE))

    assert await decided(book, remembered) == (1, 0, 1)
    assert await book.ticks() == [("12:01", "ran"), ("12:02", "ran"), ("12:03", "ran")]


@pytest.mark.parametrize("change", ["pause", "edit", "policy", "disable", "retire"])
async def test_a_change_since_it_was_remembered_is_heeded(book: Book, change: str) -> None:
    await book.open(every(1))
    remembered = RememberedRows()
    await decided(book, remembered)
    await book.finish()
    changes = {
        "pause": book.pause,
        "edit": lambda: book.edit(every(5)),
        "policy": lambda: book.edit(every(1, max_attempts=9)),
        "disable": lambda: book.edit(every(1, enabled=False)),
        "retire": lambda: book.pool.execute("UPDATE schedules SET retired_at = $1", book.clock()),
    }
    await changes[change]()

    queued, *_ = await decided(book, remembered)

    assert queued == (1 if change == "policy" else 0)
    attempts = await book.pool.fetch("SELECT max_attempts FROM runs ORDER BY scheduled_for")
    assert [row[0] for row in attempts][1:] == ([9] if change == "policy" else [])


@pytest.mark.parametrize("claimed", [False, True], ids=["queued", "running"])
@pytest.mark.parametrize("overlap", list(Overlap))
async def test_an_open_run_is_left_to_the_overlap_policy(
    book: Book, overlap: Overlap, claimed: bool
) -> None:
    await book.open(every(1, overlap=overlap))
    remembered = RememberedRows()
    await decided(book, remembered)
    if claimed:
        await book.claim(*book.queued)

    _, _, transactions = await decided(book, remembered)

    assert transactions == 1
    assert len(await book.ticks()) == 2
    outcome = {Overlap.SKIP: "skipped(overlap)"}.get(overlap, "ran")
    assert await book.ticks() == [("12:01", "ran"), ("12:02", outcome)]


async def test_processes_that_decide_the_same_tick_at_once_make_one_run(book: Book) -> None:
    await book.open(every(1))
    first = RememberedRows()
    await decided(book, first)
    await book.finish()
    remembered = [copy.deepcopy(first) for _ in range(8)]  # as if each had decided it
    book.clock.now += MINUTE

    queued = await asyncio.gather(
        *(decide_schedule(book.pool, KEY, book.clock(), each) for each in remembered)
    )

    assert sum(map(len, queued)) == 1
    assert await book.ticks() == [("12:01", "ran"), ("12:02", "ran")]
    assert len(await book.run_ids()) == 2


async def test_each_decision_is_logged_with_its_outcome_and_number_of_ticks(book: Book) -> None:
    await book.open(every(1))
    remembered = RememberedRows()

    with capture_logs() as logs:
        await decided(book, remembered)
        await book.finish()
        await decided(book, remembered)  # in one statement
        await book.finish()
        await book.pause()
        book.clock.now += 2 * MINUTE
        await decided(book, remembered)

    lines = [line for line in logs if line["event"] == "tick.decided"]
    assert [(line["schedule"], line["outcome"], line["count"]) for line in lines] == [
        (KEY, "ran", 1),
        (KEY, "ran", 1),
        (KEY, "skipped", 3),
    ]


async def test_a_decision_that_a_crash_of_postgres_loses_is_made_again_and_what_was_claimed_is_kept(
    tmp_path: Path, clock: SettableClock
) -> None:
    postgres = PrivatePostgres(tmp_path / "private")
    postgres.start()
    try:
        await asyncio.to_thread(migrations.upgrade, postgres.url)
        superuser = await open_pool(postgres.url.replace("//rollcall@", "//postgres@", 1), size=1)
        await superuser.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
        await superuser.execute("SELECT pg_reload_conf()")
        await superuser.close()
        pool = await open_pool(postgres.url, size=2)
        book, remembered = Book(pool, clock), RememberedRows()
        await book.open(every(1))
        await remembered.read(pool, [KEY])
        assert await decided(book, remembered) == (1, 1, 0)
        await book.finish()
        assert await decided(book, remembered) == (1, 1, 0)
        at_risk = await pool.fetchval(
            "SELECT pg_current_wal_flush_lsn() < pg_current_wal_insert_lsn()"
        )

        postgres.kill()
        pool.terminate()
        postgres.start()
        pool = await open_pool(postgres.url, size=2)
        book = Book(pool, clock)
        kept = await book.ticks()
        await decide_schedule(pool, KEY, clock(), remembered)

        assert at_risk
        assert kept == [("12:01", "ran")]
        assert await book.ticks() == [("12:01", "ran"), ("12:02", "ran")]
        runs = await pool.fetch("SELECT status FROM runs ORDER BY scheduled_for")
        assert [row["status"] for row in runs] == ["success", "queued"]
        await pool.close()
    finally:
        postgres.close()
