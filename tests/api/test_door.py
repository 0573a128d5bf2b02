"""Who may do what: every address with every kind of token, and every refusal in one shape."""

from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import asyncpg
import httpx
import pytest
from arq.connections import ArqRedis
from structlog.testing import capture_logs

from app.core.enums import Scope
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.store import tenancy
from app.store.db import Pool
from app.store.orgs import alert_channels, orgs, webhooks
from app.store.orgs.alert_channels import NewAlertChannel
from app.web.api.endpoint import Endpoint
from app.web.api.table import ENDPOINTS
from app.web.api.webhooks import WEBHOOK
from app.web.context import TOKEN_FAILURES
from tests.api.clients import (
    ODDS,
    Org,
    Visitor,
    fields,
    had_item,
    had_run,
    own_secret,
    preset,
    problem,
    running,
    stored_source,
    wares,
)
from tests.clock import NOON, SettableClock
from tests.configs import NO_POSTGRES, config_for

# Parts of paths that name something of one organisation; others may have theirs of that name.
OWNED = ("{preset_id}", "{run_id}", "{webhook_id}", "{channel_id}", "{name}", "{secret}")
NOBODYS = "00000000-0000-4000-8000-00000000dead"
OF_ACME = "00000000-0000-4000-8000-00000000acce"
BODIES: dict[str, Any] = {
    "change_schedule": {"notify": True},
    "change_schedule_of_collection": {"notify": True},
    "pause_schedule": {"note": "x"},
    "pause_schedule_of_collection": {"note": "x"},
    "create_preset": {"name": "new", "sources": [{"source": "bet9ja"}]},
    "change_preset": {"name": "changed"},
    "create_source": {"recipe": wares("fresh")},
    "change_source": {"recipe": wares("wares_of_acme")},
    "try_recipe": {"recipe": wares()},
    "put_secret": {"value": "another"},
    "create_webhook": {"url": "https://example.com/in"},
    "pause_webhook": {"note": "x"},
    "replay_webhook": {"after": "0"},
    "create_channel": {"label": "new", "url": "ifttt://key@event"},
}
# This client would wait for the end of a stream; test_changes.py reads it.
ANSWERED = [one for one in ENDPOINTS if "text/event-stream" not in one.stream and not one.operator]
every_address = pytest.mark.parametrize("endpoint", ANSWERED, ids=lambda one: one.name)


async def visit_address(
    visitor: Visitor, endpoint: Endpoint, *, preset_id: str = NOBODYS, run_id: str = NOBODYS
) -> httpx.Response:
    """Ask for what this address is for."""
    named = {
        "key": "12:00:00",
        "what": "items",
        "name": "wares_of_acme",
        "secret": "OF_ACME",
        "collection": "default",
    }
    ids = {"preset_id": preset_id, "run_id": run_id}
    ids |= dict.fromkeys(("webhook_id", "channel_id"), OF_ACME if run_id != NOBODYS else NOBODYS)
    path = endpoint.path.format(**ids, **named)
    asked: dict[str, Any] = {}
    if endpoint.name in BODIES:
        asked["json"] = BODIES[endpoint.name]
    if endpoint.name == "preview_schedule":
        asked["params"] = {"cron": "@daily"}
    return await visitor(endpoint.method, path, **asked)


async def furnish(visitor: Visitor, pool: Pool, org: Org) -> tuple[str, str]:
    """Give an organisation a preset, chosen, a run, an item, a source and a secret.

    Returns preset and run.
    """
    mine = await preset(visitor, f"of {org.name}")
    await visitor.patch(preset_id=mine)
    run_id = await had_run(pool, org, NOON)
    await had_item(pool, org, NOON)
    await stored_source(pool, org, "wares_of_acme")
    await own_secret(visitor, "OF_ACME", "s3cr3t-of-acme")
    async with tenancy.org_transaction(pool, org.id) as connection:
        webhook = (UUID(OF_ACME), "https://hooks.example/of-Acme", b"")
        await webhooks.add(connection, org.id, webhook, NOON, f"of {org.name}")
        channel = (UUID(OF_ACME), org.id, f"of {org.name}", "ifttt", b"", (), ())
        await alert_channels.add(connection, NewAlertChannel(*channel), NOON, f"of {org.name}")
    return mine, str(run_id)


