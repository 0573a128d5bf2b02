"""Dispatch: what is due is decided, enqueued, enqueued again, and admitted."""

import asyncio
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.core.enums import COLLECTION_TASK, RunStatus
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.queue import org_queue
from app.queue.cron import utc_now
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import TRANSIENT, Pool, open_pool
from tests import single_run, worker_harness
from tests.dispatch import orgs
from tests.store.plans import rows_scanned
from tests.wait import until
from workers import sweep
from workers.dispatch import dispatch, dispatch_state
from workers.trigger import trigger_schedule

HOUR = timedelta(hours=1)
CALM = Policies(misfire_grace=HOUR)
EACH_MINUTE = Schedule.cron("* * * * *")


@pytest.fixture
async def ctx(context: WorkerContext) -> dict[str, Any]:
    """A worker's context, in which nobody works: runs stay where they are put."""
    return worker_harness.ctx_of(context) | {"known_jobs": [COLLECTION_TASK], "slots": 4}


async def due_now(context: WorkerContext, count: int) -> None:
    minute = context.clock().replace(second=0, microsecond=0)
    await orgs.found(context.pool, minute - timedelta(minutes=1), [EACH_MINUTE] * count, CALM)


async def statuses(pool: Pool) -> dict[tuple[str, int], int]:
    rows = await pool.fetch("SELECT status, attempt, count(*) FROM runs GROUP BY 1, 2")
    return {(row[0], row[1]): row[2] for row in rows}


async def in_arq(redis: ArqRedis) -> int:
    return int(await redis.zcard(redis.default_queue_name))


async def test_all_that_are_due_wait_in_line_and_a_few_are_let_in(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 1_200)
    await org_queue.announce_slots(context.redis, context.worker, 4, 60)

    await dispatch(ctx)

    assert await statuses(context.pool) == {("queued", 1): 1_200}
    assert (await in_arq(context.redis), await org_queue.length(context.redis)) == (4, 1_196)


async def test_runs_are_claimed_by_their_key_though_none_was_open_when_they_were_analysed(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 2_500)
    await orgs.add_runs(context.pool, context.clock() - HOUR, RunStatus.SUCCESS)
    await context.pool.execute("VACUUM ANALYZE runs, schedules")

    await dispatch(ctx)

    run_id = await context.pool.fetchval("SELECT execution_id FROM runs WHERE status = 'queued'")
    now = context.clock()
    scanned = await rows_scanned(
        context.pool,
        lambda c: single_run.claim(cast("Any", c), run_id, "w", now, 15),
        {"runs"},
    )
    assert 1 <= max(scanned) <= 2, scanned


async def test_a_batch_makes_way_for_the_start_of_a_built_in_job(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 3)
    start = utc_now() + timedelta(seconds=0.05)
    dispatch_state(ctx).starts.expect(start)

    await dispatch(ctx)

    assert await context.pool.fetchval("SELECT count(*) FROM runs WHERE status = 'queued'") == 3
    assert await context.pool.fetchval("SELECT min(queued_at) FROM runs") >= start


async def test_what_a_worker_cannot_do_it_does_not_decide(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 3)

    await dispatch(ctx | {"known_jobs": ["scrape_all_platforms"]})

    assert await statuses(context.pool) == {}


async def test_runs_that_wait_in_line_are_not_told_again(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 50)
    await dispatch(ctx)
    await aged(context.pool)

    await sweep.requeue_lost_org_runs(context)

    assert await statuses(context.pool) == {("queued", 1): 50}


async def test_when_redis_was_emptied_all_are_told_again(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 2_500)
    await dispatch(ctx)
    await aged(context.pool)
    await cast("Any", context.redis).execute_command("FLUSHDB")

    with capture_logs() as logs:
        await sweep.requeue_lost_org_runs(context)

    assert await statuses(context.pool) == {("queued", 2): 2_500}
    assert await org_queue.length(context.redis) == 2_500
    single = [line for line in logs if line["event"] == "run.requeued"]
    together = [line["count"] for line in logs if line["event"] == "runs.requeued"]
    assert (len(single), together) == (2 * sweep.MAX_LOGGED_RUNS, [2_000, 500])


