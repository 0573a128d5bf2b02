"""`why` tells the chain from schedule to outcome in sentences."""

from datetime import timedelta

import pytest

from app.core.enums import RunStatus
from app.core.errors import UnknownJob, UnknownTick
from app.ledger import edit, explain, proof
from app.scheduling.exclusions import Exclusions
from app.store.runs import run_rows
from app.store.runs.attempt_rows import RunEnding
from app.store.schedules import heartbeats
from tests import single_run
from tests.clock import NOON
from tests.ledger.harness import KEY, MINUTE, Book, every


async def explained(book: Book, minutes: float | None = None) -> str:
    at = None if minutes is None else NOON + timedelta(minutes=minutes)
    return "\n".join(await explain.explain(book.pool, KEY, at))


async def test_of_a_tick_that_ran_it_tells_the_run_its_attempts_and_its_end(book: Book) -> None:
    await book.open(every(1))
    (run,) = await book.ring(after=MINUTE)
    claimed = await book.claim(run)
    ending = RunEnding(
        RunStatus.FAILURE, book.clock.pass_by(seconds=9), {}, "blocked", "turned away"
    )
    await single_run.finish(book.pool, claimed, ending)

    said = await explained(book, 1)

    assert "scrape is due every minute (version 1)." in said
    assert "The tick of 2026-09-05 12:01:00.000 UTC was decided at" in said
    assert ": ran." in said
    assert f"It created run {run.run_id}, queued at " in said
    assert "Attempt 1 started at 2026-09-05 12:01:00.000 UTC on worker." in said
    assert "Attempt 1 finished at 2026-09-05 12:01:09.000 UTC on worker: failure." in said
    assert said.endswith("The run is failure: turned away.")


async def test_of_a_skipped_tick_it_names_the_run_that_stood_in_its_way(book: Book) -> None:
    await book.open(every(1))
    (run,) = await book.ring(after=MINUTE)
    await book.claim(run)
    await book.ring(after=MINUTE)

    said = await explained(book, 2)

    assert ": skipped (overlap)." in said
    assert f"Run {run.run_id} was still open and blocked it." in said
    assert "It created run" not in said


async def test_of_a_missed_tick_it_gives_the_reason(book: Book) -> None:
    await book.open(every(5))
    await book.ring(after=timedelta(minutes=8))

    assert ": missed (scheduler_down)." in await explained(book, 5)


async def test_of_a_tick_that_no_worker_could_record_it_says_that_one_lived_on(book: Book) -> None:
    await book.open(every(5))
    await book.beating(NOON - MINUTE, NOON + 2 * MINUTE)
    await book.beating(NOON + 21 * MINUTE, NOON + 22 * MINUTE)
    await book.ring(after=22 * MINUTE)

    said = await explained(book, 15)

    assert ": missed (scheduler_down)." in said
    assert (
        "A worker that was alive before and after sent Postgres no heartbeat from 2026-09-05"
        " 12:02:00.000 UTC to 2026-09-05 12:21:00.000 UTC: it could not reach it, or was suspended."
    ) in said


async def test_of_a_tick_while_no_worker_lived_it_tells_of_none(book: Book) -> None:
    await book.open(every(5))
    await book.beating(NOON - MINUTE, NOON + 2 * MINUTE)
    later = await heartbeats.start_interval(book.pool, "another", NOON + 21 * MINUTE)
    await heartbeats.extend_interval(book.pool, later, NOON + 22 * MINUTE)
    await book.ring(after=22 * MINUTE)

    said = await explained(book, 15)

    assert ": missed (scheduler_down)." in said
    assert "heartbeat" not in said


async def test_of_a_pause_it_says_who_and_why_and_how_many_ticks(book: Book) -> None:
    await book.open(every(1))
    await book.pause(by="ada", note="the site moves house")
    await book.ring_each(60)

    said = await explained(book, 30)

    assert "It is paused since 2026-09-05 12:00:00.000 UTC by ada: the site moves house" in said
    assert (
        "The tick of 2026-09-05 12:30:00.000 UTC is one of 60 from 2026-09-05 12:01:00.000 UTC to"
        " 2026-09-05 13:00:00.000 UTC with the same outcome: skipped (paused)." in said
    )


async def test_of_a_pause_that_is_over_it_says_who_and_why(book: Book) -> None:
    await book.open(every(1))
    await book.pause(by="ada", note="the site moves house")
    await book.ring(after=MINUTE)
    await book.resume()
    await book.ring(after=MINUTE)
    await book.pause(by="eve", note="holidays")
    await book.ring(after=MINUTE)

    assert (
        "It was paused since 2026-09-05 12:00:00.000 UTC by ada: the site moves house"
        in await explained(book, 1)
    )
    assert "ada" not in await explained(book, 2)
    assert "ada" not in await explained(book, 3)


