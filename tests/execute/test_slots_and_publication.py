"""Around a run: the slot that it needs, what is published of its end, and who comes next."""

from collections.abc import AsyncGenerator, Iterator
from datetime import timedelta
from typing import Any, cast
from uuid import UUID

import pytest
from arq import Retry

from app.context import WorkerContext
from app.core.enums import COLLECTION_TASK, RunStatus
from app.health.alerts.heartbeat_pings import HeartbeatPings
from app.health.keys import read_jobs
from app.ledger import decide, edit
from app.ledger.edit import DeclaredSchedule
from app.queue import org_queue
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.runs.run_rows import QueuedRun
from tests import worker_harness
from tests.alerts.receiver import Receiver, receiving
from tests.dispatch import orgs
from workers.execute import execute
from workers.job import Job
from workers.run import Run

KEY = "scrape"
HOUR = timedelta(hours=1)


async def nothing(run: Run) -> None:
    del run


async def later(run: Run) -> None:
    raise run.defer(timedelta(minutes=5), "asked to")


BUILT_IN = worker_harness.job_of(nothing, KEY)
COLLECTION = worker_harness.job_of(nothing, COLLECTION_TASK)


async def scheduled(context: WorkerContext) -> QueuedRun:
    """A queued run of a built-in schedule."""
    now = context.clock()
    policies = Policies(misfire_grace=HOUR)
    schedule = Schedule.every(60, anchor=now, name=KEY)
    await edit.register(context.pool, [DeclaredSchedule(KEY, KEY, schedule, policies)], now - HOUR)
    (queued,) = await decide.decide_schedule(context.pool, KEY, now)
    return queued


async def of_an_org(context: WorkerContext) -> QueuedRun:
    """A queued run of an organisation's schedule."""
    hour = context.clock().replace(minute=0, second=0, microsecond=0)
    policies = Policies(misfire_grace=2 * HOUR)
    await orgs.found(context.pool, hour - HOUR, [Schedule.cron("0 * * * *")], policies)
    (queued,) = await decide.decide_schedule(context.pool, orgs.key(0), hour)
    return queued


async def perform(context: WorkerContext, queued: QueuedRun, job: Job, **more: Any) -> None:
    ctx = worker_harness.ctx_of(context, arq_id=queued.arq_id) | more
    await execute(ctx, job, str(queued.run_id))


async def status(context: WorkerContext, run_id: UUID) -> str:
    return (await worker_harness.run_row(context.pool, run_id))["status"]


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as started:
        yield started


@pytest.fixture
async def pings(receiver: Receiver) -> AsyncGenerator[HeartbeatPings]:
    to = {KEY: f"{receiver.http}/{KEY}", COLLECTION_TASK: f"{receiver.http}/{COLLECTION_TASK}"}
    opened = HeartbeatPings(to, None)
    yield opened
    await opened.close()


async def test_an_organisations_run_waits_while_the_slots_for_such_runs_are_taken(
    context: WorkerContext,
) -> None:
    leases = worker_harness.leases_of(context)
    leases.running = leases.running_for_orgs = 2
    theirs, ours = await of_an_org(context), await scheduled(context)

    with pytest.raises(Retry):
        await perform(context, theirs, COLLECTION, leases=leases, slots=2)
    await perform(context, ours, BUILT_IN, leases=leases, slots=2)

    assert await status(context, theirs.run_id) == "queued"
    assert await status(context, ours.run_id) == "success"
    assert (leases.running, leases.running_for_orgs) == (2, 2)


async def test_any_run_waits_while_the_worker_is_full(context: WorkerContext) -> None:
    leases = worker_harness.leases_of(context)
    leases.running = context.config.max_jobs
    queued = await scheduled(context)

    with pytest.raises(Retry):
        await perform(context, queued, BUILT_IN, leases=leases)

    assert await status(context, queued.run_id) == "queued"


async def test_the_end_of_a_scheduled_run_is_published(context: WorkerContext) -> None:
    queued = await scheduled(context)

    await perform(context, queued, BUILT_IN)

    assert (await read_jobs(context.redis))[KEY].last_status is RunStatus.SUCCESS


async def test_a_run_that_will_go_on_later_is_enqueued_for_then_and_not_pinged(
    context: WorkerContext, pings: HeartbeatPings, receiver: Receiver
) -> None:
    queued = await scheduled(context)
    await context.pool.execute("UPDATE schedules SET due_at = due_at + interval '1 day'")

    await perform(context, queued, worker_harness.job_of(later, KEY), pings=pings)
    await pings.close()

    (entry,) = await cast("Any", context.redis).zrange(
        context.redis.default_queue_name, 0, -1, withscores=True
    )
    wait = entry[1] / 1000 - context.clock().timestamp()
    assert entry[0] == f"run:{queued.run_id}:2".encode()
    assert 200 < wait < 301
    assert receiver.asked == []


async def test_organisations_runs_are_pinged_by_the_name_of_their_task(
    context: WorkerContext, pings: HeartbeatPings, receiver: Receiver
) -> None:
    await perform(context, await of_an_org(context), COLLECTION, pings=pings)
    await pings.close()

    assert receiver.asked == [f"/{COLLECTION_TASK}"]


async def test_the_end_of_an_organisations_run_admits_the_next(context: WorkerContext) -> None:
    queued = await of_an_org(context)
    await org_queue.announce_slots(context.redis, context.worker, 1, 60)
    waiting = QueuedRun(orgs.org(7), COLLECTION_TASK, 1)
    await org_queue.add_runs(context.redis, [queued], {}, 0)
    await org_queue.admit_runs(context.redis)
    await org_queue.add_runs(context.redis, [waiting], {}, 0)

    await perform(context, queued, COLLECTION)

    names = await cast("Any", context.redis).zrange(context.redis.default_queue_name, 0, -1)
    assert waiting.arq_id.encode() in names


async def test_an_arq_job_delivered_twice_is_one_run_and_enqueued_again_another(
    context: WorkerContext,
) -> None:
    first, second = context.clock(), context.clock() + HOUR

    for at in (first, first, second):
        ctx = worker_harness.ctx_of(context, arq_id="mine") | {"enqueue_time": at}
        await execute(ctx, BUILT_IN)

    assert await context.pool.fetchval("SELECT count(*) FROM runs") == 2
