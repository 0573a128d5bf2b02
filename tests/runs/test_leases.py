"""One attempt at a time holds the right to write, and loses it in order."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from uuid import UUID, uuid4

import pytest

from app.core.enums import RunStatus
from app.core.errors import LeaseLost
from app.core.records import OddsEvent
from app.ledger import edit
from app.store.content import odds
from app.store.runs import attempt_rows, progress, run_rows
from app.store.runs.attempt_rows import ClaimedRun, Deferral, RunEnding
from app.store.runs.progress import Counts, SourceProgress
from tests import single_run
from tests.clock import NOON
from tests.ledger.harness import every
from tests.runs.harness import LEASE, Desk

EVENT = OddsEvent("betpawa", "1", None, "Nigeria", "NPFL", None, "Home", "Away", NOON, ())


def success(desk: Desk) -> RunEnding:
    return RunEnding(RunStatus.SUCCESS, desk.clock(), {"pages": 1})


async def test_of_many_claimers_one_gets_the_run(desk: Desk) -> None:
    run_id = await desk.ask()

    claims = await asyncio.gather(*(desk.claim(run_id, f"w{n}") for n in range(8)))

    (claimed,) = [claim for claim in claims if claim is not None]
    assert (claimed.epoch, claimed.attempt) == (1, 1)
    assert await desk.events(run_id) == [("started", 1)]


async def test_what_is_not_queued_cannot_be_claimed(desk: Desk) -> None:
    ended = await desk.begin()
    await single_run.finish(desk.pool, ended, success(desk))

    assert await desk.claim(ended.run_id) is None
    assert await desk.claim(uuid4()) is None


async def test_asking_twice_for_a_run_of_one_id_is_one_run(desk: Desk) -> None:
    run_id = await desk.ask()
    wanted = run_rows.RunRequest(run_id, "other", {}, "test", 3, 240)

    await run_rows.request(desk.pool, wanted, desk.clock())

    assert (await desk.row(run_id))["job"] == "job"


async def test_a_run_that_is_started_at_once_is_as_one_that_was_asked_for_and_claimed(
    desk: Desk,
) -> None:
    wanted = run_rows.RunRequest(uuid4(), "job", {"depth": 2}, "test", 3, 240)
    asked = await desk.again(await desk.ask())

    begun = await single_run.start(desk.pool, wanted, "w1", desk.clock(), LEASE, "other")

    assert begun == replace(asked, run_id=wanted.run_id, params={"depth": 2})
    assert await desk.events(wanted.run_id) == await desk.events(asked)
    own = ("execution_id", "created_at", "params")
    one, other = await desk.row(wanted.run_id), await desk.row(asked)
    assert {k: v for k, v in one.items() if k not in own} == {
        k: v for k, v in other.items() if k not in own
    }
    assert await single_run.start(desk.pool, wanted, "w2", desk.clock(), LEASE, "other") is None


@pytest.mark.parametrize(("attempts", "timeout"), [(1, 0.001), (100, 604_800)])
async def test_a_run_that_is_started_at_once_takes_limits_of_its_schedule_at_the_bounds(
    desk: Desk,
    attempts: int,
    timeout: float,  # noqa: ASYNC109 - the run's
) -> None:
    declared = every(5, max_attempts=attempts, timeout=timeout)
    await edit.register(desk.pool, [declared], desk.clock())
    wanted = run_rows.RunRequest(uuid4(), "job", {}, "test", 3, 240)

    begun = await single_run.start(desk.pool, wanted, "w1", desk.clock(), LEASE, declared.key)

    assert begun is not None
    assert begun.timeout == timeout
    assert (await desk.row(begun))["max_attempts"] == attempts


async def test_a_renewed_lease_does_not_expire(desk: Desk) -> None:
    claimed = await desk.begin()

    for _ in range(4):
        desk.clock.pass_by(seconds=LEASE - 1)
        held = await attempt_rows.renew(
            desk.pool, [(claimed.run_id, claimed.epoch)], desk.clock(), LEASE
        )
        assert held == {(claimed.run_id, claimed.epoch)}
        assert await run_rows.requeue_expired(desk.pool, desk.clock()) == ([], [])


async def test_an_expired_lease_is_taken_up_and_the_old_attempt_is_fenced_off(desk: Desk) -> None:
    dead = await desk.begin()
    desk.clock.pass_by(seconds=LEASE + 1)

    again, lost = await run_rows.requeue_expired(desk.pool, desk.clock())

    assert ([(w.run_id, w.attempt) for w in again], lost) == ([(dead.run_id, 2)], [])
    living = await desk.again(dead.run_id, "w2")
    assert living.epoch > dead.epoch
    held = await attempt_rows.renew(desk.pool, [(dead.run_id, dead.epoch)], desk.clock(), LEASE)
    assert held == set()
    assert not await single_run.finish(desk.pool, dead, success(desk))
    assert await attempt_rows.release(desk.pool, dead, desk.clock(), "stops") is None
    assert (await desk.row(dead))["status"] == "running"
    assert await single_run.finish(desk.pool, living, success(desk))
    assert not await single_run.finish(desk.pool, dead, success(desk))
    assert await desk.events(dead) == [
        ("started", 1),
        ("lost", 1),
        ("started", 2),
        ("finished", 2),
    ]


async def test_a_page_of_a_fenced_attempt_is_refused_with_all_its_rows(desk: Desk) -> None:
    dead = await desk.begin()
    row = await progress.begin(desk.pool, dead, "betpawa")
    desk.clock.pass_by(seconds=LEASE + 1)
    await run_rows.requeue_expired(desk.pool, desk.clock())
    await desk.again(dead.run_id, "w2")

    with pytest.raises(LeaseLost):
        await _page(desk, dead, row)
    with pytest.raises(LeaseLost):
        await progress.begin(desk.pool, dead, "bet9ja")
    with pytest.raises(LeaseLost):
        await progress.restart(desk.pool, dead, {})

    assert await desk.pool.fetchval("SELECT count(*) FROM odds_events") == 0
    assert await desk.pool.fetchval("SELECT pages FROM run_sources") == 0
    assert (await desk.row(dead))["stats"] == {}


async def test_a_page_and_its_counters_are_written_together(desk: Desk) -> None:
    claimed = await desk.begin()
    row = await progress.begin(desk.pool, claimed, "betpawa")

    await _page(desk, claimed, row)
    await _page(desk, claimed, row)

    assert (await desk.row(claimed))["stats"] == {"events_scraped": 2, "pages": 2}


async def _page(desk: Desk, claimed: ClaimedRun, row: SourceProgress) -> None:
    counted = SourceProgress(row.source, counts=Counts(pages=1, records=1))
    async with desk.pool.acquire() as connection, connection.transaction():
        await odds.write(connection, [EVENT], desk.clock(), claimed.run_id)
        await progress.write(connection, claimed, counted, {"events_scraped": 1, "pages": 1})


async def test_a_run_whose_workers_keep_dying_is_lost_in_the_end(desk: Desk) -> None:
    run_id = await desk.ask(max_attempts=2)
    ends: list[tuple[int, int]] = []

    for worker in ("w1", "w2"):
        await desk.again(run_id, worker)
        desk.clock.pass_by(seconds=LEASE + 1)
        again, lost = await run_rows.requeue_expired(desk.pool, desk.clock())
        ends.append((len(again), len(lost)))

    row = await desk.row(run_id)
    assert ends == [(1, 0), (0, 1)]
    assert (row["status"], row["error_type"], row["losses"]) == ("lost", "lost", 2)
    assert row["error_message"] == (
        "worker w2 died or could not renew its lease; no attempts left:"
        " 2 processes did so while they executed this run"
    )
    assert row["completed_at"] == desk.clock()
    assert row["duration_seconds"] == 2 * (LEASE + 1)
    assert await desk.events(run_id) == [
        ("started", 1),
        ("lost", 1),
        ("started", 2),
        ("lost", 2),
    ]


async def test_of_runs_that_lose_their_worker_together_none_loses_an_attempt(desk: Desk) -> None:
    together = [await desk.begin(max_attempts=1) for _ in range(3)]
    desk.clock.pass_by(seconds=LEASE + 1)

    again, lost = await run_rows.requeue_expired(desk.pool, desk.clock())

    rows = [await desk.row(run) for run in together]
    assert (len(again), lost) == (3, [])
    assert {(row["status"], row["losses"], row["suspicions"]) for row in rows} == {("queued", 0, 1)}


@pytest.mark.parametrize(("runs", "apart"), [(3, 2.0), (501, 0.0)], ids=["apart", "many"])
async def test_runs_that_lose_their_worker_are_judged_together(
    desk: Desk, runs: int, apart: float
) -> None:
    together: list[ClaimedRun] = []
    for _ in range(runs):
        together.append(await desk.begin(max_attempts=1))
        desk.clock.pass_by(seconds=apart)
    desk.clock.pass_by(seconds=LEASE - 3 * apart)
    taken: list[UUID] = []

    for _ in range(3):
        desk.clock.pass_by(seconds=LEASE / 6)
        again, lost = await run_rows.requeue_expired(desk.pool, desk.clock(), LEASE)
        assert lost == []
        taken += [run.run_id for run in again]

    assert sorted(taken) == sorted(run.run_id for run in together)
    assert await desk.pool.fetch("SELECT DISTINCT losses, suspicions FROM runs") == [(0, 1)]


async def test_a_run_that_its_living_worker_has_given_up_does_not_wait_for_the_others(
    desk: Desk,
) -> None:
    given_up, other = [await desk.begin() for _ in range(2)]
    for _ in range(3):
        desk.clock.pass_by(seconds=LEASE / 3)
        held = [(other.run_id, other.epoch)]
        await attempt_rows.renew(desk.pool, held, desk.clock(), LEASE)
    desk.clock.pass_by(seconds=LEASE / 4)

    (again,), lost = await run_rows.requeue_expired(desk.pool, desk.clock(), LEASE)

    assert (again.run_id, lost) == (given_up.run_id, [])


async def test_a_suspect_that_dies_alone_has_used_up_its_first_attempt_too(desk: Desk) -> None:
    poison, innocent = [await desk.begin(max_attempts=3) for _ in range(2)]
    ends: list[int] = []

    for _ in range(3):
        desk.clock.pass_by(seconds=LEASE + 1)
        _, lost = await run_rows.requeue_expired(desk.pool, desk.clock())
        ends.append(len(lost))
        if not lost:
            await desk.again(poison.run_id, "alone")

    row = await desk.row(poison)
    assert ends == [0, 0, 1]
    assert row["error_message"] == (
        "worker alone died or could not renew its lease; no attempts left:"
        " 3 processes did so while they executed this run"
    )
    assert (await desk.row(innocent))["status"] == "queued"


async def test_a_suspect_is_only_claimed_by_who_asks_for_suspects(desk: Desk) -> None:
    claimed = await desk.begin()
    desk.clock.pass_by(seconds=LEASE + 1)
    await run_rows.requeue_expired(desk.pool, desk.clock())
    run_id = claimed.run_id

    shared = await single_run.claim(desk.pool, run_id, "w2", desk.clock(), LEASE, suspects=False)

    assert shared is None
    assert await run_rows.is_suspect(desk.pool, run_id)
    assert await desk.claim(run_id, "alone") is not None
    assert not await run_rows.is_suspect(desk.pool, run_id)


async def test_two_sweeps_at_once_take_a_run_up_once(desk: Desk) -> None:
    dead = [await desk.begin() for _ in range(6)]
    desk.clock.pass_by(seconds=LEASE + 1)

    swept = await asyncio.gather(
        *(run_rows.requeue_expired(desk.pool, desk.clock()) for _ in range(4))
    )

    again = [run.run_id for both in swept for run in both[0]]
    assert sorted(again) == sorted(claimed.run_id for claimed in dead)


async def test_a_run_handed_back_is_free_at_once_and_no_loss(desk: Desk) -> None:
    claimed = await desk.begin(max_attempts=1)

    waiting = await attempt_rows.release(desk.pool, claimed, desk.clock(), "worker stops")

    assert waiting == run_rows.QueuedRun(claimed.run_id, "job", 2)
    following = await desk.again(claimed.run_id, "w2")
    assert following.attempt == 2
    assert following.started_at == claimed.started_at
    assert (await desk.row(claimed))["losses"] == 0
    assert await desk.events(claimed) == [("started", 1), ("cancelled", 1), ("started", 2)]


async def test_a_queued_run_that_redis_lost_is_queued_once_more_under_a_new_attempt(
    desk: Desk,
) -> None:
    run_id = await desk.ask()
    (waiting,) = await run_rows.queued_runs(desk.pool, desk.clock() + timedelta(seconds=1))

    requeued = await asyncio.gather(
        *(run_rows.requeue(desk.pool, [waiting], desk.clock()) for _ in range(4))
    )

    assert [run for once in requeued for run in once] == [run_rows.QueuedRun(run_id, "job", 2)]
    assert await run_rows.queued_runs(desk.pool, desk.clock()) == []


async def test_cancelling_ends_what_is_open_and_leaves_what_has_ended(desk: Desk) -> None:
    queued, running, ended = await desk.ask(), await desk.begin(), await desk.begin()
    await single_run.finish(desk.pool, ended, success(desk))

    cancelled = await run_rows.cancel_open(
        desk.pool, [queued, running.run_id, ended.run_id], desk.clock(), by="ada"
    )

    assert set(cancelled) == {queued, running.run_id}
    row = await desk.row(queued)
    assert (row["status"], row["error_message"]) == ("cancelled", "ada")
    assert (await desk.row(ended))["status"] == "success"
    assert not await single_run.finish(desk.pool, running, success(desk))
    assert await desk.claim(queued) is None


async def test_an_old_attempt_that_ends_leaves_the_lease_of_the_new_one(desk: Desk) -> None:
    leases, old = desk.leases(), await desk.begin()
    waits = asyncio.Event()

    async def work(claimed: ClaimedRun) -> None:
        leases.hold(claimed, asyncio.timeout(1))
        await waits.wait()

    first = asyncio.create_task(work(old))
    await asyncio.sleep(0)
    await run_rows.requeue_expired(desk.pool, desk.clock() + timedelta(seconds=LEASE + 1))
    new = await desk.again(old.run_id)
    second = asyncio.create_task(work(new))
    await asyncio.wait([first])

    gone = leases.release(old)

    assert first.cancelled()
    assert gone
    assert not leases.lost
    assert list(leases.held) == list(leases.limits) == [(new.run_id, new.epoch)]
    waits.set()
    await second


async def two_queued(
    desk: Desk, *, first_by_hand: bool = False, overlap: str = "queue_one"
) -> tuple[UUID, UUID]:
    """Two runs of a schedule, a minute apart. Its policy is to queue one, unless told otherwise."""
    first, second = await desk.ask(), await desk.ask()
    schedule = await desk.pool.fetchval(
        "INSERT INTO schedules (key, job, spec, policies, version, effective_from, enabled,"
        " evaluated_through) VALUES ($2, 'j', '{}', $3, 1, $1, true, $1) RETURNING id",
        NOON,
        f"queues {first}",
        {"overlap": overlap},
    )
    for minute, run_id in enumerate((first, second)):
        await desk.pool.execute(
            "UPDATE runs SET schedule_id = $1, scheduled_for = $2, created_at = $2"
            " WHERE execution_id = $3",
            schedule,
            NOON + timedelta(minutes=minute),
            run_id,
        )
    if first_by_hand:
        await desk.pool.execute(
            "UPDATE runs SET scheduled_for = NULL WHERE execution_id = $1", first
        )
    return first, second


async def test_a_tick_does_not_wait_for_a_run_by_hand_that_is_for_later(desk: Desk) -> None:
    first, second = await two_queued(desk, first_by_hand=True)
    await desk.pool.execute(
        "UPDATE runs SET not_before = $1 WHERE execution_id = $2", NOON + timedelta(days=7), first
    )

    waiting = await run_rows.queued_runs(desk.pool, NOON + timedelta(hours=1))

    assert [run.run_id for run in waiting] == [second]
    assert await desk.claim(second) is not None


@pytest.mark.parametrize("manual", [False, True], ids=["ticks", "a run by hand and a tick"])
async def test_runs_that_a_schedule_queues_behind_each_other_go_one_at_a_time(
    desk: Desk, manual: bool
) -> None:
    first, second = await two_queued(desk, first_by_hand=manual)

    waiting = await run_rows.queued_runs(desk.pool, NOON + timedelta(hours=1))
    early = await desk.claim(second)
    claimed = await desk.claim(first)
    beside = await desk.claim(second)
    assert claimed is not None
    await single_run.finish(desk.pool, claimed, success(desk))
    after = await desk.claim(second)

    assert [run.run_id for run in waiting] == [first]
    assert early is None
    assert beside is None
    assert after is not None


async def test_runs_of_another_schedule_hold_none_up(desk: Desk) -> None:
    first, _ = await two_queued(desk)
    other, _ = await two_queued(desk)
    await desk.again(first)

    waiting = await run_rows.queued_runs(desk.pool, NOON + timedelta(hours=1))

    assert [run.run_id for run in waiting] == [other]
    assert await desk.claim(other) is not None


async def test_runs_that_a_schedule_lets_overlap_wait_for_none(desk: Desk) -> None:
    first, second = await two_queued(desk, overlap="allow")

    waiting = await run_rows.queued_runs(desk.pool, NOON + timedelta(hours=1))

    assert {run.run_id for run in waiting} == {first, second}
    assert await desk.claim(second) is not None
    assert await desk.claim(first) is not None


async def test_a_run_that_was_put_off_is_for_no_later_instant_once_it_is_claimed(
    desk: Desk,
) -> None:
    claimed = await desk.begin()
    until = desk.clock() + timedelta(minutes=1)
    deferral = Deferral(until, (), "the site asked for a pause")
    await attempt_rows.defer(desk.pool, claimed, desk.clock(), deferral)

    early = await desk.claim(claimed.run_id)
    desk.clock.pass_by(minutes=1)
    await desk.again(claimed.run_id)

    assert early is None
    assert (await desk.row(claimed))["not_before"] is None


async def test_a_run_that_is_queued_again_keeps_its_sources_open(desk: Desk) -> None:
    claimed = await desk.begin()
    await progress.begin(desk.pool, claimed, "open")

    await run_rows.requeue_expired(desk.pool, desk.clock() + timedelta(seconds=LEASE + 1))

    assert (await desk.row(claimed))["status"] == "queued"
    assert await desk.pool.fetchval("SELECT status FROM run_sources") == "running"


@pytest.mark.parametrize("ended", ["lost", "failure", "cancelled"])
async def test_the_end_of_a_run_ends_its_open_sources_and_leaves_the_others(
    desk: Desk, ended: str
) -> None:
    claimed = await desk.begin(max_attempts=1)
    other = await desk.again(await desk.ask(), "w2")
    for source in ("done", "open"):
        await progress.begin(desk.pool, claimed, source)
    await progress.begin(desk.pool, other, "other")
    await desk.pool.execute("UPDATE run_sources SET status = 'success' WHERE source = 'done'")

    if ended == "lost":
        later = desk.clock() + timedelta(seconds=LEASE + 1)
        await attempt_rows.renew(desk.pool, [(other.run_id, other.epoch)], later, LEASE)
        await run_rows.requeue_expired(desk.pool, later)
    elif ended == "cancelled":
        await run_rows.cancel_open(desk.pool, [claimed.run_id], desk.clock(), by="ada")
    else:
        ending = RunEnding(RunStatus.FAILURE, desk.clock())
        assert await single_run.finish(desk.pool, claimed, ending)

    rows = await desk.pool.fetch("SELECT source, status FROM run_sources ORDER BY source")
    assert [tuple(row) for row in rows] == [
        ("done", "success"),
        ("open", ended),
        ("other", "running"),
    ]
