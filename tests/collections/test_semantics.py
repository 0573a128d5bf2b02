"""When a collection runs: never beside itself, not while its organisation is disabled."""

from datetime import timedelta
from typing import Any

from app import ledger, orgs_cli
from app.resources import House
from app.scheduling.schedule import Schedule
from app.store import orgs
from app.store.db import Pool
from tests import inhouse
from tests.collections import desk
from tests.collections.desk import Client
from workers import ring

MINUTE = Schedule.every(60)


async def ticks(pool: Pool, one: Client) -> list[dict[str, Any]]:
    sql = "SELECT * FROM ticks WHERE schedule_id = $1 ORDER BY scheduled_for"
    return [dict(row) for row in await pool.fetch(sql, one.schedule_id)]


def outcomes(rows: list[dict[str, Any]]) -> list[tuple[str, str | None]]:
    return [(row["outcome"], row["reason"]) for row in rows]


async def test_a_scheduled_run_belongs_to_its_schedules_organisation(house: House) -> None:
    acme = await desk.client(house, schedule=MINUTE)
    (queued,) = await ledger.ring(house.pool, acme.key, MINUTE.next(house.clock()))

    run = await acme.run(queued.run_id)

    assert (run["org_id"], run["trigger"], run["status"]) == (acme.org_id, "scheduled", "success")
    assert run["params"]["preset"] == "odds"
    assert [one["source"] for one in run["params"]["sources"]] == ["sportybet", "betpawa", "bet9ja"]


async def test_a_tick_whose_collection_still_runs_is_skipped_and_never_queued(
    house: House,
) -> None:
    acme = await desk.client(house, schedule=MINUTE)
    first = MINUTE.next(house.clock())
    (under_way,) = await ledger.ring(house.pool, acme.key, first)

    again = await ledger.ring(house.pool, acme.key, MINUTE.next(first))

    rows = await ticks(house.pool, acme)
    assert again == []
    assert outcomes(rows) == [("ran", None), ("skipped", "overlap")]
    assert rows[1]["blocking_run_id"] == under_way.run_id


async def test_a_run_by_hand_is_in_the_way_of_a_tick_too(house: House) -> None:
    acme = await desk.client(house, schedule=MINUTE)
    by_hand = await acme.queue()

    await ledger.ring(house.pool, acme.key, MINUTE.next(house.clock()))

    (row,) = await ticks(house.pool, acme)
    assert (row["reason"], row["blocking_run_id"]) == ("overlap", by_hand)


async def test_a_tick_up_to_an_hour_late_still_runs(house: House) -> None:
    hourly = Schedule.every(10_000)
    acme = await desk.client(house, schedule=hourly)
    due = hourly.next(house.clock())

    queued = await ledger.ring(house.pool, acme.key, due + timedelta(minutes=59))

    assert len(queued) == 1
    assert outcomes(await ticks(house.pool, acme)) == [("ran", None)]


async def disable(house: House, one: Client) -> None:
    found = await orgs.one(house.pool, one.org_id)
    assert found is not None
    await orgs_cli.shut_out(house.pool, found, house.clock())


async def enable(house: House, one: Client) -> None:
    found = await orgs.one(house.pool, one.org_id)
    assert found is not None
    await orgs_cli.let_in(house.pool, found, house.clock())


async def test_a_disabled_organisations_ticks_are_skipped_as_disabled_until_it_is_let_in(
    house: House,
) -> None:
    acme = await desk.client(house, schedule=MINUTE)
    bolt = await desk.client(house, "Bolt", schedule=MINUTE)
    first = MINUTE.next(house.clock())

    await disable(house, acme)
    none = await ledger.ring(house.pool, acme.key, first)
    others = await ledger.ring(house.pool, bolt.key, first)
    house.clock.skew += timedelta(minutes=1)
    await enable(house, acme)
    again = await ledger.ring(house.pool, acme.key, MINUTE.next(MINUTE.next(first)))

    assert (none, len(others), len(again)) == ([], 1, 1)
    assert outcomes(await ticks(house.pool, acme))[0] == ("skipped", "disabled")
    assert outcomes(await ticks(house.pool, acme))[-1] == ("ran", None)


async def test_what_was_due_before_an_organisation_was_disabled_is_not_called_disabled(
    house: House,
) -> None:
    acme = await desk.client(house, schedule=MINUTE)
    house.clock.skew += timedelta(seconds=61)

    await disable(house, acme)

    (row,) = await ticks(house.pool, acme)
    run = await inhouse.run_row(house.pool, row["run_id"])
    assert (row["outcome"], run["status"]) == ("ran", "cancelled")
    assert run["error_message"] == "the organisation is disabled"


async def test_a_schedule_that_its_organisation_switched_off_stays_off_when_it_is_let_in(
    house: House,
) -> None:
    acme = await desk.client(house, schedule=MINUTE)
    await house.pool.execute("UPDATE schedules SET enabled = false")

    await disable(house, acme)
    await enable(house, acme)
    queued = await ledger.ring(house.pool, acme.key, MINUTE.next(house.clock()))

    assert queued == []
    assert outcomes(await ticks(house.pool, acme)) == [("skipped", "disabled")]


async def test_a_run_that_starts_after_its_organisation_was_disabled_asks_nobody(
    house: House,
) -> None:
    acme = await desk.client(house)
    run_id = await acme.queue()
    await orgs.disable(house.pool, acme.org_id, house.clock())

    run = await acme.run(run_id)

    assert (run["status"], run["error_type"]) == ("failure", "OrgDisabled")
    assert run["sources"] == {}


async def test_dispatch_decides_a_due_collection_and_tells_the_queue(house: House) -> None:
    every_second = Schedule.every(1)
    acme = await desk.client(house, schedule=every_second)
    house.clock.skew += timedelta(seconds=3)

    await ring.dispatch({"house": house, "known_jobs": ["collection"]})

    rows = await ticks(house.pool, acme)
    assert rows
    assert rows[-1]["outcome"] == "ran"
    assert (await inhouse.run_row(house.pool, rows[-1]["run_id"]))["job"] == "collection"