@every_address
async def test_without_a_token_that_works_every_address_is_shut_in_the_same_words(
    api: httpx.AsyncClient, org: Org, pool: Pool, clock: SettableClock, endpoint: Endpoint
) -> None:
    secret = org.secrets[Scope.ADMIN]
    soon = clock() + timedelta(seconds=1)
    expired = await tokens.create_token(
        pool, TokenRequest("Acme", "x", Scope.ADMIN, soon), clock(), by="t"
    )
    revoked = org.secrets[Scope.OPERATE]
    await orgs.revoke(pool, UUID(revoked[3:35]), clock())
    clock.pass_by(seconds=2)
    wrong = f"{secret[:-1]}{'A' if secret[-1] != 'A' else 'B'}"

    answers = [
        await visit_address(Visitor(api, one), endpoint)
        for one in (None, "", "x", wrong, expired, revoked)
        # Without the header, a page has this address.
        if one is not None or endpoint.name != "list_collections"
    ]

    assert len({problem(answer, 401)["detail"] for answer in answers}) == 1
    assert all(answer.headers["www-authenticate"].startswith("Bearer") for answer in answers)


@every_address
@pytest.mark.parametrize("scope", list(Scope))
async def test_a_token_does_what_its_scope_allows_and_is_told_which_it_needs(
    visitor: Visitor, org: Org, pool: Pool, scope: Scope, endpoint: Endpoint
) -> None:
    mine, run_id = await furnish(visitor, pool, org)
    spare = await preset(visitor, "spare")
    wanted = spare if endpoint.method == "DELETE" else mine

    answer = await visit_address(
        replace(visitor, secret=org.secrets[scope]), endpoint, preset_id=wanted, run_id=run_id
    )

    if scope.allows(endpoint.scope):
        ended = endpoint.name == "cancel_run"  # the run of the test is over
        assert answer.status_code == (409 if ended else endpoint.status), answer.text
    else:
        assert endpoint.scope.value in problem(answer, 403)["detail"]


def test_reading_needs_read_deeds_operate_and_choosing_admin() -> None:
    deeds = {
        f"{prefix}/{deed}"
        for prefix in ("/collection", "/collections/{collection}")
        for deed in ("run", "schedule/pause", "schedule/resume")
    }
    deeds |= {f"{WEBHOOK}/{deed}" for deed in ("pause", "resume", "test", "replay")}
    deeds |= {f"/collection/runs/{{run_id}}/{deed}" for deed in ("cancel", "retry")}
    deeds |= {"/collection/channels/{channel_id}/test"}

    for endpoint in ANSWERED:
        if endpoint.method == "GET":
            assert endpoint.scope is Scope.READ
        else:
            deed = endpoint.path in deeds or endpoint.path.endswith("/dry-run")
            assert endpoint.scope is (Scope.OPERATE if deed else Scope.ADMIN)


@every_address
async def test_no_address_shows_or_touches_another_organisations_rows(
    visitor: Visitor, org: Org, other: Org, pool: Pool, endpoint: Endpoint
) -> None:
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])
    mine, run_id = await furnish(visitor, pool, org)
    await had_operator_rows(pool)
    before = await rows_of(pool, org)

    answer = await visit_address(stranger, endpoint, preset_id=mine, run_id=run_id)

    result = answer.text.replace(run_id, "", 1) if answer.status_code == 404 else answer.text
    result = result.replace(mine, "", 1) if answer.status_code == 404 else result
    asked_for = (answer.request.content.decode(), answer.request.url.path)
    for secret in (mine, run_id, "of Acme", '12:00:00"', str(org.id), "of the house", "s3cr3t"):
        assert secret not in result
    for name in ("wares_of_acme", "OF_ACME"):
        assert name not in result or any(name in said for said in asked_for)
    if any(part in endpoint.path for part in OWNED) and endpoint.name != "put_secret":
        problem(answer, 404)
    assert await rows_of(pool, org) == before


async def had_operator_rows(pool: Pool) -> None:
    """What no organisation owns, and none may leaf through."""
    await pool.execute(
        "INSERT INTO runs (execution_id, job, trigger, params, status, attempt, losses,"
        " max_attempts, timeout_seconds, lease_epoch, queued_at, stats, error_message)"
        " VALUES (gen_random_uuid(), 'x', 'manual', '{}', 'failure', 1, 0, 3, 60, 0, now(), '{}',"
        " 'of the house')"
    )
    await pool.execute(
        "INSERT INTO items (source, key, content_hash, first_seen, last_seen, changed_at)"
        " VALUES ('x', 'of the house', '', now(), now(), now())"
    )


async def rows_of(pool: Pool, org: Org) -> list[str]:
    """All that the organisation has, as text."""
    tables = (
        "schedules",
        "runs",
        "items",
        "collection_presets",
        "schedule_edits",
        "org_sources",
        "org_secrets",
    )
    found: list[str] = []
    for table in tables:
        rows = await pool.fetch(f"SELECT t::text FROM {table} t WHERE org_id = $1", org.id)  # noqa: S608 - names of our own
        found += sorted(row["t"] for row in rows)
    return found


