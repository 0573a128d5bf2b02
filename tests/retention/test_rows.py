"""What is old goes, what somebody still needs stays."""

from datetime import timedelta

import pytest

from app.core.config import Config
from app.core.enums import Overlap
from app.maintenance import retention
from app.store.db import Pool
from tests.clock import SettableClock
from tests.ledger.harness import MINUTE, Book, every

DAY = timedelta(days=1)


@pytest.fixture
def book(pool: Pool, clock: SettableClock) -> Book:
    return Book(pool, clock)


def keeping(**days: int) -> Config:
    everything = dict.fromkeys(
        ("raw_days", "run_days", "tick_days", "beat_days", "rejected_days"), 0
    )
    return Config(_env_file=None, **(everything | days))  # pyright: ignore[reportCallIssue] - pydantic-settings' own keyword


async def forgotten(book: Book, config: Config) -> dict[str, int]:
    """What one night forgets, by kind."""
    night = [one async for one in retention.delete_expired(book.pool, config, book.clock())]
    return {one.kind: one.rows for one in night if one.rows}


async def aged(book: Book, days: float) -> None:
    """As if everything in `runs` had been written so many days before the clock's instant."""
    await book.pool.execute(
        "UPDATE runs SET created_at = $1::timestamptz, completed_at ="
        " CASE WHEN completed_at IS NULL THEN NULL ELSE $1::timestamptz END",
        book.clock() - timedelta(days=days),
    )


async def test_ended_runs_go_but_for_the_last_one(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(5)
    await book.pool.execute(
        "UPDATE runs SET created_at = scheduled_for - interval '9 days',"
        " completed_at = scheduled_for - interval '9 days'"
    )

    gone = await forgotten(book, keeping(run_days=7))

    assert gone == {"runs": 4}
    assert len(await book.run_ids()) == 1


async def test_an_open_run_stays_however_old(book: Book) -> None:
    await book.open(every(1, overlap=Overlap.ALLOW))
    await book.ring(after=MINUTE)
    await book.ring(after=MINUTE)
    await aged(book, 300)

    assert await forgotten(book, keeping(run_days=7)) == {}


async def test_zero_days_keep_for_ever(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(5)
    await aged(book, 3000)

    assert await forgotten(book, keeping()) == {}


async def test_beats_that_an_undecided_tick_needs_stay(book: Book) -> None:
    await book.open(every(1))
    start = book.clock()
    await book.beating(start - 30 * DAY, start - 29 * DAY)
    await book.beating(start, start + DAY)
    book.clock.now += 30 * DAY

    gone = await forgotten(book, keeping(beat_days=7))

    assert gone == {"worker_beats": 1}


async def test_a_dry_run_counts_and_touches_nothing(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(5)
    book.clock.now += 9 * DAY
    config = keeping(tick_days=7)

    told = [one async for one in retention.count_expired(book.pool, config, book.clock())]

    assert {one.kind: one.rows for one in told if one.rows} == {"ticks": 4}
    assert len(await book.ticks()) == 5
    assert await forgotten(book, config) == {"ticks": 4}