async def test_of_a_tick_before_an_edit_it_tells_the_version_that_named_it(book: Book) -> None:
    await book.open(every(5))
    await book.ring(after=5 * MINUTE)
    book.clock.now += MINUTE
    await book.edit(every(7))
    await book.ring(after=8 * MINUTE)

    said = await explained(book, 5)

    assert "scrape is due every 7 minutes (version 2)." in said
    assert (
        "It is a tick of version 1, due every 5 minutes, in force from 2026-09-05 12:00:00.000 UTC"
        " until 2026-09-05 12:06:00.000 UTC, when it was replaced (edited)." in said
    )
    assert "skipped (superseded)" in await explained(book, 10)
    assert "version 1, due every 5 minutes" in await explained(book, 10)
    assert "version 1" not in await explained(book, 14)


async def test_an_instant_is_no_tick_by_the_version_that_was_in_force_then(book: Book) -> None:
    await book.open(every(5))
    await book.ring(after=10 * MINUTE)
    await book.edit(every(7))
    await book.ring(after=10 * MINUTE)

    with pytest.raises(UnknownTick, match=r"was due then every 5 minutes \(version 1\)"):
        await explained(book, 7)
    with pytest.raises(UnknownTick, match=r"is due every 7 minutes \(version 2\)"):
        await explained(book, 16)
    with pytest.raises(UnknownTick, match="which was created later"):
        await explained(book, -5)


async def test_an_instant_between_two_ticks_of_a_gap_is_no_tick(book: Book) -> None:
    await book.open(every(1))
    await book.pause()
    await book.ring_each(60)

    with pytest.raises(UnknownTick, match="is due every minute"):
        await explained(book, 30.5)


async def test_a_retired_schedule_has_no_tick_to_come(book: Book) -> None:
    await book.open(every(1))
    await book.ring(after=MINUTE)
    async with book.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, KEY, book.clock())

    with pytest.raises(UnknownTick, match="which was retired at 2026-09-05"):
        await explained(book, 7)


async def test_an_instant_between_the_ticks_of_a_gap_is_none_of_the_schedule_as_it_was_then(
    book: Book,
) -> None:
    await book.open(every(2))
    await book.pause()
    await book.ring_each(60, timedelta(minutes=2))
    await book.edit(every(5))

    with pytest.raises(UnknownTick, match=r"was due then every 2 minutes \(version 1\)"):
        await explained(book, 35)
    assert ": skipped (paused)." in await explained(book, 36)


async def test_without_an_instant_it_tells_of_the_newest_tick(book: Book) -> None:
    await book.open(every(1))
    assert "No tick has been decided yet." in await explained(book)
    await book.ring_each(2)

    assert "The tick of 2026-09-05 12:02:00.000 UTC" in await explained(book)


async def test_a_tick_to_come_has_not_been_decided(book: Book) -> None:
    await book.open(every(1))

    assert (await explained(book, 7)).endswith("12:07:00.000 UTC has not been decided yet.")


@pytest.mark.parametrize("minutes", [0.5, 7.5, 7.00001])
async def test_an_instant_never_named_is_none_of_the_schedule_be_it_past_or_to_come(
    book: Book, minutes: float
) -> None:
    await book.open(every(1))
    await book.ring_each(2)

    with pytest.raises(UnknownTick, match=r"is not a tick of \S+, which is due every minute"):
        await explained(book, minutes)


async def test_of_a_schedule_switched_off_it_says_so(book: Book) -> None:
    await book.open(every(1, enabled=False))
    await book.ring(after=MINUTE)

    said = await explained(book)

    assert "It is disabled." in said
    assert ": skipped (disabled)." in said


async def test_of_a_pruned_run_it_says_that_it_was_pruned(book: Book) -> None:
    await book.open(every(1))
    (run,) = await book.ring(after=MINUTE)
    await book.pool.execute("DELETE FROM runs")

    assert f"It created run {run.run_id}, which has been pruned since." in await explained(book)


async def test_for_a_schedule_that_is_not_there_it_lists_those_that_are(book: Book) -> None:
    await book.open(every(1))

    with pytest.raises(UnknownJob, match="'nobody'; known: scrape"):
        await explain.explain(book.pool, "nobody", None)


