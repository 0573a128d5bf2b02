"""Several collections of one organisation, each with a schedule of its own."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from app.core.collection_keys import schedule_key
from app.core.enums import Scope
from app.store.db import Pool
from app.store.orgs import selections
from app.store.schedules import decisions
from tests.api.clients import NEWS, ODDS, Org, Visitor, problem
from tests.clock import SettableClock

NIGHTLY = "/collections/nightly/schedule"
CHOICE: dict[str, Any] = {"preset_id": NEWS, "cron_expression": "0 2 * * *", "enabled": True}
WAITING = """
INSERT INTO runs (execution_id, job, org_id, trigger, params, status, attempt, losses, max_attempts,
                  timeout_seconds, lease_epoch, queued_at, created_at, stats, duration_seconds)
SELECT $1, 'collection', $2, 'manual', '{}', $3, 1, 0, 3, 60, 0, $4, $4, '{}', $5
"""


async def test_each_has_its_own_schedule_and_the_old_address_is_the_default_one(
    visitor: Visitor,
) -> None:
    await visitor.patch(preset_id=ODDS, cron_expression="0 9 * * *", enabled=True)
    made = await visitor("PATCH", NIGHTLY, json=CHOICE)

    listed = (await visitor("GET", "/collections")).json()["collections"]

    assert made.status_code == 200, made.text
    assert [(one["name"], one["schedule"]["cron_expression"]) for one in listed] == [
        ("default", "0 9 * * *"),
        ("nightly", "0 2 * * *"),
    ]
    assert (
        await visitor("GET", "/collections/default/schedule")
    ).json() == await visitor.schedule()
    assert (await visitor.schedule())["preset_id"] == ODDS


async def test_pause_edits_and_retirement_are_those_of_one_collection(visitor: Visitor) -> None:
    await visitor.patch(preset_id=ODDS, enabled=True)
    await visitor("PATCH", NIGHTLY, json=CHOICE)
    await visitor("POST", f"{NIGHTLY}/pause", json={"note": "a rest"})

    paused = (await visitor("GET", f"{NIGHTLY}/pause")).json()["paused"]
    other = (await visitor("GET", "/collection/schedule/pause")).json()["paused"]
    edits = (await visitor("GET", f"{NIGHTLY}/edits")).json()["edits"]
    await visitor("DELETE", NIGHTLY)
    listed = (await visitor("GET", "/collections")).json()["collections"]

    assert (paused, other) == (True, False)
    assert [edit["action"] for edit in edits] == ["paused", "created"]
    assert [one["name"] for one in listed] == ["default"]


async def test_runs_are_requested_and_listed_by_collection(visitor: Visitor) -> None:
    await visitor.patch(preset_id=ODDS)
    await visitor("PATCH", NIGHTLY, json=CHOICE)

    first = await visitor("POST", "/collections/nightly/run")
    second = await visitor("POST", "/collection/run")
    again = await visitor("POST", "/collections/nightly/run")
    runs = (await visitor("GET", "/collection/runs")).json()["runs"]
    nightly = (await visitor("GET", "/collection/runs?collection=nightly")).json()["runs"]

    assert (first.status_code, second.status_code) == (202, 202)
    assert problem(again, 409)["blocking_run_id"] == first.json()["run_id"]
    assert {run["collection"] for run in runs} == {"default", "nightly"}
    assert [run["id"] for run in nightly] == [first.json()["run_id"]]


async def test_a_run_collects_the_preset_of_its_own_collection(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    await visitor.patch(preset_id=ODDS)
    await visitor("PATCH", NIGHTLY, json=CHOICE)

    for name, preset in (("default", "odds"), ("nightly", "news")):
        chosen = await selections.read_selection(pool, org.id, schedule_key(org.id, name))
        assert chosen is not None
        assert chosen.preset == preset


async def test_limits_count_over_all_collections(visitor: Visitor, org: Org, pool: Pool) -> None:
    limits = {"max_collections": 2, "runs_per_day": 1}
    await pool.execute("UPDATE organizations SET limits = $2 WHERE id = $1", org.id, limits)
    await visitor.patch(preset_id=ODDS)
    await visitor("PATCH", NIGHTLY, json=CHOICE)

    third = await visitor("PATCH", "/collections/third/schedule", json=CHOICE)
    await visitor("POST", "/collection/run")
    second_run = await visitor("POST", "/collections/nightly/run")

    assert "max_collections" in problem(third, 409)["detail"]
    assert "runs_per_day" in problem(second_run, 429)["detail"]


async def test_a_retired_collection_counts_again_when_it_is_revived(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    await pool.execute(
        "UPDATE organizations SET limits = $2 WHERE id = $1", org.id, {"max_collections": 1}
    )
    await visitor("PATCH", NIGHTLY, json=CHOICE)
    await visitor("DELETE", NIGHTLY)
    await visitor.patch(preset_id=ODDS)

    revived = await visitor("PATCH", NIGHTLY, json=CHOICE)

    assert "max_collections" in problem(revived, 409)["detail"]


@pytest.mark.parametrize("name", ["Nightly", "a" * 61, "a%2Fb", "%0A", "-a", "a:b"])
async def test_a_name_that_is_none_is_not_found(visitor: Visitor, name: str) -> None:
    problem(await visitor("GET", f"/collections/{name}/schedule"), 404)


async def test_who_names_a_collection_wrongly_reads_the_rule_of_names(visitor: Visitor) -> None:
    refused = problem(await visitor("PATCH", "/collections/Nightly/schedule", json=CHOICE), 404)

    assert "[a-z0-9_-]{0,59}" in refused["detail"]


async def test_a_collection_is_not_seen_by_another_organisation(
    visitor: Visitor, other: Org
) -> None:
    await visitor("PATCH", NIGHTLY, json=CHOICE)
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])

    assert (await stranger("GET", "/collections")).json() == {"collections": []}
    assert (await stranger("GET", NIGHTLY)).json()["id"] is None


async def test_the_page_of_the_same_address_is_for_browsers(api: httpx.AsyncClient) -> None:
    page = await api.get("/collections")

    assert (page.status_code, page.headers["location"]) == (303, "/login?next=%2Fcollections")


async def test_runs_that_wait_take_the_organisations_place_one_after_the_other(
    pool: Pool, org: Org, other: Org, clock: SettableClock
) -> None:
    at = clock()
    for minutes, status, seconds in (
        (120, "queued", None),  # of no weight any more
        (10, "success", 70.0),  # not the last one
        (5, "success", 10.0),
        (1, "running", None),
    ):
        since = at - timedelta(minutes=minutes)
        await pool.execute(WAITING, uuid4(), org.id, status, since, seconds)
    waiting: list[UUID] = []
    for owner in (org, org, org, other):
        waiting.append(uuid4())
        await pool.execute(WAITING, waiting[-1], owner.id, "queued", at, None)

    places = await decisions.last_durations(pool, waiting)

    assert sorted(places[run] for run in waiting[:3]) == [20.0, 30.0, 40.0]
    assert places[waiting[3]] == 0.0


async def test_a_requested_run_may_take_the_minutes_of_its_organisation(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    await pool.execute(
        "UPDATE organizations SET limits = $2 WHERE id = $1", org.id, {"max_minutes": 7}
    )
    await visitor.patch(preset_id=ODDS)

    await visitor("POST", "/collection/run")

    assert await pool.fetchval("SELECT timeout_seconds FROM runs") == 7 * 60
