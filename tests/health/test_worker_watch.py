"""What a worker does for health beside its jobs: each in its turn, and one worker for all."""

from collections.abc import Iterator
from datetime import timedelta

import pytest
from arq.connections import ArqRedis

from app.context import WorkerContext
from app.core.enums import RunStatus
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.health.keys import read_collections, read_jobs, read_system
from app.health.metrics import read
from app.ledger import edit
from app.ledger.decide import decide_schedule
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store.reports import metrics
from app.store.runs.attempt_rows import RunEnding
from tests import single_run
from tests.alerts.receiver import Receiver, receiving
from tests.runs.harness import Desk
from tests.worker_harness import ctx_of
from workers.monitor import monitor
from workers.sweep import publish_health


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


async def test_a_watch_counts_adds_up_proves_and_forgets(
    context: WorkerContext, redis: ArqRedis
) -> None:
    desk = Desk(context.pool, context.clock)  # pyright: ignore[reportArgumentType] - any clock will do
    await single_run.finish(
        context.pool, await desk.begin(), RunEnding(RunStatus.SUCCESS, context.clock())
    )
    await context.pool.execute(
        "INSERT INTO notifications (channel, title, body, created_at, next_try_at, attempts,"
        " sent_at) VALUES ('c', 't', 'b', now(), now(), 1, now() - interval '31 days')"
    )
    await context.pool.execute(
        "INSERT INTO trends (step, at, kind, name, runs, failed, records, prices, changed, errors,"
        " bytes) VALUES (3600, now() - interval '3 days', 'job', 'past', 1, 0, 0, 0, 0, 0, 0)"
    )

    await monitor(ctx_of(context))
    await monitor(ctx_of(context))

    kept = await read.stored_totals(redis)
    assert [total.value for total in kept if total.name == "runs"] == [1]
    assert (await read_system(redis)).unaccounted == 0
    assert await read_collections(redis) is not None
    assert await context.pool.fetchval("SELECT count(*) FROM notifications") == 0
    assert await context.pool.fetchval("SELECT count(*) FROM trends WHERE name = 'past'") == 0


async def test_the_scheduler_is_pinged_once_a_minute_by_one_worker_for_all(
    context: WorkerContext, receiver: Receiver
) -> None:
    pings = HeartbeatPings({}, f"{receiver.http}/scheduler")

    for _ in range(2):
        await monitor(ctx_of(context) | {"pings": pings})
    await pings.close()

    assert receiver.asked == ["/scheduler"]


async def test_all_that_waits_is_added_to_the_counters_however_much_it_is(
    context: WorkerContext,
) -> None:
    await context.pool.execute(
        "INSERT INTO metric_pending (job, outcome, count)"
        " SELECT 'scrape', 'ran', 1 FROM generate_series(1, $1)",
        metrics.BATCH + 1,
    )

    await monitor(ctx_of(context))

    assert await context.pool.fetchval("SELECT count(*) FROM metric_pending") == 0


async def declare(context: WorkerContext) -> None:
    minute = Schedule.every(60, anchor=EPOCH)
    past = context.clock() - timedelta(minutes=10)
    declared = DeclaredSchedule("scrape", "scrape", minute, Policies())
    await edit.register(context.pool, [declared], past)


async def test_a_tick_without_an_outcome_is_counted_as_unaccounted(
    context: WorkerContext, redis: ArqRedis
) -> None:
    await declare(context)
    await decide_schedule(context.pool, "scrape", context.clock())
    missing = "(SELECT scheduled_for FROM ticks ORDER BY scheduled_for LIMIT 1 OFFSET 2)"
    await context.pool.execute(f"DELETE FROM ticks WHERE scheduled_for = {missing}")  # noqa: S608

    await monitor(ctx_of(context))

    facts = await read_system(redis)
    assert facts.unaccounted == 1
    assert facts.checked_at is not None


async def test_publishing_health_writes_every_job_to_redis(
    context: WorkerContext, redis: ArqRedis
) -> None:
    await declare(context)

    await publish_health(ctx_of(context))

    assert set(await read_jobs(redis)) == {"scrape"}
