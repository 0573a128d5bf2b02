"""Who asks for a run, and how: its tick, by hand, twice, or with words it does not take."""

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from arq import Retry

from app.context import WorkerContext
from app.core.enums import RunStatus
from app.health import keys
from app.ledger import decide, edit
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from scripts.standin.testing import Standin
from tests.worker_harness import perform, run_row, source_rows
from workers import registry
from workers.odds import scrape_all_platforms


async def test_a_scheduled_run_carries_its_tick_and_tells_health(context: WorkerContext) -> None:
    declared = registry.declared_schedules(context.config)[0]
    await edit.register(context.pool, [declared], context.clock())
    due = declared.schedule.next(context.clock())
    (queued,) = await decide.decide_schedule(context.pool, declared.key, due)

    await perform(context, queued.run_id)

    row = await run_row(context.pool, queued.run_id)
    assert (row["status"], row["scheduled_for"]) == ("success", due)
    facts = (await keys.read_jobs(context.redis))[declared.key]
    assert (facts.last_status, facts.consecutive_failures) == (RunStatus.SUCCESS, 0)


async def test_a_run_for_later_that_is_started_too_early_waits_for_its_instant(
    context: WorkerContext,
) -> None:
    run_id, at = uuid4(), context.clock() + timedelta(seconds=2)
    wanted = RunRequest(run_id, scrape_all_platforms.name, {}, "test", 3, 60, not_before=at)
    await run_rows.request(context.pool, wanted, context.clock())

    with pytest.raises(Retry) as retry:
        await perform(context, run_id)
    early, left = context.clock(), (retry.value.defer_score or 0) / 1000
    await asyncio.sleep((at - context.clock()).total_seconds() + 0.01)
    await perform(context, run_id)

    row = await run_row(context.pool, run_id)
    assert 0 < left <= 2
    assert early + timedelta(seconds=left + 0.001) >= at
    assert (row["status"], row["attempt"]) == ("success", 1)
    assert row["started_at"] >= at


async def test_a_job_without_a_run_id_is_a_run_by_hand(context: WorkerContext) -> None:
    run_id = await perform(context, params={"platforms": ["betpawa"]})

    row = await run_row(context.pool, run_id)
    assert (row["trigger"], row["requested_by"], row["status"]) == ("manual", "queue", "success")
    assert row["scheduled_for"] is row["schedule_id"] is None
    assert row["params"] == {"platforms": ["betpawa"]}
    assert list(await source_rows(context.pool, run_id)) == ["betpawa"]


@pytest.mark.parametrize("at_once", [True, False], ids=["at once", "one after the other"])
async def test_one_job_delivered_twice_is_one_run(
    context: WorkerContext, standin: Standin, at_once: bool
) -> None:
    if at_once:
        await asyncio.gather(*(perform(context, arq_id="the same") for _ in range(3)))
    else:
        await perform(context, arq_id="the same")
        await perform(context, arq_id="the same")

    assert await context.pool.fetchval("SELECT count(*) FROM runs") == 1
    assert standin.stats()["sites"]["sportybet"]["requests"] == 1


@pytest.mark.parametrize(
    ("params", "said"),
    [
        ({"platforms": ["betpawa", "bet365"]}, "unknown bet365; known: sportybet"),
        ({"platform": ["betpawa"]}, "platform: is not known here (known: platforms)"),
        ({"platforms": 7}, "platforms: Input should be a valid list"),
    ],
    ids=["unknown value", "unknown name", "wrong type"],
)
async def test_parameters_that_a_job_does_not_take_are_a_failure_that_names_them(
    context: WorkerContext, standin: Standin, params: dict[str, Any], said: str
) -> None:
    run_id = await perform(context, params=params)

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["error_type"]) == ("failure", "BadParameters")
    assert said in row["error_message"]
    assert standin.stats()["requests"] == 0


async def test_a_run_that_is_not_there_is_nobodys_work(
    context: WorkerContext, standin: Standin
) -> None:
    await perform(context, uuid4())

    assert standin.stats()["requests"] == 0


async def test_a_run_put_into_the_queue_by_another_program_has_its_schedules_limits(
    context: WorkerContext,
) -> None:
    (declared,) = [
        one
        for one in registry.declared_schedules(context.config)
        if one.key == "scrape_all_platforms"
    ]
    chosen = replace(declared.policies, timeout=77, max_attempts=5)
    await edit.register(context.pool, [replace(declared, policies=chosen)], context.clock())

    run_id = await perform(context, params={"platforms": ["betpawa"]})

    row = await run_row(context.pool, run_id)
    assert (row["timeout_seconds"], row["max_attempts"]) == (77, 5)


@pytest.mark.parametrize(
    "policies",
    [
        {"overlap": "maybe"},
        {"max_attempts": "many", "timeout_seconds": None},
        {"max_attempts": 101, "timeout_seconds": 604_801},
        {"max_attempts": 10**30, "timeout_seconds": 10**400},
        {"max_attempts": 0, "timeout_seconds": -1},
        [5],
    ],
    ids=["other", "no numbers", "beyond the bounds", "large", "below the bounds", "no object"],
)
async def test_it_has_the_default_limits_beside_a_schedule_that_cannot_be_read(
    context: WorkerContext, policies: object
) -> None:
    await edit.register(context.pool, registry.declared_schedules(context.config), context.clock())
    await context.pool.execute("UPDATE schedules SET policies = $1", policies)

    run_id = await perform(context, params={"platforms": ["betpawa"]})

    row = await run_row(context.pool, run_id)
    assert row["status"] == "success"
    defaults = (context.config.max_attempts, context.config.job_timeout_seconds)
    assert (row["max_attempts"], row["timeout_seconds"]) == defaults
