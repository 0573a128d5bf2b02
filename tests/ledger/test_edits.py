"""Changing a schedule neither invents nor loses a tick."""

import asyncio
from dataclasses import replace
from datetime import timedelta

from app.ledger import decide, edit
from app.orgs import admin, tokens
from tests.clock import NOON
from tests.ledger.harness import KEY, MINUTE, Book, every, times

HALF = timedelta(seconds=30)


async def versions(book: Book) -> list[tuple[int, str, str | None]]:
    rows = await book.pool.fetch("SELECT * FROM schedule_versions ORDER BY version")
    return [
        (
            row["version"],
            f"{row['effective_from']:%H:%M:%S}",
            row["answers_until"] and f"{row['answers_until']:%H:%M:%S}",
        )
        for row in rows
    ]


async def test_registering_the_same_again_changes_nothing(book: Book) -> None:
    await book.open(every(5))
    before = dict(await book.row())
    book.clock.pass_by(minutes=1)

    await book.open(every(5))

    assert dict(await book.row()) == before
    assert await versions(book) == [(1, "12:00:00", None)]


async def test_a_changed_interval_closes_the_old_version_and_opens_a_new_one(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(2)
    book.clock.now += HALF

    await book.edit(every(2))
    await book.ring(after=HALF)
    await book.ring(after=MINUTE)

    assert await versions(book) == [(1, "12:00:00", "12:03:00"), (2, "12:02:30", None)]
    assert await book.ticks() == [
        ("12:01", "ran"),
        ("12:02", "ran"),
        ("12:03", "skipped(superseded)"),
        ("12:04", "ran"),
    ]


async def test_a_tick_that_the_new_wording_names_too_is_not_superseded(book: Book) -> None:
    await book.open(every(10))
    book.clock.now += HALF

    await book.edit(every(5))
    await book.ring_each(1, timedelta(minutes=4, seconds=30))
    await book.ring_each(1, timedelta(minutes=5))

    assert await book.ticks() == [("12:05", "ran"), ("12:10", "ran")]


async def test_what_was_due_before_the_edit_is_decided_by_the_old_wording(book: Book) -> None:
    await book.open(every(1, timeout=11))
    book.clock.now += timedelta(minutes=1, seconds=5)

    queued = await book.edit(every(7, timeout=22))

    assert len(queued) == 1
    timeout = await book.pool.fetchval("SELECT timeout_seconds FROM runs")
    assert timeout == 11
    assert times(await book.ticks(), "ran") == ["12:01"]


async def test_changed_policies_alone_are_a_new_version_and_lose_no_tick(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(1)
    book.clock.now += HALF

    await book.edit(every(1, timeout=99))
    await book.ring_each(1, HALF)

    assert (await book.row())["version"] == 2
    assert await book.ticks() == [("12:01", "ran"), ("12:02", "ran")]


async def test_a_second_edit_that_names_a_superseded_tick_again_takes_it_up(book: Book) -> None:
    await book.open(every(5))
    book.clock.now += HALF
    await book.edit(every(7))
    assert await book.ticks() == [("12:05", "skipped(superseded)")]

    await book.edit(every(5))
    await book.ring_each(1, timedelta(minutes=4, seconds=30))
    await book.ring_each(1, timedelta(minutes=5))

    ticks = dict(await book.ticks())
    assert (ticks["12:05"], ticks["12:10"]) == ("ran", "ran")


async def test_a_version_whose_tick_is_taken_up_answers_until_its_own_successor(book: Book) -> None:
    first, second = every(5), every(7)
    for key in ("earlier", KEY, "later"):
        await edit.register(book.pool, [replace(first, key=key)], book.clock())
        book.clock.pass_by(seconds=20)
        await edit.register(book.pool, [replace(second, key=key)], book.clock())

    await book.edit(first)  # reopens the tick at 12:05

    ends = await book.pool.fetch(
        "SELECT answers_until FROM schedule_versions v JOIN schedules s ON s.id = v.schedule_id"
        " WHERE s.key = $1 ORDER BY v.version",
        KEY,
    )
    assert [row["answers_until"] for row in ends] == [
        NOON + timedelta(seconds=40),
        NOON + timedelta(minutes=7),
        None,
    ]


async def test_many_quick_edits_leave_the_books_balanced(book: Book) -> None:
    await book.open(every(5))

    for minutes in (7, 5, 3, 7, 1, 4, 5, 2):
        book.clock.pass_by(seconds=7)
        await book.edit(every(minutes))
    await book.ring_each(20)

    ran = times(await book.ticks(), "ran")
    assert ran == [f"12:{minute:02}" for minute in range(2, 21, 2)]


async def test_a_schedule_edited_after_a_long_silence_first_answers_for_the_silence(
    book: Book,
) -> None:
    await book.open(every(1))
    book.clock.now = NOON + timedelta(hours=3, seconds=45)

    await book.edit(every(10))

    assert await book.gaps() == [("missed(scheduler_down)", 179)]
    assert times(await book.ticks(), "ran") == ["15:00"]


async def test_an_edit_and_a_ring_at_once_balance(book: Book) -> None:
    await book.open(every(1))
    book.clock.pass_by(minutes=1)

    rings = (decide.decide_schedule(book.pool, KEY, book.clock()) for _ in range(4))
    edits = (edit.edit(book.pool, every(n), book.clock()) for n in (2, 3))
    queued = await asyncio.gather(*rings, *edits)

    assert sum(map(len, queued)) == 1
    await book.ring_each(12)


async def test_two_registrations_at_once_of_two_wordings_are_one_schedule_edited(
    book: Book,
) -> None:
    wordings = [every(2), every(3)]

    await asyncio.gather(*(edit.register(book.pool, [w], NOON) for w in wordings))

    assert await book.pool.fetchval("SELECT count(*) FROM schedules") == 1
    assert [version for version, _, _ in await versions(book)] == [1, 2]
    await book.ring_each(6)


async def test_a_collection_that_is_disabled_while_its_organisation_is_stays_so_afterwards(
    book: Book,
) -> None:
    org = await tokens.create_org(book.pool, "Acme", book.clock())
    collection = replace(every(1), org_id=org)
    await book.open(collection)
    await book.pool.execute("UPDATE organizations SET disabled_at = $1", book.clock())

    await book.edit(replace(collection, enabled=False))
    await book.pool.execute("UPDATE organizations SET disabled_at = NULL")

    assert not (await book.row())["enabled"]


async def test_ticks_before_an_organisation_is_disabled_and_enabled_are_as_it_was_then(
    book: Book,
) -> None:
    org = await tokens.create_org(book.pool, "Acme", book.clock())
    await book.open(replace(every(1), org_id=org))
    found = await admin.find(book.pool, org)

    await admin.disable(book.pool, found, book.clock.pass_by(minutes=1, seconds=5))
    await admin.enable(book.pool, found, book.clock.pass_by(minutes=2))
    await book.ring(after=MINUTE)

    outcomes = ["ran", "skipped(disabled)", "skipped(disabled)", "ran"]
    assert [outcome for _, outcome in await book.ticks()] == outcomes


# All that a schedule consists of, as one text.
WHOLE = """
SELECT concat(
  to_jsonb(s),
  (SELECT jsonb_agg(v ORDER BY version) FROM schedule_versions v WHERE v.schedule_id = s.id),
  (SELECT jsonb_agg(t ORDER BY scheduled_for) FROM ticks t WHERE t.schedule_id = s.id))
FROM schedules s WHERE s.key = $1
"""


async def test_whatever_changes_a_schedule_leaves_every_other_one_as_it_is(book: Book) -> None:
    quick, slow = every(10), every(15)
    for declared in (quick, slow):  # the tick at 12:10 is superseded ahead
        await edit.register(book.pool, [replace(declared, key="other")], book.clock())
        await book.edit(declared)
    before = await book.pool.fetchval(WHOLE, "other")
    assert "superseded" in before

    await book.edit(quick)  # reopens its own tick at 12:10
    await book.pause()
    await book.resume()
    async with book.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, KEY, book.clock())
    await book.edit(slow)

    assert await book.pool.fetchval(WHOLE, "other") == before