async def test_of_an_excluded_tick_it_gives_the_reason_and_verify_counts_it(book: Book) -> None:
    await book.open(every(5, exclude=Exclusions.parse(["12:00-12:06"])))
    await book.ring(after=timedelta(minutes=5))
    await book.ring(after=timedelta(minutes=5))

    assert ": skipped (excluded)." in await explained(book, 5)
    assert ": ran." in await explained(book, 10)
    (account,) = await proof.verify(book.pool, book.clock())
    assert (dict(account.skipped), account.ran) == ({"excluded": 1}, 1)


async def test_of_an_excluded_tick_it_names_the_first_rule_or_bound_that_excludes_it(
    book: Book,
) -> None:
    rules = ["sun", "12:00-12:06", "2026-09-05"]
    exclude = Exclusions.parse(rules, "UTC", "2026-09-05T12:03", "2026-09-05")
    await book.open(every(1, exclude=exclude))
    for _ in range(7):
        await book.ring(after=MINUTE)

    assert "It is excluded by 12:00-12:06 (UTC)." in await explained(book, 4)
    assert "It is excluded by 2026-09-05 (UTC)." in await explained(book, 7)


async def test_of_a_disabled_collections_tick_it_says_who_disabled_it(book: Book) -> None:
    await book.open(every(1))
    await book.pool.execute(
        "INSERT INTO schedule_edits (schedule_id, at, by, action, before, after)"
        " SELECT id, $1, 'Acme/console', 'edited', '{\"enabled\": true}', '{\"enabled\": false}'"
        " FROM schedules",
        book.clock(),
    )
    await book.pool.execute("UPDATE schedules SET enabled = false")
    await book.ring(after=MINUTE)

    said = await explained(book)

    assert "It was disabled at 2026-09-05 12:00:00.000 UTC by Acme/console." in said


async def test_of_a_retired_schedule_it_says_when_and_not_that_it_is_disabled(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(2)
    async with book.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, KEY, book.clock())

    said = await explained(book, 1)

    assert "It was retired at 2026-09-05 12:02:00.000 UTC." in said
    assert "It is disabled." not in said


async def test_it_says_up_to_when_every_tick_is_decided(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(2)

    assert "Every tick up to 2026-09-05 12:02:00.000 UTC is decided." in await explained(book)


async def test_of_a_pause_with_an_end_it_says_when_it_ends(book: Book) -> None:
    await book.open(every(1))
    end = NOON + timedelta(hours=1)
    await edit.pause(book.pool, KEY, book.clock(), by="ada", note="moves", until=end)

    assert (
        "It is paused since 2026-09-05 12:00:00.000 UTC until 2026-09-05 13:00:00.000 UTC by ada:"
        " moves" in await explained(book)
    )


async def test_of_an_unreadable_schedule_it_says_what_is_wrong_and_that_ticks_are_held(
    book: Book,
) -> None:
    await book.open(every(1))
    await book.pool.execute('UPDATE schedules SET spec = \'{"cron": "61 * * * *"}\'')

    said = await explained(book, 7)

    assert said.startswith("scrape cannot be read; its ticks are held until it is edited: ")
    assert "is due" not in said
    assert said.endswith("\n2026-09-05 12:07:00.000 UTC has no outcome.")


async def test_up_to_the_pruned_instant_only_counts_are_left(book: Book) -> None:
    await book.open(every(1))
    await book.ring_each(3)
    await book.pool.execute("DELETE FROM ticks")
    through = NOON + timedelta(minutes=2)
    await book.pool.execute("UPDATE schedule_versions SET pruned_through = $1", through)
    pruned = "Ticks up to 2026-09-05 12:02:00.000 UTC were pruned; only their counts are kept"

    assert pruned in await explained(book)
    assert pruned in await explained(book, 2)
    with pytest.raises(UnknownTick):
        await explained(book, 2.5)


async def test_of_an_event_without_a_worker_it_names_none(book: Book) -> None:
    await book.open(every(1))
    (run,) = await book.ring(after=MINUTE)
    queued = book.clock.pass_by(seconds=3)
    await run_rows.requeue(book.pool, [run], queued)
    await book.pool.execute("UPDATE runs SET created_at = $1", queued)

    said = await explained(book, 1)

    assert f"It created run {run.run_id}, queued at 2026-09-05 12:01:03.000 UTC." in said
    assert "Attempt 2 requeued at 2026-09-05 12:01:03.000 UTC: not found in Redis.\n" in said
    assert said.endswith("The run is queued.")


async def test_without_any_schedule_it_says_that_there_is_none_yet(book: Book) -> None:
    with pytest.raises(UnknownJob, match="'nobody'; known: none yet"):
        await explain.explain(book.pool, "nobody", None)
