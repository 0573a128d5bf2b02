"""A sweep derives anew what has newer zone data, and a worker with older data says so once."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from structlog.testing import capture_logs

from app.context import WorkerContext
from app.core import zone_data
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.schedules import zones
from tests import worker_harness
from workers.sweep import sweep

ZONE = "America/Vancouver"
DAILY = DeclaredSchedule("daily", "job", Schedule.cron("0 9 * * *", ZONE), Policies())


@pytest.fixture
async def ctx(context: WorkerContext) -> dict[str, Any]:
    return worker_harness.ctx_of(context) | {"known_jobs": ["job"], "slots": 4}


async def test_a_sweep_derives_anew_and_says_that_its_own_data_is_older(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    await edit.edit(context.pool, DAILY, context.clock())
    tokyo = zone_data.wheel_data("Asia/Tokyo")
    stamp = zone_data.stamp_of("9001a", tokyo)
    await context.pool.execute(zones.SAVE, ZONE, stamp, tokyo)

    with capture_logs() as logs:
        await sweep(ctx)
        await sweep(ctx)

    row = await context.pool.fetchrow("SELECT * FROM schedules WHERE key = 'daily'")
    assert row is not None
    assert (row["zone_data"], row["version"]) == (stamp, 2)
    assert row["next_tick_at"].astimezone(UTC).hour == 0
    assert row["next_tick_at"] - context.clock() <= timedelta(days=1)
    older = [entry for entry in logs if entry["event"] == "zone_data.older"]
    assert [(entry["zones"], entry["wheel"]) for entry in older] == [([ZONE], zone_data.VERSION)]


async def test_a_broken_schedule_does_not_keep_others_from_being_derived_anew(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    broken = DeclaredSchedule("broken", "job", Schedule.cron("0 8 * * *", ZONE), Policies())
    for declared in (broken, DAILY):
        await edit.edit(context.pool, declared, datetime.now(UTC))
    await context.pool.execute("UPDATE schedules SET policies = '{\"x\": 1}' WHERE key = 'broken'")
    tokyo = zone_data.wheel_data("Asia/Tokyo")
    stamp = zone_data.stamp_of("9001a", tokyo)
    await context.pool.execute(zones.SAVE, ZONE, stamp, tokyo)

    with capture_logs() as logs:
        await sweep(ctx)

    assert [line["schedule"] for line in logs if line["event"] == "schedule.undecidable"] == [
        "broken"
    ]
    rows = await context.pool.fetch("SELECT key, zone_data FROM schedules")
    assert {row["key"]: row["zone_data"] for row in rows} == {
        "broken": zone_data.wheel_stamp(ZONE),
        "daily": stamp,
    }


async def test_runs_that_were_due_before_ticks_are_derived_anew_are_enqueued(
    context: WorkerContext, ctx: dict[str, Any]
) -> None:
    daily = replace(DAILY, policies=Policies(misfire_grace=timedelta(days=3)))
    await edit.edit(context.pool, daily, context.clock() - timedelta(days=2))
    tokyo = zone_data.wheel_data("Asia/Tokyo")
    await context.pool.execute(zones.SAVE, ZONE, zone_data.stamp_of("9001a", tokyo), tokyo)

    await sweep(ctx)

    runs = await context.pool.fetch("SELECT execution_id FROM runs WHERE attempt = 1")
    queue = await cast("Any", context.redis).zrange(context.redis.default_queue_name, 0, -1)
    assert runs
    assert set(queue) == {f"run:{row[0]}:1".encode() for row in runs}
