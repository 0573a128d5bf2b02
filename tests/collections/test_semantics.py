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


def past_a_tick(house: WorkerContext) -> None:
    now = house.clock()
    house.clock.skew += HOURLY.next(now) - now + timedelta(seconds=1)


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(row["outcome"], row["reason"]) for row in rows]


async def test_a_scheduled_run_belongs_to_its_schedules_organisation(house: WorkerContext) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    (queued,) = await decide.decide_schedule(house.pool, acme.key, HOURLY.next(house.clock()))

    run = await acme.run(queued.run_id)

    assert (run["org_id"], run["trigger"], run["status"]) == (acme.org_id, "scheduled", "success")
    assert run["params"]["preset"] == "odds"
    assert [one["source"] for one in run["params"]["sources"]] == ["sportybet", "betpawa", "bet9ja"]


async def test_a_tick_whose_collection_still_runs_is_skipped_and_never_queued(
    house: WorkerContext,
) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    first = HOURLY.next(house.clock())
    (under_way,) = await decide.decide_schedule(house.pool, acme.key, first)

    again = await decide.decide_schedule(house.pool, acme.key, HOURLY.next(first))

    rows = await ticks(house.pool, acme)
    assert again == []
    assert outcomes(rows) == [("ran", None), ("skipped", "overlap")]
    assert rows[1]["blocking_run_id"] == under_way.run_id


async def test_a_run_by_hand_is_in_the_way_of_a_tick_too(house: WorkerContext) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    by_hand = await acme.queue()

    await decide.decide_schedule(house.pool, acme.key, HOURLY.next(house.clock()))

    (row,) = await ticks(house.pool, acme)
    assert (row["reason"], row["blocking_run_id"]) == ("overlap", by_hand)


async def test_a_tick_up_to_an_hour_late_still_runs(house: WorkerContext) -> None:
    seldom = Schedule.every(10_000)
    acme = await harness.client(house, schedule=seldom)
    due = seldom.next(house.clock())

    queued = await decide.decide_schedule(house.pool, acme.key, due + timedelta(minutes=59))

    assert len(queued) == 1
    assert outcomes(await ticks(house.pool, acme)) == [("ran", None)]


async def disable(house: WorkerContext, one: Client) -> None:
    found = await orgs.one(house.pool, one.org_id)
    assert found is not None
    await admin.disable(house.pool, found, house.clock())


async def enable(house: WorkerContext, one: Client) -> None:
    found = await orgs.one(house.pool, one.org_id)
    assert found is not None
    await admin.enable(house.pool, found, house.clock())


async def test_a_disabled_organisations_ticks_are_skipped_as_disabled_until_it_is_let_in(
    house: WorkerContext,
) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    bolt = await harness.client(house, "Bolt", schedule=HOURLY)
    first = HOURLY.next(house.clock())

    await disable(house, acme)
    none = await decide.decide_schedule(house.pool, acme.key, first)
    others = await decide.decide_schedule(house.pool, bolt.key, first)
    past_a_tick(house)
    await enable(house, acme)
    again = await decide.decide_schedule(house.pool, acme.key, HOURLY.next(HOURLY.next(first)))

    assert (none, len(others), len(again)) == ([], 1, 1)
    assert outcomes(await ticks(house.pool, acme))[0] == ("skipped", "disabled")
    assert outcomes(await ticks(house.pool, acme))[-1] == ("ran", None)


async def test_what_was_due_before_an_organisation_was_disabled_is_not_called_disabled(
    house: WorkerContext,
) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    past_a_tick(house)

    await disable(house, acme)

    (row,) = await ticks(house.pool, acme)
    run = await worker_harness.run_row(house.pool, row["run_id"])
    assert (row["outcome"], run["status"]) == ("ran", "cancelled")
    assert run["error_message"] == "the organisation is disabled"


async def test_a_schedule_that_its_organisation_switched_off_stays_off_when_it_is_let_in(
    house: WorkerContext,
) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    await house.pool.execute("UPDATE schedules SET enabled = false")

    await disable(house, acme)
    await enable(house, acme)
    queued = await decide.decide_schedule(house.pool, acme.key, HOURLY.next(house.clock()))

    assert queued == []
    assert outcomes(await ticks(house.pool, acme)) == [("skipped", "disabled")]


async def test_a_run_that_starts_after_its_organisation_was_disabled_asks_nobody(
    house: WorkerContext,
) -> None:
    acme = await harness.client(house)
    run_id = await acme.queue()
    await orgs.set_disabled(house.pool, acme.org_id, house.clock())

    run = await acme.run(run_id)

    assert (run["status"], run["error_type"]) == ("failure", "OrgDisabled")
    assert run["sources"] == {}


async def test_what_is_due_of_many_is_decided_by_a_sweep_and_of_the_disabled_called_so(
    house: WorkerContext,
) -> None:
    acme = await harness.client(house, schedule=HOURLY)
    bolt = await harness.client(house, "Bolt", schedule=HOURLY)
    await disable(house, bolt)
    past_a_tick(house)

    await sweep.sweep({"context": house, "known_jobs": ["collection"]})

    (ours,), (theirs,) = await ticks(house.pool, acme), await ticks(house.pool, bolt)
    assert (await worker_harness.run_row(house.pool, ours["run_id"]))["job"] == "collection"
    assert (theirs["outcome"], theirs["reason"]) == ("skipped", "disabled")
