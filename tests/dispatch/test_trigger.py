"""A trigger decides its schedule at the tick, never raises, and has what does not run published."""

from datetime import datetime, timedelta
from typing import Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.health.keys import read_jobs
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from tests import worker_harness
from workers import trigger
from workers.trigger import trigger_schedule

KEY = "scrape"


@pytest.fixture
def ctx(house: WorkerContext) -> dict[str, Any]:
    return worker_harness.ctx_of(house)


async def register(house: WorkerContext, *, enabled: bool = True) -> datetime:
    """A schedule that is due each minute; returns its first tick."""
    now = house.clock()
    schedule = Schedule.every(60, anchor=now, name=KEY)
    declared = DeclaredSchedule(KEY, "job", schedule, Policies(), enabled=enabled)
    await edit.register(house.pool, [declared], now)
    return schedule.next(now)


async def outcomes(house: WorkerContext) -> list[str]:
    return [row[0] for row in await house.pool.fetch("SELECT outcome FROM ticks")]


async def test_a_trigger_that_is_a_little_early_waits_for_its_tick(
    house: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(house)
    house.clock.skew += tick - house.clock() - timedelta(seconds=1)

    await trigger_schedule(ctx, KEY, tick)

    assert house.clock() >= tick
    assert await outcomes(house) == ["ran"]


async def test_a_trigger_that_is_minutes_early_neither_waits_nor_decides(
    house: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(house)
    house.clock.skew -= timedelta(minutes=5)

    await trigger_schedule(ctx, KEY, tick)

    assert house.clock() < tick
    assert await outcomes(house) == []


async def test_a_schedule_whose_tick_does_not_run_is_published(
    house: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(house, enabled=False)
    house.clock.skew += tick - house.clock()

    await trigger_schedule(ctx, KEY, tick)

    assert await outcomes(house) == ["skipped"]
    assert list(await read_jobs(house.redis)) == [KEY]


async def test_a_trigger_of_a_schedule_that_cannot_be_read_logs_which_one(
    house: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(house)
    await house.pool.execute("""UPDATE schedules SET spec = '{"cron": "rubbish"}'""")
    house.clock.skew += tick - house.clock()

    with capture_logs() as logs:
        await trigger_schedule(ctx, KEY, tick)

    assert [line["schedule"] for line in logs if line["event"] == "schedule.undecidable"] == [KEY]


async def test_an_entry_without_redis_is_logged_and_does_not_raise(ctx: dict[str, Any]) -> None:
    async def step(ctx: dict[str, Any]) -> None:
        del ctx
        raise RedisConnectionError("refused")

    entry = trigger.resilient_entry("sweep", step, Schedule.every(10))
    with capture_logs() as logs:
        await entry.coroutine(ctx)

    assert [(line["event"], line["alarm"]) for line in logs] == [("alarm.in_vain", "sweep")]
