"""A POST with a key is made once, and runs are cancelled and retried."""

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, cast
from uuid import UUID

import httpx
import pytest

from app.core.enums import Scope
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Connection, Pool
from app.store.orgs import idempotency, leaving
from app.web.api import auth
from tests.api.clients import ODDS, Org, Visitor, fields, had_run, operator_with, problem
from tests.clock import NOON, SettableClock

JOB = "poll_news"
PRESETS = "/collection/presets"
PRESET: dict[str, Any] = {"name": "mine", "sources": [{"source": "bet9ja"}]}


async def post(who: Visitor, path: str, key: str, **asked: Any) -> httpx.Response:
    return await who("POST", path, headers={"idempotency-key": key}, **asked)


async def test_a_request_that_is_sent_again_is_made_once_and_answered_alike(
    visitor: Visitor,
) -> None:
    first = await post(visitor, PRESETS, "k", json=PRESET)
    again = await post(visitor, PRESETS, "k", json=PRESET)
    without = await visitor("POST", PRESETS, json=PRESET)

    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert [again.headers[name] for name in ("etag", "location")] == [
        first.headers[name] for name in ("etag", "location")
    ]
    assert again.headers["idempotency-replayed"] == "true"
    assert "idempotency-replayed" not in first.headers
    problem(without, 409)  # the name is taken


async def test_a_key_of_another_request_is_refused(visitor: Visitor) -> None:
    await post(visitor, PRESETS, "k", json=PRESET)

    other = await post(visitor, PRESETS, "k", json=PRESET | {"name": "other"})

    assert fields(other) == ["idempotency-key"]


async def test_a_refused_request_leaves_the_key_free(visitor: Visitor) -> None:
    refused = await post(visitor, "/collection/run", "k")
    await visitor.patch(preset_id=ODDS)

    made = await post(visitor, "/collection/run", "k")

    problem(refused, 409)
    assert made.status_code == 202


async def test_while_the_first_request_is_under_way_the_second_is_told_so(
    visitor: Visitor, pool: Pool
) -> None:
    await post(visitor, PRESETS, "k", json=PRESET)
    await pool.execute("UPDATE idempotency_keys SET status = NULL, created_at = now()")
    under_way = await post(visitor, PRESETS, "k", json=PRESET)
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '2 minutes'")

    after_a_crash = await post(visitor, PRESETS, "k", json=PRESET)

    assert "under way" in problem(under_way, 409)["detail"]
    assert "already exists" in problem(after_a_crash, 409)["detail"]  # it was made again
    assert await pool.fetchval("SELECT count(*) FROM idempotency_keys") == 0


@pytest.mark.parametrize(
    ("path", "body"),
    [(PRESETS, PRESET), ("/collection/webhooks", {"url": "https://example.com/in"})],
)
async def test_what_was_made_is_not_made_again_though_its_answer_was_lost(
    visitor: Visitor,
    pool: Pool,
    monkeypatch: pytest.MonkeyPatch,
    path: str,
    body: dict[str, Any],
) -> None:
    async def lost(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "keep", lost)
        unanswered = await post(visitor, path, "k", json=body)
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '2 minutes'")
    made = (await visitor("GET", path)).json()

    again = await post(visitor, path, "k", json=body)

    assert unanswered.status_code == 503
    assert "was made" in problem(again, 409)["detail"]
    assert (await visitor("GET", path)).json() == made


