"""What is old goes, what somebody still needs stays."""

from datetime import timedelta

import pytest

from app.core.config import Config
from app.core.enums import Overlap
from app.maintenance import retention, tick_retention
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


async def test_the_last_successful_run_stays_beside_the_last_one(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(4)
    await book.pool.execute(
        "UPDATE runs SET created_at = scheduled_for - interval '9 days',"
        " completed_at = scheduled_for - interval '9 days', status = 'failure'"
    )
    first, second = (await book.pool.fetch("SELECT execution_id FROM runs ORDER BY created_at"))[:2]
    await book.pool.execute(
        "UPDATE runs SET status = 'success' WHERE execution_id = ANY ($1)", [first[0], second[0]]
    )

    gone = await forgotten(book, keeping(run_days=7))

    left = await book.pool.fetch("SELECT status, execution_id FROM runs ORDER BY created_at")
    assert gone == {"runs": 2}
    assert [row["status"] for row in left] == ["success", "failure"]
    assert left[0]["execution_id"] == second[0]


async def test_more_rows_than_a_batch_go_in_one_night(book: Book) -> None:
    count = tick_retention.BATCH_ROWS + 1
    await book.pool.execute(
        "INSERT INTO worker_beats (worker, since, until, jumped)"
        " SELECT 'w', $1::timestamptz - n * interval '1 s', $1, false"
        " FROM generate_series(1, $2::int) n",
        book.clock() - 30 * DAY,
        count,
    )

    assert await forgotten(book, keeping(beat_days=7)) == {"worker_beats": count}


async def test_items_go_by_when_they_went_missing(book: Book) -> None:
    now = book.clock()
    for key, age, missing in (("there", 30, None), ("gone", 30, 20), ("just gone", 30, 2)):
        await book.pool.execute(
            "INSERT INTO items (source, key, data, content_hash, first_seen, last_seen, changed_at,"
            " missing_since, run_id) VALUES ('books', $1, '{}', '', $2, $2, $2, $3,"
            " gen_random_uuid())",
            key,
            now - age * DAY,
            None if missing is None else now - missing * DAY,
        )

    gone = await forgotten(book, keeping(item_days=7))

    left = await book.pool.fetch("SELECT key FROM items ORDER BY key")
    assert gone == {"items": 1}
    assert [row["key"] for row in left] == ["just gone", "there"]
