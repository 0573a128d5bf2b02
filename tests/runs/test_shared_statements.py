"""Runs that are claimed, or that end, at the same time share a statement, and nothing else."""

import asyncio
import math
from uuid import UUID, uuid4

import asyncpg
import pytest

from app.core.enums import RunStatus
from app.runs import attempts
from app.runs.attempts import AttemptOutcome
from app.runs.leases import Leases
from app.store.db import Pool
from app.store.runs import attempt_rows
from app.store.runs.attempt_rows import ClaimedRun, RunEnding
from app.store.runs.run_rows import RunRequest
from tests.runs.harness import LEASE, Desk, UnheardPool


async def _claimed(leases: Leases, run_ids: list[UUID]) -> list[ClaimedRun | None]:
    return await asyncio.gather(*(attempts.claim(leases, run_id, "w1") for run_id in run_ids))


async def _ended(leases: Leases, claimed: ClaimedRun, result: object = None) -> AttemptOutcome:
    async with attempts.attempt(leases, claimed) as outcome:
        outcome.status, outcome.stats = RunStatus.SUCCESS, {"result": result}
    return outcome


async def test_runs_claimed_together_are_each_claimed_once(desk: Desk) -> None:
    run_ids = [await desk.ask() for _ in range(20)]
    leases = desk.leases()

    claimed = await _claimed(leases, [*run_ids, *run_ids, uuid4()])

    assert [run.run_id if run else None for run in claimed] == [*run_ids, *[None] * 21]
    for run_id in run_ids:
        assert await desk.events(run_id) == [("started", 1)]


async def test_a_manual_run_delivered_twice_at_once_is_started_once(desk: Desk) -> None:
    request = RunRequest(uuid4(), "job", {"n": 1}, "queue", 3, 60)
    other = RunRequest(uuid4(), "job", {"n": 2}, "queue", 3, 60)
    leases = desk.leases()

    started = await asyncio.gather(
        *(attempts.start(leases, each, "w1", "job") for each in (request, request, other))
    )

    assert [run.params if run else None for run in started] == [{"n": 1}, None, {"n": 2}]


async def test_runs_that_end_together_are_each_recorded_with_their_own_outcome(desk: Desk) -> None:
    leases = desk.leases()
    runs = [await desk.begin() for _ in range(20)]

    outcomes = await asyncio.gather(*(_ended(leases, run, n) for n, run in enumerate(runs)))

    assert not any(outcome.fenced for outcome in outcomes)
    for n, run in enumerate(runs):
        row = await desk.row(run)
        assert (row["status"], row["stats"]) == ("success", {"result": n})
        assert await desk.events(run) == [("started", 1), ("finished", 1)]


async def test_of_two_outcomes_of_one_attempt_at_the_same_time_one_is_recorded(desk: Desk) -> None:
    run = await desk.begin()
    endings = [
        (run, RunEnding(status, desk.clock(), {"status": status.value}))
        for status in (RunStatus.SUCCESS, RunStatus.TIMED_OUT)
    ]

    recorded = await attempt_rows.finish_all(desk.pool, endings)

    row = await desk.row(run)
    assert recorded == [row["status"] == "success", row["status"] == "timed_out"]
    assert row["stats"] == {"status": row["status"]}
    assert await desk.events(run) == [("started", 1), ("finished", 1)]


@pytest.mark.parametrize("result", [math.nan, "\0", object()], ids=["NaN", "NUL", "object"])
async def test_an_outcome_that_cannot_be_recorded_leaves_those_beside_it_alone(
    desk: Desk, result: object
) -> None:
    leases = desk.leases()
    good, bad, also_good = [await desk.begin() for _ in range(3)]

    await asyncio.gather(
        _ended(leases, good), _ended(leases, bad, result), _ended(leases, also_good)
    )

    rows = [await desk.row(run) for run in (good, bad, also_good)]
    assert [(row["status"], row["attempt"]) for row in rows] == [
        ("success", 1),
        ("failure", 1),
        ("success", 1),
    ]


async def test_a_row_that_another_session_has_locked_holds_up_no_later_outcome(
    desk: Desk, pool: Pool
) -> None:
    leases = desk.leases()
    locked, together, later = [await desk.begin() for _ in range(3)]
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "SELECT FROM runs WHERE execution_id = $1 FOR UPDATE", locked.run_id
        )
        held_up = asyncio.ensure_future(
            asyncio.gather(_ended(leases, locked), _ended(leases, together))
        )
        async with asyncio.timeout(5):
            await _ended(leases, later)
        assert not held_up.done()
    await held_up

    assert {(await desk.row(run))["status"] for run in (locked, together, later)} == {"success"}


async def test_outcomes_whose_answer_was_lost_are_recorded_once(desk: Desk) -> None:
    runs = [await desk.begin() for _ in range(5)]
    leases = Leases(UnheardPool(desk.pool), desk.clock, LEASE)  # pyright: ignore[reportArgumentType]

    outcomes = await asyncio.gather(*(_ended(leases, run) for run in runs))

    assert not any(outcome.fenced for outcome in outcomes)
    for run in runs:
        assert await desk.events(run) == [("started", 1), ("finished", 1)]


async def test_claims_whose_answer_was_lost_are_all_queued_again(desk: Desk) -> None:
    run_ids = [await desk.ask() for _ in range(5)]
    leases = Leases(UnheardPool(desk.pool), desk.clock, LEASE)  # pyright: ignore[reportArgumentType]

    claims = await asyncio.gather(
        *(attempts.claim(leases, run_id, "w1") for run_id in run_ids), return_exceptions=True
    )
    await leases.hand_back_unheard()

    assert {type(claim) for claim in claims} == {asyncpg.ConnectionDoesNotExistError}
    assert [(await desk.row(run_id))["status"] for run_id in run_ids] == ["queued"] * 5


async def test_claims_and_outcomes_find_runs_by_their_ids_and_not_among_all_open_ones(
    pool: Pool,
) -> None:
    """A plan made when no run was open is kept while a hundred thousand are queued."""
    async with pool.acquire() as connection:
        await connection.execute("SET plan_cache_mode = force_generic_plan")
        # A table of one page, as other tests may leave it, is cheaper to read whole.
        await connection.execute("SET enable_seqscan = off")
        await connection.execute(f"PREPARE claims AS {attempt_rows.CLAIM}")
        await connection.execute(f"PREPARE outcomes AS {attempt_rows.FINISH}")
        claim = await connection.fetch("EXPLAIN EXECUTE claims ('{}', '{}', '{}', '{}', 15)")
        outcome = await connection.fetch(
            "EXPLAIN EXECUTE outcomes ('{}', '{}', '{}', '{}', '{}', '{}', '{}')"
        )
        await connection.execute("DEALLOCATE ALL; RESET plan_cache_mode; RESET enable_seqscan")

    for plan in (claim, outcome):
        text = "\n".join(line[0] for line in plan)
        assert "runs_pkey on runs" in text
        assert "runs_waiting" not in text
        assert "runs_leases" not in text