async def test_what_an_operator_made_is_not_made_again_though_its_answer_was_lost(
    visitor: Visitor, org: Org, clock: SettableClock, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run of their own job, a run of a collection, a token and an organisation."""
    declared = DeclaredSchedule(JOB, JOB, Schedule.every(3600, name=JOB), Policies())
    await edit.register(pool, [declared], NOON)
    await visitor.patch(preset_id=ODDS)
    operator = await operator_with(visitor.client, pool, clock, Scope.ADMIN)
    requests: list[tuple[str, dict[str, Any]]] = [
        (f"/operator/jobs/{JOB}/run", {}),
        (f"/operator/jobs/collection:{org.id}/run", {}),
        ("/operator/tokens", {"label": "deploys", "scope": "read"}),
        ("/operator/organizations", {"name": "New"}),
    ]

    async def lost(*_: object) -> None:
        raise ConnectionError

    with monkeypatch.context() as broken:
        broken.setattr(idempotency, "keep", lost)
        for path, body in requests:
            assert (await post(operator, path, path, json=body)).status_code == 503
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '2 minutes'")
    await pool.execute("UPDATE runs SET status = 'success'")
    made = await pool.fetchrow(MADE)

    answers = [await post(operator, path, path, json=body) for path, body in requests]

    assert ["was made" in problem(one, 409)["detail"] for one in answers] == [True] * 4
    assert await pool.fetchrow(MADE) == made


MADE = """
SELECT (SELECT count(*) FROM runs), (SELECT count(*) FROM api_tokens),
       (SELECT count(*) FROM organizations)
"""


async def test_a_request_of_an_organisation_that_is_deleted_meanwhile_is_a_conflict(
    visitor: Visitor, org: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    authorize = auth.authorize

    async def then_deleted(*arguments: Any) -> Any:
        allowed = await authorize(*arguments)
        await leaving.delete(pool, org.id, [])
        return allowed

    monkeypatch.setattr(auth, "authorize", then_deleted)

    problem(await visitor("POST", PRESETS, json=PRESET), 409)


async def test_a_key_that_is_freed_while_it_is_asked_for_is_reserved(pool: Pool, org: Org) -> None:
    async with pool.acquire() as first, pool.acquire() as second:
        assert await idempotency.reserve(first, org.id, "k", b"1") is None
        freed = AfterReserving(second, lambda: idempotency.release(first, org.id, "k"))

        mine = await idempotency.reserve(cast("Connection", freed), org.id, "k", b"2")
        later = await idempotency.reserve(first, org.id, "k", b"3")

    assert mine is None
    assert later is not None
    assert later.fingerprint == b"2"


class AfterReserving:
    """A connection that calls `then` once, after the first attempt to reserve a key."""

    def __init__(self, connection: Connection, then: Callable[[], Awaitable[None]]) -> None:
        self._connection, self._then = connection, [then]

    def __getattr__(self, name: str) -> Any:
        return getattr(self._connection, name)

    async def fetchval(self, *arguments: Any) -> Any:
        value = await self._connection.fetchval(*arguments)
        if self._then:
            await self._then.pop()()
        return value


async def test_keys_are_an_organisations_own_and_bounded(
    visitor: Visitor, other: Org, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])
    mine = await post(visitor, PRESETS, "k", json=PRESET)
    theirs = await post(stranger, PRESETS, "k", json=PRESET)
    monkeypatch.setattr(idempotency, "MAX_KEYS", 1)
    too_many = await post(visitor, PRESETS, "k2", json=PRESET | {"name": "b"})
    await pool.execute("UPDATE idempotency_keys SET created_at = now() - interval '25 hours'")

    assert mine.json()["id"] != theirs.json()["id"]
    problem(too_many, 429)
    assert (await post(visitor, PRESETS, "k2", json=PRESET | {"name": "b"})).status_code == 201
    assert fields(await post(visitor, PRESETS, "x" * 201, json=PRESET)) == ["idempotency-key"]


async def test_the_operators_requests_are_made_once_too(
    visitor: Visitor, pool: Pool, clock: SettableClock
) -> None:
    operator = await operator_with(visitor.client, pool, clock, Scope.ADMIN)
    first = await post(operator, "/operator/organizations", "k", json={"name": "Fresh"})
    again = await post(operator, "/operator/organizations", "k", json={"name": "Fresh"})
    mine = await post(visitor, PRESETS, "k", json=PRESET)  # the same key of another owner

    assert (first.status_code, again.json()) == (201, first.json())
    assert mine.status_code == 201
    assert "idempotency-replayed" not in mine.headers


async def test_an_answer_with_a_secret_is_kept_so_that_only_its_token_can_read_it(
    visitor: Visitor, pool: Pool, clock: SettableClock
) -> None:
    operator = await operator_with(visitor.client, pool, clock, Scope.ADMIN)
    other = await operator_with(visitor.client, pool, clock, Scope.ADMIN)
    first = await post(operator, "/operator/tokens", "k", json={"label": "x"})

    again = await post(operator, "/operator/tokens", "k", json={"label": "x"})
    spelt = {"idempotency-key": "k", "authorization": f"bearer  {operator.secret}"}
    respelt = await operator.client.post("/operator/tokens", headers=spelt, json={"label": "x"})
    stranger = await post(other, "/operator/tokens", "k", json={"label": "x"})
    kept = await pool.fetchval("SELECT t::text FROM idempotency_keys t")

    assert again.json() == respelt.json() == first.json()
    assert first.json()["token"].startswith("rc_")
    assert first.json()["token"] not in kept
    assert "another token" in problem(stranger, 409)["detail"]
    assert await pool.fetchval("SELECT count(*) FROM api_tokens WHERE label = 'x'") == 1


async def test_an_open_run_is_cancelled_and_one_that_has_ended_is_not(
    visitor: Visitor, org: Org, pool: Pool
) -> None:
    await visitor.patch(preset_id=ODDS)
    run = (await visitor("POST", "/collection/run")).json()["run_id"]

    cancelled = await visitor("POST", f"/collection/runs/{run}/cancel")
    again = await visitor("POST", f"/collection/runs/{run}/cancel")

    assert cancelled.json()["status"] == "cancelled"
    assert cancelled.json()["error_message"] == "by Acme/admin"
    problem(again, 409)
    acts = await pool.fetch("SELECT by, job, execution_id, org_id FROM audit_log ORDER BY id")
    act = ("Acme/admin", f"collection:{org.id}", UUID(run), org.id)
    assert [tuple(row) for row in acts] == [act, act]  # requested and cancelled


async def test_a_run_that_has_ended_is_retried_and_an_open_one_is_not(
    visitor: Visitor, org: Org, other: Org, pool: Pool
) -> None:
    await visitor.patch(preset_id=ODDS)
    ended = await had_run(pool, org, NOON, "failure")

    retried = await visitor("POST", f"/collection/runs/{ended}/retry")
    open_ = retried.json()["run_id"]
    again = await visitor("POST", f"/collection/runs/{open_}/retry")
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])

    assert (retried.status_code, open_ != str(ended)) == (202, True)
    assert problem(again, 409)["blocking_run_id"] == open_
    for deed in ("cancel", "retry"):
        problem(await stranger("POST", f"/collection/runs/{open_}/{deed}"), 404)


async def test_a_deferred_run_says_until_when(visitor: Visitor, org: Org, pool: Pool) -> None:
    run = await had_run(pool, org, NOON, "queued")
    await pool.execute("UPDATE runs SET not_before = $1, deferrals = 1", NOON)

    row = (await visitor("GET", f"/collection/runs/{run}")).json()

    assert row["not_before"] == row["deferred_until"] == "2026-09-05T12:00:00Z"
