"""What is old goes, what somebody still needs stays."""

from datetime import UTC, datetime, timedelta

import pytest

from app.core.config import Config
from app.core.enums import Overlap
from app.maintenance import retention, tick_retention
from app.store.content import partitions
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

    result = [one async for one in retention.count_expired(book.pool, config, book.clock())]

    assert {one.kind: one.rows for one in result if one.rows} == {"ticks": 4}
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


INSERTS = {
    "worker_beats": (
        "INSERT INTO worker_beats (worker, since, until, jumped) VALUES ('w', $1, $1, false)"
    ),
    "odds_events": (
        "INSERT INTO odds_events (platform, platform_event_id, country, competition, home, away,"
        " kickoff, first_seen_at, updated_at, run_id, seen_at, seen_run_id)"
        " VALUES ('bet9ja', gen_random_uuid(), '', '', '', '', $1, now(), now(), gen_random_uuid(),"
        " now(), gen_random_uuid())"
    ),
    "articles": (
        "INSERT INTO articles (provider, article_id, url, title, summary, source, domain, language,"
        " country, published_at, categories, keywords, first_seen_at, updated_at, run_id)"
        " VALUES ('asknews', gen_random_uuid(), '', '', '', '', '', '', '', $1, '{}', '{}', now(),"
        " now(), gen_random_uuid())"
    ),
    "stories": (
        "INSERT INTO stories (provider, story_uuid, topic, told_at, categories, keywords,"
        " first_seen_at, updated_at, run_id)"
        " VALUES ('asknews', gen_random_uuid(), '', $1, '{}', '{}', now(), now(),"
        " gen_random_uuid())"
    ),
    "items": (
        "INSERT INTO items (source, key, content_hash, first_seen, last_seen, changed_at,"
        " missing_since) VALUES ('books', gen_random_uuid(), '', now(), now(), now(), $1)"
    ),
    "rejected_records": (
        "INSERT INTO rejected_records (execution_id, source, partition, page, reason, data,"
        " created_at) SELECT execution_id, 'books', 'all', 1, 'no title', '{}', $1"
        " FROM runs LIMIT 1"
    ),
    "raw_pages": (
        "INSERT INTO raw_pages (execution_id, source, partition, page, url, status, fetched_at,"
        " body_hash) SELECT execution_id, 'books', 'all', 1, '', 200, $1, hash"
        " FROM runs, raw_bodies LIMIT 1"
    ),
}
SETTINGS = {
    "worker_beats": "beat_days",
    "odds_events": "odds_event_days",
    "articles": "article_days",
    "stories": "story_days",
    "items": "item_days",
    "rejected_records": "rejected_days",
    "raw_pages": "raw_days",
}


async def test_each_kind_is_counted_by_its_own_setting_and_then_so_many_go(book: Book) -> None:
    await book.open(every(1))
    await book.ring(after=MINUTE)
    await book.pool.execute("INSERT INTO raw_bodies VALUES ('h', 'b', 1, $1)", book.clock())
    now = book.clock.now = book.clock() + DAY
    await book.pool.execute("UPDATE schedules SET evaluated_through = $1", now)
    days = {kind: 10 + number for number, kind in enumerate(INSERTS)}
    expected = {kind: 1 + number for number, kind in enumerate(INSERTS)}
    for kind, insert in INSERTS.items():
        for _ in range(expected[kind]):
            await book.pool.execute(insert, now - days[kind] * DAY - MINUTE)
        await book.pool.execute(insert, now - days[kind] * DAY + MINUTE)
    config = keeping(**{SETTINGS[kind]: number for kind, number in days.items()})

    result = [one async for one in retention.count_expired(book.pool, config, now)]
    gone = await forgotten(book, config)

    assert {one.kind: one.rows for one in result if one.rows} == expected
    assert {one.kind: one.days for one in result if one.kind in days} == days
    assert {one.kind: one.setting for one in result if one.kind in days} == {
        kind: setting.upper() for kind, setting in SETTINGS.items()
    }
    assert gone == expected
    for kind in INSERTS:
        left = await book.pool.fetchval(f"SELECT count(*) FROM {kind}")  # noqa: S608 - a constant
        assert (kind, left) == (kind, 1)


async def test_months_of_price_changes_are_counted_before_they_go(book: Book) -> None:
    table = partitions.PRICE_CHANGES
    book.clock.now = datetime(2026, 1, 15, tzinfo=UTC)
    await partitions.create_upcoming(book.pool, book.clock(), table)
    before = await partitions.existing_partitions(book.pool, table)
    book.clock.now = datetime(2026, 3, 1, tzinfo=UTC) + 10 * DAY
    config = keeping(odds_changes_days=10)

    result = [one async for one in retention.count_expired(book.pool, config, book.clock())]
    gone = await forgotten(book, config)

    left = await partitions.existing_partitions(book.pool, table)
    dropped = {"odds_price_changes_2026_01", "odds_price_changes_2026_02"}
    assert before - left == dropped
    assert {one.kind: one.rows for one in result if one.rows} == gone == {table.name: len(dropped)}
