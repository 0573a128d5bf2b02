"""When a collection runs: never beside itself, not while its organisation is disabled."""

from datetime import timedelta
from typing import Any

from app.context import WorkerContext
from app.ledger import decide
from app.orgs import admin
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.orgs import orgs
from tests import worker_harness
from tests.collections import harness
from tests.collections.harness import Client
from workers import sweep

HOURLY = Schedule.every(3600)  # so long that no test runs into the next tick


async def ticks(pool: Pool, one: Client) -> list[dict[str, Any]]:
    sql = "SELECT * FROM ticks WHERE schedule_id = $1 ORDER BY scheduled_for"
    return [dict(row) for row in await pool.fetch(sql, one.schedule_id)]


def past_a_tick(context: WorkerContext) -> None:
    now = context.clock()
    context.clock.skew += HOURLY.next(now) - now + timedelta(seconds=1)


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(row["outcome"], row["reason"]) for row in rows]


async def test_a_scheduled_run_belongs_to_its_schedules_organisation(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    (queued,) = await decide.decide_schedule(context.pool, acme.key, HOURLY.next(context.clock()))

    run = await acme.run(queued.run_id)

    assert (run["org_id"], run["trigger"], run["status"]) == (acme.org_id, "scheduled", "success")
    assert run["params"]["preset"] == "odds"
    assert [one["source"] for one in run["params"]["sources"]] == ["sportybet", "betpawa", "bet9ja"]


async def test_a_tick_whose_collection_still_runs_is_skipped_and_never_queued(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    first = HOURLY.next(context.clock())
    (under_way,) = await decide.decide_schedule(context.pool, acme.key, first)

    again = await decide.decide_schedule(context.pool, acme.key, HOURLY.next(first))

    rows = await ticks(context.pool, acme)
    assert again == []
    assert outcomes(rows) == [("ran", None), ("skipped", "overlap")]
    assert rows[1]["blocking_run_id"] == under_way.run_id


async def test_a_run_by_hand_is_in_the_way_of_a_tick_too(context: WorkerContext) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    by_hand = await acme.queue()

    await decide.decide_schedule(context.pool, acme.key, HOURLY.next(context.clock()))

    (row,) = await ticks(context.pool, acme)
    assert (row["reason"], row["blocking_run_id"]) == ("overlap", by_hand)


async def test_a_tick_up_to_an_hour_late_still_runs(context: WorkerContext) -> None:
    seldom = Schedule.every(10_000)
    acme = await harness.client(context, schedule=seldom)
    due = seldom.next(context.clock())

    queued = await decide.decide_schedule(context.pool, acme.key, due + timedelta(minutes=59))

    assert len(queued) == 1
    assert outcomes(await ticks(context.pool, acme)) == [("ran", None)]


async def disable(context: WorkerContext, one: Client) -> None:
    found = await orgs.one(context.pool, one.org_id)
    assert found is not None
    await admin.disable(context.pool, found, context.clock())


async def enable(context: WorkerContext, one: Client) -> None:
    found = await orgs.one(context.pool, one.org_id)
    assert found is not None
    await admin.enable(context.pool, found, context.clock())


async def test_a_disabled_organisations_ticks_are_skipped_as_disabled_until_it_is_let_in(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    bolt = await harness.client(context, "Bolt", schedule=HOURLY)
    first = HOURLY.next(context.clock())

    await disable(context, acme)
    none = await decide.decide_schedule(context.pool, acme.key, first)
    others = await decide.decide_schedule(context.pool, bolt.key, first)
    past_a_tick(context)
    await enable(context, acme)
    again = await decide.decide_schedule(context.pool, acme.key, HOURLY.next(HOURLY.next(first)))

    assert (none, len(others), len(again)) == ([], 1, 1)
    assert outcomes(await ticks(context.pool, acme))[0] == ("skipped", "disabled")
    assert outcomes(await ticks(context.pool, acme))[-1] == ("ran", None)


async def test_what_was_due_before_an_organisation_was_disabled_is_not_called_disabled(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    past_a_tick(context)

    await disable(context, acme)

    (row,) = await ticks(context.pool, acme)
    run = await worker_harness.run_row(context.pool, row["run_id"])
    assert (row["outcome"], run["status"]) == ("ran", "cancelled")
    assert run["error_message"] == "the organisation is disabled"


async def test_a_schedule_that_its_organisation_switched_off_stays_off_when_it_is_let_in(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    await context.pool.execute("UPDATE schedules SET enabled = false")

    await disable(context, acme)
    await enable(context, acme)
    queued = await decide.decide_schedule(context.pool, acme.key, HOURLY.next(context.clock()))

    assert queued == []
    assert outcomes(await ticks(context.pool, acme)) == [("skipped", "disabled")]


async def test_a_run_that_starts_after_its_organisation_was_disabled_asks_nobody(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context)
    run_id = await acme.queue()
    await orgs.set_disabled(context.pool, acme.org_id, context.clock())

    run = await acme.run(run_id)

    assert (run["status"], run["error_type"]) == ("failure", "OrgDisabled")
    assert run["sources"] == {}


async def test_what_is_due_of_many_is_decided_by_a_sweep_and_of_the_disabled_called_so(
    context: WorkerContext,
) -> None:
    acme = await harness.client(context, schedule=HOURLY)
    bolt = await harness.client(context, "Bolt", schedule=HOURLY)
    await disable(context, bolt)
    past_a_tick(context)

    await sweep.sweep({"context": context, "known_jobs": ["collection"]})

    (ours,), (theirs,) = await ticks(context.pool, acme), await ticks(context.pool, bolt)
    assert (await worker_harness.run_row(context.pool, ours["run_id"]))["job"] == "collection"
    assert (theirs["outcome"], theirs["reason"]) == ("skipped", "disabled")
