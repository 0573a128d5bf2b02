"""Counters: each outcome once, with several workers, after restarts, and after pruning."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import uuid4

from app.core.enums import RunStatus
from app.health.metrics import read
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool, open_pool
from app.store.reports import metrics
from app.store.reports.metrics import MetricTotal
from app.store.runs import attempt_rows, progress, run_rows
from app.store.runs.attempt_rows import RunEnding
from app.store.runs.progress import Counts, SourceProgress
from tests import single_run
from tests.clock import NOON, SettableClock
from tests.dispatch import orgs
from tests.ledger.harness import MINUTE, Book, every
from tests.runs.harness import LEASE, Desk


def value(totals: Sequence[MetricTotal], *labels: str) -> float:
    known = {(t.name, t.first, t.second, t.third): t.value for t in totals}
    name, first, second, third = (*labels, "", "", "")[:4]
    return known.get((name, first, second, third), 0)


async def counted(pool: Pool) -> list[MetricTotal]:
    await metrics.fold(pool)
    return await metrics.totals(pool)


async def ended(desk: Desk, status: RunStatus, seconds: float = 2.0) -> None:
    claimed = await desk.begin()
    desk.clock.now += timedelta(seconds=seconds)
    await single_run.finish(desk.pool, claimed, RunEnding(status, desk.clock()))


async def test_a_run_that_ended_is_counted_once_however_often_it_is_looked_at(
    pool: Pool, clock: SettableClock
) -> None:
    desk = Desk(pool, clock)
    await ended(desk, RunStatus.SUCCESS)
    await ended(desk, RunStatus.FAILURE, seconds=0.5)

    await counted(pool)
    totals = await counted(pool)

    assert value(totals, "runs", "job", "success") == value(totals, "runs", "job", "failure") == 1
    assert value(totals, "duration_sum", "job") == 2.5
    assert value(totals, "duration", "job", "0") == value(totals, "duration", "job", "2") == 1


async def test_a_run_handed_back_is_not_counted_and_a_lost_one_is(
    pool: Pool, clock: SettableClock
) -> None:
    desk = Desk(pool, clock)
    back = await desk.begin()
    await attempt_rows.release(pool, back, clock(), "worker stops")
    await desk.begin(max_attempts=1)
    clock.now += timedelta(seconds=LEASE + 1)
    await run_rows.requeue_expired(pool, clock())

    totals = await counted(pool)

    assert {(t.second, t.value) for t in totals if t.name == "runs"} == {("lost", 1)}


async def test_two_workers_and_ten_scrapes_at_once_count_each_run_once(
    pool: Pool, dsn: str, clock: SettableClock
) -> None:
    other = await open_pool(dsn, size=4)
    desks = [Desk(pool, clock), Desk(other, clock)]

    async def work(desk: Desk) -> None:
        for _ in range(20):
            await ended(desk, RunStatus.SUCCESS, seconds=0)
            await metrics.fold(desk.pool)

    await asyncio.gather(*map(work, desks), *(counted(pool) for _ in range(10)))
    other.terminate()

    assert value(await counted(pool), "runs", "job", "success") == 40


async def test_pruning_the_runs_takes_nothing_off_the_counters(
    pool: Pool, clock: SettableClock
) -> None:
    await ended(Desk(pool, clock), RunStatus.SUCCESS)
    before = await counted(pool)

    await pool.execute("DELETE FROM runs")

    assert await counted(pool) == before


async def test_a_source_is_counted_when_its_run_ends_with_its_requests_by_class(
    pool: Pool, clock: SettableClock
) -> None:
    desk = Desk(pool, clock)
    claimed = await desk.begin()
    row = await progress.begin(pool, claimed, "betpawa")
    row = SourceProgress(
        row.source,
        counts=Counts(inserted=5, changed=2, rejected=1),
        requests=10,
        throttled_ms=1500,
        classes={"2xx": 7, "429": 2},
    )
    async with pool.acquire() as connection, connection.transaction():
        await progress.write(connection, claimed, row, {})
    assert not [t for t in await counted(pool) if t.name == "records"]

    await single_run.finish(pool, claimed, RunEnding(RunStatus.SUCCESS, clock()))
    totals = await counted(pool)

    assert value(totals, "records", "betpawa", "inserted") == 5
    assert value(totals, "records", "betpawa", "rejected") == 1
    assert value(totals, "throttled", "betpawa") == 1.5
    assert [value(totals, "requests", "betpawa", c) for c in ("2xx", "429", "other")] == [7, 2, 1]


async def test_what_organisations_call_their_own_sources_is_told_to_nobody(
    pool: Pool, clock: SettableClock
) -> None:
    claimed = await Desk(pool, clock).begin()
    for name in ("recipe:our_rival", "recipe:our_client", "betpawa"):
        row = SourceProgress((await progress.begin(pool, claimed, name)).source, requests=3)
        async with pool.acquire() as connection, connection.transaction():
            await progress.write(connection, claimed, row, {})

    await single_run.finish(pool, claimed, RunEnding(RunStatus.SUCCESS, clock()))
    totals = await counted(pool)

    assert {t.first for t in totals if t.name == "throttled"} == {"recipe", "betpawa"}
    assert value(totals, "requests", "recipe", "other") == 6


async def test_more_sources_than_there_may_be_are_counted_together(
    pool: Pool, clock: SettableClock
) -> None:
    desk = Desk(pool, clock)
    for batch in range(2):
        claimed = await desk.begin()
        for number in range(80):
            await progress.begin(pool, claimed, f"source{batch}-{number}")
        await single_run.finish(pool, claimed, RunEnding(RunStatus.SUCCESS, clock()))
        await metrics.fold(pool)
    claimed = await desk.begin()
    await progress.begin(pool, claimed, uuid4().hex)
    await single_run.finish(pool, claimed, RunEnding(RunStatus.SUCCESS, clock()))

    sources = {t.first for t in await counted(pool) if t.name == "throttled"}

    assert "other" in sources
    assert len(sources) == 101


async def test_ticks_are_counted_by_outcome_and_not_again_when_they_are_compressed(
    pool: Pool, clock: SettableClock
) -> None:
    book = Book(pool, clock)
    await book.open(every(1))
    await book.pause()
    for _ in range(120):
        await book.ring(after=MINUTE)

    totals = await counted(pool)

    assert await book.gaps() == [("skipped(paused)", 120)]
    assert value(totals, "ticks", "scrape", "skipped", "paused") == 120


async def test_a_long_outage_is_counted_tick_by_tick(pool: Pool, clock: SettableClock) -> None:
    book = Book(pool, clock)
    await book.open(every(1 / 60))
    await book.ring(after=timedelta(hours=1))

    totals = await counted(pool)

    assert sum(t.value for t in totals if t.name == "ticks") == 3600


async def test_a_plan_for_nothing_waiting_is_not_kept_for_a_batch(dsn: str, pool: Pool) -> None:
    await pool.execute("VACUUM ANALYZE metric_pending")
    planning = await open_pool(dsn, size=1, statement_limit=10, plan_once=True)
    try:
        assert await metrics.fold(planning) == 0
        await pool.execute(
            "INSERT INTO metric_pending (job, outcome, count)"
            " SELECT 'scrape', 'ran', 1 FROM generate_series(1, $1)",
            metrics.BATCH,
        )

        assert await metrics.fold(planning) == metrics.BATCH
    finally:
        await planning.close()


async def test_runs_and_ticks_of_a_recipe_are_counted_under_the_name_of_its_schedule(
    pool: Pool,
) -> None:
    schedule_id = await pool.fetchval(
        "INSERT INTO schedules (key, job, spec, policies, params, version, effective_from,"
        " evaluated_through, created_at, enabled) VALUES ('source:books', 'source', '{}', '{}',"
        " '{}', 1, now(), now(), now(), true) RETURNING id"
    )
    run_id = uuid4()
    request = run_rows.RunRequest(run_id, "source", {"source": "books"}, "ada", 3, 60)
    await run_rows.request(pool, request, NOON)
    await pool.execute(
        "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)"
        " VALUES ($1, now(), 1, 'skipped', 'paused', now())",
        schedule_id,
    )
    await run_rows.cancel_open(pool, [run_id], NOON, by="ada")

    totals = await counted(pool)

    assert value(totals, "runs", "source:books", "cancelled") == 1
    assert value(totals, "ticks", "source:books", "skipped", "paused") == 1
    assert not [total for total in totals if total.first == "source"]


async def test_a_run_of_another_task_that_has_a_source_is_counted_under_its_own_name(
    pool: Pool,
) -> None:
    run_id = uuid4()
    request = run_rows.RunRequest(run_id, "export", {"source": "books"}, "ada", 3, 60)
    await run_rows.request(pool, request, NOON)
    await run_rows.cancel_open(pool, [run_id], NOON, by="ada")

    totals = await counted(pool)

    trends = await pool.fetch("SELECT DISTINCT name FROM trends WHERE kind = 'job'")
    assert value(totals, "runs", "export", "cancelled") == 1
    assert [row["name"] for row in trends] == ["export"]


async def test_a_collection_that_cannot_be_read_is_counted_and_is_no_lag_of_the_dispatch(
    pool: Pool,
) -> None:
    now: datetime = await pool.fetchval("SELECT now()")
    await orgs.found(pool, now, [Schedule.every(3600)] * 3, Policies())
    for number, hours in enumerate((9, 2, -1)):
        due = now - timedelta(hours=hours)
        await pool.execute("UPDATE schedules SET due_at = $2 WHERE key = $1", orgs.key(number), due)
    await pool.execute("UPDATE schedules SET spec = $2 WHERE key = $1", orgs.key(0), {"cron": "x"})

    _, backlog = await read.read_totals(pool)

    assert backlog.held == 1
    assert 7200 <= backlog.collections_lag < 9000


async def test_a_run_for_later_is_as_old_in_the_queue_as_it_has_been_due(pool: Pool) -> None:
    request = run_rows.RunRequest(uuid4(), "job", {}, "ada", 3, 60)
    await run_rows.request(pool, request, NOON)
    await pool.execute(
        "UPDATE runs SET queued_at = now() - interval '6 hours',"
        " not_before = now() - interval '10 seconds'"
    )

    backlog = await metrics.queue_backlog(pool)

    assert (backlog.jobs, 10 <= backlog.jobs_age < 600) == (1, True)