async def test_the_tokens_of_a_disabled_organisation_open_nothing(
    visitor: Visitor, org: Org, pool: Pool, clock: SettableClock
) -> None:
    await orgs.set_disabled(pool, org.id, clock())

    problem(await visitor("GET", "/collection/runs"), 401)


async def test_wrong_tokens_are_counted_by_address_and_a_right_one_still_gets_in(
    visitor: Visitor, redis: ArqRedis
) -> None:
    stranger = replace(visitor, secret="rc_wrong")  # noqa: S106 - it opens nothing
    for _ in range(TOKEN_FAILURES):
        problem(await stranger("GET", "/collection/runs"), 401)

    answer = await stranger("GET", "/collection/runs")

    problem(answer, 429)
    assert 0 < int(answer.headers["retry-after"]) <= 60
    assert (await visitor("GET", "/collection/runs")).status_code == 200
    assert await redis.keys("rollcall:api_refused:*")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/collection/nowhere", 404),
        ("GET", "/collection/schedule/", 404),
        ("GET", "/collection/", 404),
        ("GET", "/collection/presets/a%0Ab", 404),
        ("PUT", "/collection/schedule", 405),
        ("OPTIONS", "/collection/runs", 405),
        ("POST", "/collection/items", 405),
        ("GET", "/collection/run", 405),
        ("POST", "/collections", 405),
        ("OPTIONS", "/collections", 405),
    ],
)
async def test_addresses_and_methods_that_are_none_are_refused_in_the_same_shape(
    visitor: Visitor, method: str, path: str, status: int
) -> None:
    answer = await visitor(method, path)

    problem(answer, status)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert status != 405 or answer.headers["allow"]


async def test_head_is_get_without_the_body(visitor: Visitor) -> None:
    answer = await visitor("HEAD", "/collection/schedule")

    assert (answer.status_code, answer.headers["etag"]) == (200, '"0"')


async def test_while_postgres_is_away_the_answer_is_503_and_says_when_to_come_again(
    redis: ArqRedis, redis_url: str, clock: SettableClock
) -> None:
    del redis
    async with running(config_for(NO_POSTGRES, redis_url), clock) as client:
        answer = await Visitor(client, f"rc_{'0' * 32}_{'x' * 43}")("GET", "/collection/runs")

    problem(answer, 503)
    assert answer.headers["retry-after"]
    assert "127.0.0.1" not in answer.text


async def test_under_a_role_that_bypasses_row_level_security_the_api_stays_shut(
    dsn: str, redis_url: str, clock: SettableClock, org: Org
) -> None:
    superuser = dsn.replace("//rollcall@", "//postgres@", 1)
    with capture_logs() as lines:
        async with running(config_for(superuser, redis_url), clock) as client:
            answer = await Visitor(client, org.secrets[Scope.ADMIN])("GET", "/collection/runs")

    assert "BYPASSRLS" in problem(answer, 503)["detail"]
    assert "row_security.bypassed" in [line["event"] for line in lines]


async def test_a_value_that_the_database_cannot_keep_is_no_fault_of_the_server(
    visitor: Visitor,
) -> None:
    wanted = {"name": "a\x00b", "sources": [{"source": "bet9ja"}]}
    answer = await visitor("POST", "/collection/presets", json=wanted)

    problem(answer, 422)


@pytest.mark.parametrize(
    ("path", "named"),
    [
        ("/collection/items?source=a%00", "source"),
        ("/collection/exports/items?after=9223372036854775808", "after"),
        ("/collection/exports/items?after=-1", "after"),
        ("/collection/exports/changes?after=1.9223372036854775808", "after"),
        ("/collection/changes?after=-1", "after"),
        ("/collection/changes?after=1_0", "after"),
    ],
)
async def test_a_parameter_that_the_database_cannot_keep_is_named(
    visitor: Visitor, path: str, named: str
) -> None:
    assert fields(await visitor("GET", path)) == [named]


async def test_nothing_has_a_name_with_a_nul(visitor: Visitor) -> None:
    problem(await visitor("GET", "/collection/items/%00/history"), 404)


async def test_a_token_that_is_used_is_remembered(visitor: Visitor, pool: Pool, org: Org) -> None:
    await visitor("GET", "/collection/runs")

    assert [one.last_used_at for one in await orgs.tokens(pool, org.id)].count(NOON) == 1


async def test_a_statement_that_takes_too_long_is_503_not_a_traceback(
    visitor: Visitor, dsn: str, org: Org
) -> None:
    blocker = await asyncpg.connect(dsn, server_settings={"rollcall.house": "on"})
    try:
        async with blocker.transaction():
            await blocker.execute("SELECT 1 FROM organizations WHERE id = $1 FOR UPDATE", org.id)
            answer = await visitor.patch(preset_id=ODDS)
    finally:
        await blocker.close()

    problem(answer, 503)
