"""A trigger decides its schedule at the tick, never raises, and has what does not run published."""

import asyncio
from datetime import datetime, timedelta
from typing import Any

import asyncpg
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
def ctx(context: WorkerContext) -> dict[str, Any]:
    return worker_harness.ctx_of(context)


async def register(context: WorkerContext, *, enabled: bool = True) -> datetime:
    """A schedule that is due each minute; returns its first tick."""
    now = context.clock()
    schedule = Schedule.every(60, anchor=now, name=KEY)
    declared = DeclaredSchedule(KEY, "job", schedule, Policies(), enabled=enabled)
    await edit.register(context.pool, [declared], now)
    return schedule.next(now)


async def outcomes(context: WorkerContext) -> list[str]:
    return [row[0] for row in await context.pool.fetch("SELECT outcome FROM ticks")]


async def test_a_trigger_that_is_a_little_early_waits_for_its_tick(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(context)
    context.clock.skew += tick - context.clock() - timedelta(seconds=1)

    await trigger_schedule(ctx, KEY, tick)

    assert context.clock() >= tick
    assert await outcomes(context) == ["ran"]


async def test_a_trigger_that_is_minutes_early_neither_waits_nor_decides(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(context)
    context.clock.skew -= timedelta(minutes=5)

    await trigger_schedule(ctx, KEY, tick)

    assert context.clock() < tick
    assert await outcomes(context) == []


async def test_a_schedule_whose_tick_does_not_run_is_published(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(context, enabled=False)
    context.clock.skew += tick - context.clock()

    await trigger_schedule(ctx, KEY, tick)

    assert await outcomes(context) == ["skipped"]
    assert list(await read_jobs(context.redis)) == [KEY]


async def test_a_trigger_of_a_schedule_that_cannot_be_read_logs_which_one(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    tick = await register(context)
    await context.pool.execute("""UPDATE schedules SET spec = '{"cron": "rubbish"}'""")
    context.clock.skew += tick - context.clock()

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


async def test_an_entry_that_takes_too_long_is_logged_and_does_not_raise(
    ctx: dict[str, Any],
) -> None:
    async def step(ctx: dict[str, Any]) -> None:
        del ctx
        await asyncio.Event().wait()

    entry = trigger.resilient_entry("sweep", step, Schedule.every(10), timeout=0.1)
    with capture_logs() as logs:
        async with asyncio.timeout(entry.timeout_s):
            await entry.coroutine(ctx)

    assert [(line["event"], line["log_level"]) for line in logs] == [("alarm.in_vain", "warning")]


async def test_an_entry_whose_login_is_refused_says_what_to_do(ctx: dict[str, Any]) -> None:
    async def step(ctx: dict[str, Any]) -> None:
        del ctx
        raise asyncpg.InvalidPasswordError("password authentication failed")

    entry = trigger.resilient_entry("sweep", step, Schedule.every(10))
    with capture_logs() as logs:
        await entry.coroutine(ctx)

    assert [(line["event"], line["log_level"]) for line in logs] == [("alarm.in_vain", "error")]
    assert "DATABASE_URL" in logs[0]["error"]
    assert "correct its password" in logs[0]["error"]
