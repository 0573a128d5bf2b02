"""Zone data that changes loses and invents no tick, and the newer data wins everywhere."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.core import zone_data
from app.core.errors import BadSchedule
from app.health import accounting
from app.ledger import edit, proof
from app.ledger.edit import DeclaredSchedule
from app.maintenance import tick_retention
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.schedules import zones
from scripts import recount
from tests.clock import SettableClock
from tests.ledger.harness import KEY, Book

ZONE = "America/Vancouver"
# In July Vancouver is at -7, as Phoenix is all the year; Denver is at -6, Anchorage at -8.
EARLIER, LATER = "America/Denver", "America/Anchorage"
MORNING = datetime(2026, 7, 1, 15, 30, tzinfo=UTC)  # 08:30 in Vancouver
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
DAILY = DeclaredSchedule(
    KEY, "job", Schedule.cron("0 9 * * *", ZONE, name=KEY), Policies(misfire_grace=HOUR)
)


@pytest.fixture
def clock() -> SettableClock:
    return SettableClock(MORNING)


async def publish(pool: Pool, version: str, like: str) -> str:
    """Store data of Vancouver as a worker with another wheel would; returns its stamp."""
    data = zone_data.wheel_data(like)
    stamp = zone_data.stamp_of(version, data)
    await pool.execute(zones.SAVE, ZONE, stamp, data)
    return stamp


async def sweep(book: Book) -> None:
    """Derive anew what a worker's sweep would."""
    for _, key in await zones.outdated(book.pool, [], 10):
        book.queued += await edit.rederive(book.pool, key, book.clock())


async def versions(book: Book) -> list[tuple[str | None, str | None]]:
    rows = await book.pool.fetch("SELECT * FROM schedule_versions ORDER BY version")
    return [(row["reason"], row["zone_data"]) for row in rows]


async def test_a_version_keeps_the_stamp_of_the_data_it_was_derived_with(book: Book) -> None:
    await book.open(DAILY)

    assert await versions(book) == [("created", zone_data.wheel_stamp(ZONE))]
    stored = await book.pool.fetchval("SELECT data FROM zone_data WHERE zone = $1", ZONE)
    assert stored == zone_data.wheel_data(ZONE)


async def test_newer_data_makes_a_new_version_with_the_reason(book: Book) -> None:
    await book.open(DAILY)
    stamp = await publish(book.pool, "9001a", LATER)

    await sweep(book)

    assert await versions(book) == [
        ("created", zone_data.wheel_stamp(ZONE)),
        ("zone_data", stamp),
    ]
    assert (await book.row())["next_tick_at"] == datetime(2026, 7, 1, 17, tzinfo=UTC)
    assert await zones.outdated(book.pool, [], 10) == []


async def test_the_same_data_under_a_newer_version_changes_no_tick(book: Book) -> None:
    await book.open(DAILY)
    stamp = await publish(book.pool, "9001a", ZONE)
    before = dict(await book.row())

    await sweep(book)

    assert await versions(book) == [("created", stamp)]
    assert dict(await book.row()) == before | {"zone_data": stamp}


async def test_a_tick_whose_instant_moves_later_runs_once_that_day(book: Book) -> None:
    await book.open(DAILY)
    await book.finish(*await book.ring(after=HOUR))  # 16:00, 09:00 by the old data
    await publish(book.pool, "9001a", LATER)

    await sweep(book)
    await book.finish(*await book.ring(after=HOUR))  # 17:00, 09:00 by the new
    await book.finish(*await book.ring(after=DAY))

    ran = await book.pool.fetch("SELECT scheduled_for FROM ticks WHERE outcome = 'ran' ORDER BY 1")
    assert [row[0].isoformat() for row in ran] == [
        "2026-07-01T16:00:00+00:00",
        "2026-07-02T17:00:00+00:00",
    ]


async def test_a_tick_whose_instant_moves_into_the_past_still_runs(book: Book) -> None:
    await book.open(DAILY)
    await book.pool.execute(
        "UPDATE schedules SET effective_from = $1, evaluated_through = $1", MORNING - HOUR
    )
    await book.pool.execute("UPDATE schedule_versions SET effective_from = $1", MORNING - HOUR)
    await publish(book.pool, "9001a", EARLIER)  # 09:00 was half an hour ago

    await sweep(book)

    assert [run.task for run in book.queued] == ["job"]
    assert await book.ticks() == [("15:00", "ran"), ("16:00", "skipped(superseded)")]


