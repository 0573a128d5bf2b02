"""The operator's API: organisations, tokens, limits, usage, jobs and ticks."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.core.enums import Scope
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.orgs import tokens
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.web.api.endpoint import Endpoint
from app.web.api.table import ENDPOINTS
from tests.api.clients import ODDS, Org, Visitor, fields, had_item, operator_with, problem
from tests.clock import NOON, SettableClock

ORGS = "/operator/organizations"
BODIES: dict[str, Any] = {
    "create_organization": {"name": "New"},
    "change_organization": {"limits": {"max_pages": 9}},
    "create_token": {"label": "x"},
    "create_token_of_organization": {"label": "x"},
    "pause_job": {"note": "x"},
    "create_backfill": {
        "job": "x",
        "since": "2026-09-01T00:00:00Z",
        "until": "2026-09-02T00:00:00Z",
    },
}
OPERATORS = [one for one in ENDPOINTS if one.operator and not one.data]


@pytest.fixture
async def operator(api: httpx.AsyncClient, pool: Pool, clock: SettableClock) -> Visitor:
    return await operator_with(api, pool, clock, Scope.ADMIN)


async def ask(who: Visitor, endpoint: Endpoint, org: Org) -> httpx.Response:
    ids = {"run_id": org.id, "backfill_id": org.id, "token_id": org.secrets[Scope.READ][3:35]}
    path = endpoint.path.format(org_id=org.id, key="x", **ids)
    json = {"json": BODIES[endpoint.name]} if endpoint.name in BODIES else {}
    return await who(endpoint.method, path, **json)


@pytest.mark.parametrize("endpoint", OPERATORS, ids=lambda one: one.name)
async def test_it_is_for_operators_of_the_scope_and_not_for_organisations(
    api: httpx.AsyncClient, pool: Pool, clock: SettableClock, org: Org, endpoint: Endpoint
) -> None:
    for secret in org.secrets.values():
        assert (
            "token of the operator"
            in problem(await ask(Visitor(api, secret), endpoint, org), 403)["detail"]
        )
    for scope in Scope:
        answer = await ask(await operator_with(api, pool, clock, scope), endpoint, org)
        if scope.allows(endpoint.scope):
            assert answer.status_code in (endpoint.status, 404), answer.text
        else:
            assert endpoint.scope.value in problem(answer, 403)["detail"]


async def test_an_organisation_is_made_and_gets_a_token_that_works_until_it_is_revoked(
    operator: Visitor,
) -> None:
    made = (await operator("POST", ORGS, json={"name": "Fresh"})).json()
    path = f"{ORGS}/{made['id']}/tokens"
    token = (await operator("POST", path, json={"scope": "admin", "days": 30})).json()
    admin = replace(operator, secret=token["token"])

    works = await admin("GET", "/collections")
    listed = (await operator("GET", path)).json()["tokens"]
    revoked = await operator("DELETE", f"/operator/tokens/{token['id']}")
    again = await operator("DELETE", f"/operator/tokens/{token['id']}")

    assert works.status_code == 200
    assert [(one["id"], one["scope"]) for one in listed] == [(token["id"], "admin")]
    assert listed[0]["last_used_at"] is not None
    assert "token" not in listed[0]
    assert (revoked.status_code, again.status_code) == (204, 404)
    problem(await admin("GET", "/collections"), 401)


async def test_a_new_token_is_answered_with_its_own_id_beside_a_later_one(
    operator: Visitor, pool: Pool, clock: SettableClock
) -> None:
    other = tokens.TokenRequest(None, "of another request", Scope.READ)
    await tokens.create_token(pool, other, clock() + timedelta(seconds=1), by="test")

    made = await operator("POST", "/operator/tokens", json={"label": "mine"})

    assert made.json()["label"] == "mine"
    assert made.json()["token"].startswith(f"rc_{UUID(made.json()['id']).hex}_")
    assert made.headers["location"] == f"/operator/tokens/{made.json()['id']}"


async def test_operators_tokens_are_listed_apart(operator: Visitor, org: Org) -> None:
    own = (await operator("GET", "/operator/tokens")).json()["tokens"]
    theirs = (await operator("GET", f"{ORGS}/{org.id}/tokens")).json()["tokens"]

    assert [(one["org_id"], one["label"]) for one in own] == [(None, "laptop")]
    assert {one["org_id"] for one in theirs} == {str(org.id)}


@pytest.mark.parametrize("minutes", [0, 1e12])
async def test_a_limit_of_minutes_that_no_run_can_have_is_refused(
    operator: Visitor, org: Org, visitor: Visitor, minutes: float
) -> None:
    path = f"/operator/organizations/{org.id}"

    refused = await operator("PATCH", path, json={"limits": {"max_minutes": minutes}})
    edited = await visitor.patch(cron_expression="*/7 * * * *")

    assert edited.status_code == 200, edited.text
    assert fields(refused) == ["limits"]
    assert "10,080" in problem(refused, 422)["detail"]


async def test_limits_are_set_all_or_none_and_taken_back(operator: Visitor, org: Org) -> None:
    path = f"{ORGS}/{org.id}"
    wrong = {"max_pages": 7, "max_nothing": 1}

    refused = await operator("PATCH", path, json={"limits": wrong})
    unchanged = (await operator("GET", path)).json()["limits"]
    changed = (await operator("PATCH", path, json={"limits": {"max_pages": 7}})).json()["limits"]
    back = (await operator("PATCH", path, json={"limits": {"max_pages": None}})).json()["limits"]

    assert fields(refused) == ["limits"]
    assert (unchanged, changed, back) == ({}, {"max_pages": 7.0}, {})


async def test_a_disabled_organisations_tokens_stop_working(
    operator: Visitor, visitor: Visitor, org: Org
) -> None:
    disabled = await operator("PATCH", f"{ORGS}/{org.id}", json={"disabled": True})
    refused = await visitor("GET", "/collections")
    enabled = await operator("PATCH", f"{ORGS}/{org.id}", json={"disabled": False})

    assert disabled.json()["disabled_at"] is not None
    problem(refused, 401)
    assert enabled.json()["disabled_at"] is None
    assert (await visitor("GET", "/collections")).status_code == 200


async def test_usage_is_that_of_the_organisation(
    operator: Visitor, visitor: Visitor, org: Org, pool: Pool
) -> None:
    await had_item(pool, org, NOON)

    usage = (await operator("GET", f"{ORGS}/{org.id}/usage")).json()
    (listed,) = (await operator("GET", ORGS)).json()["organizations"]

    assert usage == (await visitor("GET", "/collection/usage")).json()
    assert (listed["name"], listed["rows"]) == ("Acme", 1)


async def test_jobs_and_ticks_are_those_of_all(
    operator: Visitor, visitor: Visitor, org: Org, pool: Pool
) -> None:
    await visitor.patch(preset_id=ODDS, enabled=True)
    await pool.execute(
        "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)"
        " SELECT id, $1, 1, 'skipped', 'paused', $1 FROM schedules",
        NOON,
    )

    built_in = (await operator("GET", "/operator/jobs")).json()["jobs"]
    (job,) = (await operator("GET", "/operator/jobs?collections=true")).json()["jobs"]
    ticks = await operator("GET", f"/operator/jobs/{job['job']}/ticks?reason=paused")

    assert built_in == []
    assert job["job"] == f"collection:{org.id}"
    assert [(one["outcome"], one["reason"]) for one in ticks.json()["ticks"]] == [
        ("skipped", "paused")
    ]
    problem(await operator("GET", "/operator/jobs/nothing/ticks"), 404)
    named = (await operator("GET", "/operator/ticks", params={"job": job["job"]})).json()["ticks"]
    assert [(one["job"], one["reason"]) for one in named] == [(job["job"], "paused")]
    assert (await operator("GET", "/operator/ticks")).json()["ticks"] == []
    assert fields(await operator("GET", "/operator/ticks?job=nothing")) == ["job"]


async def test_the_ticks_of_all_jobs_are_listed_page_by_page_with_filters(
    operator: Visitor, pool: Pool
) -> None:
    declared = [
        DeclaredSchedule(name, name, Schedule.every(60, name=name), Policies())
        for name in ("poll", "odds")
    ]
    await edit.register(pool, declared, NOON)
    await pool.execute(
        "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)"
        " SELECT id, $1::timestamptz + n * interval '1 minute', 1, 'missed', 'late', $1"
        " FROM schedules, generate_series(1, 3) n",
        NOON,
    )
    found: list[tuple[str, str]] = []
    query: dict[str, Any] = {"limit": 4, "outcome": "missed", "since": NOON.isoformat()}
    while True:
        page = (await operator("GET", "/operator/ticks", params=query)).json()
        found += [(one["scheduled_for"], one["job"]) for one in page["ticks"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]

    assert len(set(found)) == len(found) == 6
    assert {job for _, job in found} == {"poll", "odds"}
    assert [at for at, _ in found] == sorted((at for at, _ in found), reverse=True)
    none = await operator("GET", "/operator/ticks", params={"outcome": "ran"})
    assert none.json() == {"ticks": [], "next_cursor": None}


async def test_a_name_that_is_taken_or_reserved_is_refused(operator: Visitor, org: Org) -> None:
    for name in (org.name, "operator", "<b>"):
        assert fields(await operator("POST", ORGS, json={"name": name})) == ["name"]


async def test_a_collections_run_and_its_retry_are_written_down_with_who_and_why(
    operator: Visitor, visitor: Visitor, org: Org, pool: Pool
) -> None:
    await visitor.patch(preset_id=ODDS, enabled=True)
    (job,) = (await operator("GET", "/operator/jobs?collections=true")).json()["jobs"]

    path = f"/operator/jobs/{job['job']}/run"
    first = (await operator("POST", path, json={"reason": "they asked"})).json()["run_id"]
    again = await operator("POST", path, json={"reason": "once more"})
    await pool.execute("UPDATE runs SET status = 'failure', completed_at = now()")
    retry = f"/operator/runs/{first}/retry"
    second = (await operator("POST", retry, json={"reason": "it failed"})).json()["run_id"]

    entries = await pool.fetch(
        'SELECT action, "by", reason, job, execution_id::text, detail, org_id'
        " FROM audit_log ORDER BY id"
    )
    run = await pool.fetchrow("SELECT * FROM runs WHERE execution_id = $1", UUID(second))
    assert run is not None
    problem(again, 409)
    assert [tuple(entry) for entry in entries] == [
        ("run", "operator/laptop", "they asked", job["job"], first, {}, org.id),
        ("retry", "operator/laptop", "it failed", job["job"], second, {"retry_of": first}, org.id),
    ]
    assert run["requested_by"] == f"operator/laptop (retry of {first})"
