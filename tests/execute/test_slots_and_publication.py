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


async def scheduled(house: WorkerContext) -> QueuedRun:
    """A queued run of a built-in schedule."""
    now = house.clock()
    policies = Policies(misfire_grace=HOUR)
    schedule = Schedule.every(60, anchor=now, name=KEY)
    await edit.register(house.pool, [DeclaredSchedule(KEY, KEY, schedule, policies)], now - HOUR)
    (queued,) = await decide.decide_schedule(house.pool, KEY, now)
    return queued


async def of_an_org(house: WorkerContext) -> QueuedRun:
    """A queued run of an organisation's schedule."""
    hour = house.clock().replace(minute=0, second=0, microsecond=0)
    policies = Policies(misfire_grace=2 * HOUR)
    await orgs.found(house.pool, hour - HOUR, [Schedule.cron("0 * * * *")], policies)
    (queued,) = await decide.decide_schedule(house.pool, orgs.key(0), hour)
    return queued


async def perform(house: WorkerContext, queued: QueuedRun, job: Job, **more: Any) -> None:
    ctx = worker_harness.ctx_of(house, arq_id=queued.arq_id) | more
    await execute(ctx, job, str(queued.run_id))


async def status(house: WorkerContext, run_id: UUID) -> str:
    return (await worker_harness.run_row(house.pool, run_id))["status"]


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
    house: WorkerContext,
) -> None:
    leases = worker_harness.leases_of(house)
    leases.running = leases.running_for_orgs = 2
    theirs, ours = await of_an_org(house), await scheduled(house)

    with pytest.raises(Retry):
        await perform(house, theirs, COLLECTION, leases=leases, slots=2)
    await perform(house, ours, BUILT_IN, leases=leases, slots=2)

    assert await status(house, theirs.run_id) == "queued"
    assert await status(house, ours.run_id) == "success"
    assert (leases.running, leases.running_for_orgs) == (2, 2)


async def test_any_run_waits_while_the_worker_is_full(house: WorkerContext) -> None:
    leases = worker_harness.leases_of(house)
    leases.running = house.config.max_jobs
    queued = await scheduled(house)

    with pytest.raises(Retry):
        await perform(house, queued, BUILT_IN, leases=leases)

    assert await status(house, queued.run_id) == "queued"


async def test_the_end_of_a_scheduled_run_is_published(house: WorkerContext) -> None:
    queued = await scheduled(house)

    await perform(house, queued, BUILT_IN)

    assert (await read_jobs(house.redis))[KEY].last_status is RunStatus.SUCCESS


async def test_a_run_that_will_go_on_later_is_enqueued_for_then_and_not_pinged(
    house: WorkerContext, pings: HeartbeatPings, receiver: Receiver
) -> None:
    queued = await scheduled(house)
    await house.pool.execute("UPDATE schedules SET due_at = due_at + interval '1 day'")

    await perform(house, queued, worker_harness.job_of(later, KEY), pings=pings)
    await pings.close()

    (entry,) = await cast("Any", house.redis).zrange(
        house.redis.default_queue_name, 0, -1, withscores=True
    )
    wait = entry[1] / 1000 - house.clock().timestamp()
    assert entry[0] == f"run:{queued.run_id}:2".encode()
    assert 200 < wait < 301
    assert receiver.asked == []


async def test_organisations_runs_are_pinged_by_the_name_of_their_task(
    house: WorkerContext, pings: HeartbeatPings, receiver: Receiver
) -> None:
    await perform(house, await of_an_org(house), COLLECTION, pings=pings)
    await pings.close()

    assert receiver.asked == [f"/{COLLECTION_TASK}"]


async def test_the_end_of_an_organisations_run_admits_the_next(house: WorkerContext) -> None:
    queued = await of_an_org(house)
    await org_queue.announce_slots(house.redis, house.worker, 1, 60)
    waiting = QueuedRun(orgs.org(7), COLLECTION_TASK, 1)
    await org_queue.add_runs(house.redis, [queued], {}, 0)
    await org_queue.admit_runs(house.redis)
    await org_queue.add_runs(house.redis, [waiting], {}, 0)

    await perform(house, queued, COLLECTION)

    names = await cast("Any", house.redis).zrange(house.redis.default_queue_name, 0, -1)
    assert waiting.arq_id.encode() in names


async def test_an_arq_job_delivered_twice_is_one_run_and_enqueued_again_another(
    house: WorkerContext,
) -> None:
    first, second = house.clock(), house.clock() + HOUR

    for at in (first, first, second):
        ctx = worker_harness.ctx_of(house, arq_id="mine") | {"enqueue_time": at}
        await execute(ctx, BUILT_IN)

    assert await house.pool.fetchval("SELECT count(*) FROM runs") == 2