async def test_a_job_that_follows_real_time_goes_on_without_a_gap(book: Book) -> None:
    quarters = Schedule.cron("*/15 * * * *", ZONE, name=KEY)
    await book.open(DeclaredSchedule(KEY, "job", quarters, Policies()))
    await book.ring_each(4, 15 * timedelta(minutes=1))
    await publish(book.pool, "9001a", LATER)

    await sweep(book)
    await book.ring_each(4, 15 * timedelta(minutes=1))

    assert {what for _, what in await book.ticks()} == {"ran"}
    assert len(await book.ticks()) == 8


async def test_a_worker_with_older_data_follows_what_is_stored_and_changes_nothing(
    book: Book,
) -> None:
    await publish(book.pool, "9001a", LATER)

    await book.open(DAILY)  # this process's wheel is the older one
    await book.open(DAILY)
    await book.finish(*await book.ring(after=timedelta(hours=1, minutes=30)))

    assert len(await versions(book)) == 1
    assert await book.ticks() == [("17:00", "ran")]
    assert (await book.row())["next_tick_at"] == datetime(2026, 7, 2, 17, tzinfo=UTC)
    assert await zones.ahead_of_wheel(book.pool) == [ZONE]


async def test_what_older_data_decided_stays_proven_by_it(book: Book) -> None:
    stamp = await publish(book.pool, "1999a", LATER)
    await book.open(DAILY)
    await derive_with(book.pool, stamp, datetime(2026, 7, 1, 17, tzinfo=UTC))
    for _ in range(3):
        await book.finish(*await book.ring(after=DAY))

    await sweep(book)
    await book.finish(*await book.ring(after=DAY))

    assert [minute for minute, _ in await book.ticks()].count("17:00") >= 2
    assert await accounting.unaccounted(book.pool, book.clock()) == 0
    [account] = await proof.verify(book.pool, book.clock())
    schedule_id = (await book.row())["id"]
    while await tick_retention.prune_ticks(book.pool, schedule_id, book.clock() - DAY, 1):
        pass
    [pruned] = await proof.verify(book.pool, book.clock())
    assert (pruned.expected, pruned.ran) == (account.expected, account.ran)
    assert pruned.pruned > 0


async def test_a_schedule_stored_before_there_were_stamps_is_stamped(book: Book) -> None:
    await book.open(DAILY)
    await book.pool.execute("UPDATE schedules SET zone_data = ''")
    await book.pool.execute("UPDATE schedule_versions SET zone_data = ''")

    await sweep(book)

    assert await versions(book) == [("created", zone_data.wheel_stamp(ZONE))]


async def test_a_schedule_put_in_by_hand_without_a_stamp_is_stamped_by_its_next_edit(
    book: Book,
) -> None:
    await book.open(DAILY)
    await book.pool.execute("UPDATE schedules SET zone_data = NULL")

    await book.open(DAILY)

    assert await versions(book) == [("created", zone_data.wheel_stamp(ZONE))]
    assert (await book.row())["zone_data"] == zone_data.wheel_stamp(ZONE)


async def derive_with(pool: Pool, stamp: str, upcoming: datetime) -> None:
    """Make the schedule one that a worker with that zone data has created."""
    await pool.execute(
        "UPDATE schedules SET zone_data = $1, next_tick_at = $2, due_at = $2", stamp, upcoming
    )
    await pool.execute("UPDATE schedule_versions SET zone_data = $1", stamp)


async def test_ticks_read_by_another_parser_stay_proven_and_an_edit_reads_them_anew(
    book: Book,
) -> None:
    await book.open(DAILY)
    # As a version of the cron library stored it that read the expression as 10:00.
    other = DAILY.schedule.to_spec() | {"fields": "0 0 10 1-31 1-12 0-6 and"}
    upcoming = Schedule.from_spec(other).next(MORNING)
    await book.pool.execute(
        "UPDATE schedules SET spec = $1, next_tick_at = $2, due_at = $2", other, upcoming
    )
    await book.pool.execute("UPDATE schedule_versions SET spec = $1", other)
    await book.finish(*await book.ring(after=2 * HOUR))

    await book.edit(DAILY)
    await book.finish(*await book.ring(after=23 * HOUR))

    assert await book.ticks() == [
        ("17:00", "ran"),
        ("16:00", "ran"),
        ("17:00", "skipped(superseded)"),
    ]
    assert [reason for reason, _ in await versions(book)] == ["created", "edited"]


