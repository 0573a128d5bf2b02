"""What a run counted is not lost with its worker, and what is usual is read from good runs only."""

from dataclasses import replace

from app.core.enums import HealthReason, RunStatus
from app.sources.coverage import Coverage
from app.store.db import Pool
from app.store.runs import attempt_rows, baselines, progress
from app.store.runs.attempt_rows import ClaimedRun, RunEnding
from app.store.runs.progress import Counts, SourceProgress
from tests import single_run
from tests.clock import SettableClock
from tests.runs.harness import Desk

COVERED = Coverage(7, {"id": 0, "title": 2})


async def keep(pool: Pool, claimed: ClaimedRun, row: SourceProgress) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await progress.write(connection, claimed, row, {})


async def finished(desk: Desk, row: SourceProgress) -> ClaimedRun:
    """A run that is over, of one source."""
    claimed = await desk.begin()
    await progress.begin(desk.pool, claimed, "toy")
    await keep(desk.pool, claimed, row)
    await single_run.finish(desk.pool, claimed, RunEnding(row.status, desk.clock()))
    return claimed


async def test_the_next_attempt_goes_on_from_what_was_counted_in_finished_partitions(
    pool: Pool, clock: SettableClock
) -> None:
    desk = Desk(pool, clock)
    claimed = await desk.begin()
    row = await progress.begin(pool, claimed, "toy")
    await keep(pool, claimed, replace(row, done=("a",), coverage=COVERED))

    await attempt_rows.release(pool, claimed, clock(), "worker stops")
    again = await progress.begin(pool, await desk.again(claimed.run_id), "toy")

    assert again.coverage == COVERED


async def test_only_good_runs_of_the_same_source_are_what_is_usual(
    pool: Pool, clock: SettableClock
) -> None:
    desk = Desk(pool, clock)
    good = SourceProgress("toy", RunStatus.SUCCESS, counts=Counts(records=7), coverage=COVERED)
    await finished(desk, good)
    await finished(desk, replace(good, status=RunStatus.PARTIAL_FAILURE))
    await finished(desk, replace(good, breach=HealthReason.DRIFT))
    await finished(desk, replace(good, counts=Counts(records=9)))
    clock.pass_by(days=1)

    this = await desk.begin()

    found = await baselines.baselines(pool, this, "toy")
    assert [run.records for run in found] == [9, 7]
    assert found[0].coverage == COVERED
    assert await baselines.baselines(pool, this, "other") == []
