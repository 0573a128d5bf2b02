"""A sweep takes up what a dead worker, an emptied Redis or a missed trigger has left."""

from datetime import datetime, timedelta
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.control import Heartbeat
from app.core.enums import COLLECTION_TASK
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.queue import org_queue
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from tests import single_run, worker_harness
from tests.dispatch import orgs
from tests.wait import until
from workers import sweep
from workers.dispatch import dispatch, dispatch_state

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
CALM = Policies(misfire_grace=2 * HOUR)


@pytest.fixture
def ctx(context: WorkerContext) -> dict[str, Any]:
    """A worker's context, in which nobody works: runs stay where they are put."""
    return worker_harness.ctx_of(context) | {"known_jobs": ["job", COLLECTION_TASK], "slots": 4}


async def enqueued(context: WorkerContext) -> set[str]:
    """The ids of the jobs in arq's queue."""
    found = await cast("Any", context.redis).zrange(context.redis.default_queue_name, 0, -1)
    return {name.decode() for name in found}


async def request(context: WorkerContext, at: datetime) -> UUID:
    """Queue a run of a built-in job in Postgres only."""
    run_id = uuid4()
    await run_rows.request(context.pool, RunRequest(run_id, "job", {}, "test", 3, 240), at)
    return run_id


async def register(context: WorkerContext, since: datetime) -> None:
    """A schedule that is due each minute and may be late by hours, from `since` on."""
    schedule = Schedule.every(60, anchor=since, name="scrape")
    declared = DeclaredSchedule("scrape", "job", schedule, CALM)
    await edit.register(context.pool, [declared], since)