async def test_an_exclusion_is_read_by_the_zone_data_of_its_schedule(book: Book) -> None:
    stamp = await publish(book.pool, "1999a", LATER)
    spared = Exclusions.parse(["09:00-09:30"], ZONE)
    declared = replace(DAILY, policies=replace(DAILY.policies, exclude=spared))
    await book.open(declared)
    await derive_with(book.pool, stamp, datetime(2026, 7, 1, 17, tzinfo=UTC))

    await book.ring(after=2 * HOUR)  # 17:00, which is 09:00 by the stored data and 10:00 by today's

    assert await book.ticks() == [("17:00", "skipped(excluded)")]


QUARTERS = DeclaredSchedule(
    KEY,
    "job",
    Schedule.every(900, name=KEY),
    Policies(exclude=Exclusions.parse(["09:00-10:00"], ZONE, end="2026-07-01T10:45")),
)


async def outcomes(book: Book, times: int) -> list[str]:
    """What became of the next ticks, one each quarter of an hour."""
    await book.ring_each(times, HOUR / 4)
    return [what for _, what in (await book.ticks())[-times:]]


async def test_exclusions_of_an_interval_follow_newer_data_and_the_past_stays_proven(
    book: Book, dsn: str
) -> None:
    await book.open(QUARTERS)
    before = await outcomes(book, 3)  # 08:45, 09:00 and 09:15
    stamp = await publish(book.pool, "9001a", LATER)  # 08:15

    await sweep(book)
    after = await outcomes(book, 11)  # 08:30 to 11:00, of which 10:45 is the last to run

    assert before == ["ran", "skipped(excluded)", "skipped(excluded)"]
    assert after == [*["ran"] * 2, *["skipped(excluded)"] * 4, *["ran"] * 4, "skipped(excluded)"]
    assert await versions(book) == [
        ("created", zone_data.wheel_stamp(ZONE)),
        ("zone_data", stamp),
    ]
    (count,) = await recount.recount(dsn)
    assert (count.faults, count.expected) == ([], 14)


async def test_a_worker_with_older_data_changes_no_exclusion_of_an_interval(book: Book) -> None:
    await publish(book.pool, "9001a", LATER)

    await book.open(QUARTERS)
    await book.open(QUARTERS)

    assert len(await versions(book)) == 1
    assert await outcomes(book, 6) == ["ran"] * 5 + ["skipped(excluded)"]  # 07:45 to 09:00


@pytest.mark.parametrize("declared", [DAILY, QUARTERS], ids=["cron", "interval"])
async def test_a_version_whose_zone_data_is_lost_cannot_be_read_and_an_edit_mends_it(
    book: Book, dsn: str, declared: DeclaredSchedule
) -> None:
    await book.open(declared)
    await derive_with(book.pool, "1999a-lost", MORNING + HOUR / 2)
    await book.pool.execute("DELETE FROM zone_data")
    book.clock.now += HOUR

    with pytest.raises(BadSchedule, match="1999a-lost"):
        await book.ring()
    [account] = await proof.verify(book.pool, book.clock())
    (count,) = await recount.recount(dsn)
    await book.open(declared)

    assert "1999a-lost" in (account.unreadable or "")
    assert count.sound
    assert "unreadable" in count.faults[0]
    assert {what for _, what in await book.ticks()} == {"missed(unreadable)"}
    assert (await recount.recount(dsn))[0].sound


async def test_newer_data_and_edits_leave_what_a_disabled_organisation_enabled(book: Book) -> None:
    org = await book.pool.fetchval(
        "INSERT INTO organizations (id, name, disabled_at)"
        " VALUES (gen_random_uuid(), 'shut', $1) RETURNING id",
        MORNING,
    )
    await book.open(replace(DAILY, org_id=org))
    await publish(book.pool, "9001a", LATER)

    await sweep(book)
    derived = await book.row()
    await book.edit(replace(DAILY, org_id=org, enabled=False))
    edited = await book.row()

    assert (derived["version"], derived["enabled"]) == (2, True)
    assert (edited["version"], edited["enabled"]) == (2, False)
