"""Which schedules are read as due, in which order, and whose organisation disables them."""

import asyncio
from datetime import timedelta

import pytest

from app.core.enums import COLLECTION_TASK
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.schedules import schedule_rows
from app.store.schedules.schedule_rows import DueQuery, ScheduleState
from tests.clock import NOON
from tests.dispatch import orgs

LATER = NOON + timedelta(hours=1)


@pytest.fixture
async def schedules(pool: Pool) -> Pool:
    """Two organisations' schedules and two built-in ones, of which the later named is due first."""
    crons = [Schedule.cron(f"{minute} * * * *") for minute in (20, 10)]
    await orgs.found(pool, NOON, crons, Policies())
    built_in = [
        DeclaredSchedule(key, "job", schedule, Policies())
        for key, schedule in zip(("a", "b"), crons, strict=True)
    ]
    await edit.register(pool, built_in, NOON)
    return pool


async def locked(pool: Pool, due: DueQuery) -> list[ScheduleState]:
    async with pool.acquire() as connection, connection.transaction():
        return await schedule_rows.lock_due(connection, due)


@pytest.mark.parametrize("limit", [1, 4])
async def test_the_longest_due_come_first_the_built_in_ones_apart(
    schedules: Pool, limit: int
) -> None:
    due = DueQuery(LATER, limit)

    of_orgs = [state.key for state in await locked(schedules, due)]
    unlocked = [key for _, key in await schedule_rows.due_keys(schedules, due)]
    built_in = [key for _, key in await schedule_rows.due_built_in(schedules, due)]

    assert of_orgs == unlocked == [orgs.key(1), orgs.key(0)][:limit]
    assert built_in == ["b", "a"][:limit]


async def test_those_that_another_session_has_locked_are_left_out(schedules: Pool) -> None:
    due = DueQuery(LATER, 4)
    async with schedules.acquire() as connection, connection.transaction():
        for key in ("b", orgs.key(1)):
            await schedule_rows.lock(connection, key)

        built_in = await asyncio.wait_for(schedule_rows.due_built_in(schedules, due), 5)
        of_orgs = await asyncio.wait_for(locked(schedules, due), 5)

    assert [key for _, key in built_in] == ["a"]
    assert [state.key for state in of_orgs] == [orgs.key(0)]


async def test_what_is_due_at_this_instant_is_due(schedules: Pool) -> None:
    at = NOON + timedelta(minutes=10)
    before, due = DueQuery(at - timedelta(microseconds=1), 4), DueQuery(at, 4)

    assert [state.key for state in await locked(schedules, due)] == [orgs.key(1)]
    assert [key for _, key in await schedule_rows.due_keys(schedules, due)] == [orgs.key(1)]
    assert [key for _, key in await schedule_rows.due_built_in(schedules, due)] == ["b"]
    assert await schedule_rows.any_due(schedules, due)
    assert not await schedule_rows.any_due(schedules, before)


async def test_a_built_in_schedule_that_is_due_makes_no_organisation_look_due(
    schedules: Pool,
) -> None:
    await schedules.execute("UPDATE schedules SET due_at = NULL WHERE org_id IS NOT NULL")

    assert not await schedule_rows.any_due(schedules, DueQuery(LATER, 4))
    assert await locked(schedules, DueQuery(LATER, 4)) == []


async def test_an_organisation_that_is_disabled_disables_its_own_schedules_only(
    schedules: Pool,
) -> None:
    await schedules.execute(
        "UPDATE organizations SET disabled_at = now() WHERE id = $1", orgs.org(0)
    )
    keys = [orgs.key(0), orgs.key(1), "a", "b"]

    due = await locked(schedules, DueQuery(LATER, 4))
    listed = await schedule_rows.all_of(schedules)
    ones = [await schedule_rows.one(schedules, key) for key in keys]
    async with schedules.acquire() as connection, connection.transaction():
        lone = [await schedule_rows.lock(connection, key) for key in keys]
    stamped = await schedule_rows.stamped(schedules, keys)

    assert [(state.key, state.enabled) for state in due] == [
        (orgs.key(1), True),
        (orgs.key(0), False),
    ]
    assert {state.key: state.enabled for state in listed} == {
        key: key != orgs.key(0) for key in keys
    }
    assert [state and state.enabled for state in ones] == [False, True, True, True]
    assert [state and state.enabled for state in lone] == [False, True, True, True]
    assert {state.key: state.enabled for state in stamped} == {"a": True, "b": True}


async def test_only_schedules_of_the_jobs_asked_for_are_due_and_none_that_is_set_aside(
    schedules: Pool,
) -> None:
    aside = [f"{orgs.key(1)} 1", "b 1"]
    some = DueQuery(LATER, 4, [COLLECTION_TASK, "job"], aside)
    others = DueQuery(LATER, 4, ["other"])
    all_aside = DueQuery(LATER, 4, None, [*aside, f"{orgs.key(0)} 1", "a 1"])

    assert await schedule_rows.any_due(schedules, some)
    assert [state.key for state in await locked(schedules, some)] == [orgs.key(0)]
    assert [key for _, key in await schedule_rows.due_keys(schedules, some)] == [orgs.key(0)]
    assert [key for _, key in await schedule_rows.due_built_in(schedules, some)] == ["a"]
    for none in (others, all_aside):
        assert not await schedule_rows.any_due(schedules, none)
        assert await locked(schedules, none) == []
        assert await schedule_rows.due_keys(schedules, none) == []
        assert await schedule_rows.due_built_in(schedules, none) == []