async def test_one_that_was_lost_far_behind_in_line_is_found(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 300)
    await dispatch(ctx)
    await aged(context.pool)
    last = await context.pool.fetchval(
        "SELECT execution_id FROM runs ORDER BY queued_at DESC, execution_id DESC LIMIT 1"
    )
    await cast("Any", context.redis).zrem(org_queue.ORG_QUEUE, f"run:{last}:1")
    page = sweep.QueuedRunsPage(sweep.FIRST_PAGE.at, sweep.FIRST_PAGE.run_id, limit=100)

    for _ in range(3):
        assert (await worker_harness.run_row(context.pool, last))["attempt"] == 1
        page = await sweep.requeue_lost_org_runs(context, None, page, pages=1)

    assert (await worker_harness.run_row(context.pool, last))["attempt"] == 2
    assert await statuses(context.pool) == {("queued", 1): 299, ("queued", 2): 1}


async def test_an_unreadable_schedule_is_not_found_again_ahead_of_others(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 600)
    await context.pool.execute(
        """UPDATE schedules SET spec = '{"cron": "rubbish"}', due_at = due_at - interval '1 day'
           WHERE key <> $1""",
        orgs.key(0),
    )

    await dispatch(ctx)

    assert await statuses(context.pool) == {("queued", 1): 1}


async def test_a_schedule_edited_while_it_is_due_is_decided_by_one_wording_only(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await due_now(context, 1)
    now = context.clock()
    rare = DeclaredSchedule(orgs.key(0), COLLECTION_TASK, Schedule.cron("0 0 1 1 *"), CALM)

    queued = await edit.edit(context.pool, rare, now)
    await dispatch(ctx)

    books = await orgs.books(context.pool)
    assert len(queued) == 1
    outcomes = [(row["outcome"], row["reason"]) for row in books["ticks"]]
    assert outcomes[0] == ("ran", None)
    assert set(outcomes[1:]) <= {("skipped", "superseded")}
    assert len(books["runs"]) == 1


async def aged(pool: Pool) -> None:
    """As if all runs had been queued a while ago."""
    await pool.execute("UPDATE runs SET queued_at = queued_at - interval '1 minute'")


@pytest.mark.parametrize("count", [0, 3], ids=["a job", "collections"])
async def test_what_cannot_be_written_for_a_moment_is_decided_by_the_next_dispatch(
    context: WorkerContext, ctx: dict[str, Any], dsn: str, count: int
) -> None:
    await due_now(context, count)
    if count == 0:
        job = DeclaredSchedule("job", "job", EACH_MINUTE, CALM)
        await edit.edit(context.pool, job, context.clock() - timedelta(minutes=2))
    ctx["known_jobs"] = [COLLECTION_TASK, "job"]
    own, context.control = context.control, await open_pool(dsn, size=1)
    try:
        await context.control.execute("SET default_transaction_read_only = on")
        with suppress(*TRANSIENT):
            await dispatch(ctx)
        undecided = await statuses(context.pool)
        await context.control.execute("SET default_transaction_read_only = off")
        await dispatch(ctx)
    finally:
        context.control.terminate()
        context.control = own

    assert undecided == {}
    assert await statuses(context.pool) == {("queued", 1): max(count, 1)}


async def test_a_schedule_that_another_session_holds_does_not_delay_the_others(
    context: WorkerContext, ctx: dict[str, Any], dsn: str
) -> None:
    minute = context.clock().replace(second=0, microsecond=0)
    for key in ("held", "other"):
        job = DeclaredSchedule(key, "job", EACH_MINUTE, CALM)
        await edit.edit(context.pool, job, minute - timedelta(minutes=1))
    ctx |= {"known_jobs": ["job"], "deciding": set[str]()}
    own, context.control = context.control, await open_pool(dsn, size=3, lock_wait=30)
    try:
        async with context.pool.acquire() as session, session.transaction():
            await session.execute("SELECT FROM schedules WHERE key = 'held' FOR UPDATE")
            steps = [lambda: trigger_schedule(ctx, "held", minute), lambda: dispatch(ctx)]
            held_up = [asyncio.create_task(step()) for _ in range(5) for step in steps]
            await until(
                lambda: (
                    (context.control.get_size() == 3 and context.control.get_idle_size() == 0)
                    or sum(step.done() for step in held_up) == len(held_up) - 1
                )
            )
            async with asyncio.timeout(20):
                await trigger_schedule(ctx, "other", minute)
            during = await context.pool.fetch(
                "SELECT DISTINCT key FROM ticks JOIN schedules s ON s.id = schedule_id"
            )
        await asyncio.gather(*held_up)
    finally:
        context.control.terminate()
        context.control = own

    assert [row["key"] for row in during] == ["other"]
    assert await context.pool.fetchval("SELECT count(DISTINCT schedule_id) FROM ticks") == 2