async def test_it_queues_a_run_again_whose_lease_expired(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    before = context.clock() - MINUTE
    run_id = await request(context, before)
    await single_run.claim(context.pool, run_id, "dead", before, lease=15)

    await sweep.sweep(ctx)

    assert (await worker_harness.run_row(context.pool, run_id))["status"] == "queued"
    assert await enqueued(context) == {f"run:{run_id}:2"}


async def test_after_an_interruption_the_living_have_a_lease_to_renew_theirs(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    lease = timedelta(seconds=1)
    context.heartbeat = Heartbeat(context.control, context.clock, "w", lease)
    await context.heartbeat.beat()
    run_id = await request(context, context.clock() - MINUTE)
    await single_run.claim(context.pool, run_id, "w", context.clock(), lease.total_seconds())

    async def expired() -> bool:  # as after an outage of Postgres, or a jump of its clock
        row = await worker_harness.run_row(context.pool, run_id)
        return row["lease_expires_at"] < context.clock()

    await until(expired, 30)
    await context.heartbeat.beat()

    await sweep.sweep(ctx)

    assert (await worker_harness.run_row(context.pool, run_id))["status"] == "running"

    async def taken_over() -> bool:  # nobody has renewed it: its worker is dead
        await context.heartbeat.beat()
        await sweep.sweep(ctx)
        return (await worker_harness.run_row(context.pool, run_id))["status"] != "running"

    await until(taken_over, 30)


async def test_it_queues_a_run_again_that_redis_has_lost(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    run_id = await request(context, context.clock() - MINUTE)

    await sweep.sweep(ctx)

    assert await enqueued(context) == {f"run:{run_id}:2"}


async def test_it_looks_for_organisations_runs_from_where_the_last_one_stopped(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    count = sweep.MAX_PAGES + 2
    minute = context.clock().replace(second=0, microsecond=0)
    await orgs.found(context.pool, minute - MINUTE, [Schedule.cron("* * * * *")] * count, CALM)
    await dispatch(ctx)
    await context.pool.execute("UPDATE runs SET queued_at = queued_at - interval '1 minute'")
    last = await context.pool.fetchval("SELECT execution_id FROM runs ORDER BY 1 DESC LIMIT 1")
    await cast("Any", context.redis).zrem(org_queue.ORG_QUEUE, f"run:{last}:1")
    state, first = dispatch_state(ctx), sweep.FIRST_PAGE
    state.sweep_page = run_rows.QueuedRunsPage(first.at, first.run_id, limit=1)

    await sweep.sweep(ctx)
    assert (await worker_harness.run_row(context.pool, last))["attempt"] == 1
    await sweep.sweep(ctx)

    assert (await worker_harness.run_row(context.pool, last))["attempt"] == 2


async def test_it_ends_a_pause_and_enqueues_the_runs_that_were_due_since(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    begun = context.clock() - timedelta(minutes=5.5)
    await register(context, begun)
    until = begun + 3 * MINUTE
    await edit.pause(context.pool, "scrape", begun, by="ada", note="a rest", until=until)

    await sweep.sweep(ctx)

    row = await context.pool.fetchrow("SELECT * FROM schedules WHERE key = 'scrape'")
    runs = await context.pool.fetch("SELECT execution_id, attempt FROM runs")
    assert row is not None
    assert row["paused_at"] is None
    assert runs
    assert await enqueued(context) == {f"run:{run_id}:1" for run_id, _ in runs}


async def test_it_decides_a_tick_whose_trigger_did_not_fire(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await register(context, context.clock() - 1.5 * MINUTE)

    await sweep.sweep(ctx)

    assert [row[0] for row in await context.pool.fetch("SELECT outcome FROM ticks")] == ["ran"]
    assert len(await enqueued(context)) == 1


async def test_a_dispatch_leaves_a_tick_to_its_trigger_for_a_second(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await register(context, context.clock())
    due = await context.pool.fetchval("SELECT due_at FROM schedules")

    context.clock.skew += due - context.clock() + timedelta(milliseconds=50)
    await dispatch(ctx)
    early = await context.pool.fetchval("SELECT count(*) FROM ticks")
    context.clock.skew += due - context.clock() + timedelta(seconds=1.05)
    await dispatch(ctx)

    assert (early, await context.pool.fetchval("SELECT count(*) FROM ticks")) == (0, 1)


async def test_a_schedule_that_cannot_be_read_is_tried_once_a_minute(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await register(context, context.clock() - 2 * MINUTE)
    await context.pool.execute("""UPDATE schedules SET spec = '{"cron": "rubbish"}'""")

    with capture_logs() as logs:
        await dispatch(ctx)
        await dispatch(ctx)

    assert [line["schedule"] for line in logs if line["event"] == "schedule.undecidable"] == [
        "scrape"
    ]


async def test_organisations_schedules_are_decided_by_one_dispatch_at_a_time(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    hour = context.clock().replace(minute=0, second=0, microsecond=0)
    await orgs.found(context.pool, hour - HOUR, [Schedule.cron("0 * * * *")], CALM)
    state = dispatch_state(ctx)

    state.busy = True
    await dispatch(ctx)
    meanwhile = await context.pool.fetchval("SELECT count(*) FROM ticks")
    state.busy = False
    await dispatch(ctx)

    assert (meanwhile, state.busy) == (0, False)
    assert await context.pool.fetchval("SELECT count(*) FROM ticks") == 1


async def test_built_in_schedules_that_are_late_are_decided_together(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    """50 in a transaction; one that needs more than a decision is decided to its end, too."""
    since = context.clock() - 1.5 * MINUTE
    each_minute = [
        DeclaredSchedule(f"job-{number}", "job", Schedule.every(60, anchor=since), CALM)
        for number in range(60)
    ]
    await edit.register(context.pool, each_minute, since)
    each_second = Schedule.every(1, anchor=since)
    busy = DeclaredSchedule("busy", "job", each_second, CALM)
    await edit.register(context.pool, [busy], context.clock() - timedelta(days=1))
    await context.pool.execute(
        "UPDATE schedules SET spec = '{\"cron\": \"rubbish\"}' WHERE key = 'job-7'"
    )

    with capture_logs() as logs:
        await dispatch(ctx)

    decided = [line["schedule"] for line in logs if line["event"] == "tick.decided"]
    assert set(decided) == {"busy", *(one.key for one in each_minute)} - {"job-7"}
    transactions = "SELECT count(DISTINCT xmin::text) FROM runs WHERE scheduled_for IS NOT NULL"
    assert await context.pool.fetchval(transactions) <= 3
    due = await context.pool.fetch("SELECT key FROM schedules WHERE due_at <= $1", since + MINUTE)
    assert [row["key"] for row in due] == ["job-7"]
    assert len(await enqueued(context)) == 60
