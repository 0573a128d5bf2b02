"""An organisation's alert channels over HTTP: set, tested, removed; their URLs are not shown."""

from dataclasses import replace
from typing import Any

import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.orgs.alert_channels import MAX_CHANNELS
from app.store.db import Pool
from tests.api.clients import Org, Visitor, fields, problem, running
from tests.clock import SettableClock
from tests.configs import config_for

CHANNELS = "/collection/channels"
TOKEN = "c" * 24
SLACK = f"slack://A12345678/B12345678/{TOKEN}"


def wanted(**changes: Any) -> dict[str, Any]:
    return {"label": "team", "url": SLACK} | changes


async def test_a_channel_is_made_tested_and_removed_and_its_url_never_told(
    visitor: Visitor, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    made = await visitor(
        "POST", CHANNELS, json=wanted(collections=["nightly"], severities=["failure"])
    )
    path = made.headers["location"]
    tested = await visitor("POST", f"{path}/test")
    again = await visitor("POST", f"{path}/test")
    listed, read = await visitor("GET", CHANNELS), await visitor("GET", path)
    stored = await pool.fetchval("SELECT secret FROM alert_channels")
    removed = await visitor("DELETE", path)

    assert made.status_code == 201
    body = made.json()
    assert (body["service"], body["collections"], body["severities"], body["waiting"]) == (
        "slack", ["nightly"], ["failure"], 0
    )  # fmt: skip
    assert (tested.status_code, tested.json()["waiting"]) == (202, 1)
    assert "waits" in problem(again, 409)["detail"]
    assert listed.json()["channels"] == [read.json()] == [tested.json()]
    out = capsys.readouterr()
    result = "".join(one.text + str(one.headers) for one in (made, tested, again, listed, read))
    assert TOKEN not in result + out.out + out.err + repr(stored)
    assert removed.status_code == 204
    problem(await visitor("GET", path), 404)
    problem(await visitor("POST", f"{path}/test"), 404)
    problem(await visitor("DELETE", path), 404)
    assert await pool.fetchval("SELECT count(*) FROM notifications") == 0


@pytest.mark.parametrize(
    ("change", "field", "word"),
    [
        ({"url": "json://127.0.0.1:6379"}, "url", "webhook"),
        ({"url": "mailto://u:p@example.com"}, "url", "webhook"),
        ({"url": f"{SLACK}?template=/etc/passwd"}, "url", "template"),
        ({"url": f"{SLACK}?verify=no"}, "url", "verify"),
        ({"url": "slack://x"}, "url", "not complete"),
        ({"url": f"{SLACK},json://127.0.0.1"}, "url", "commas"),
        ({"severities": ["loud"]}, "severities.0", "failure"),
        ({"collections": ["*"]}, "collections.0", ""),
        ({"label": " "}, "label", ""),
        ({"lable": "x"}, "lable", ""),
    ],
)
async def test_a_refusal_names_the_field_and_why(
    visitor: Visitor, change: dict[str, Any], field: str, word: str
) -> None:
    answer = await visitor("POST", CHANNELS, json=wanted(**change))

    assert fields(answer) == [field]
    assert word in answer.text
    assert TOKEN not in answer.text


async def test_another_organisation_finds_none_of_it(visitor: Visitor, other: Org) -> None:
    path = (await visitor("POST", CHANNELS, json=wanted())).headers["location"]
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])

    problem(await stranger("GET", path), 404)
    problem(await stranger("POST", f"{path}/test"), 404)
    problem(await stranger("DELETE", path), 404)
    assert (await stranger("GET", CHANNELS)).json() == {"channels": []}
    assert (await visitor("GET", path)).json()["waiting"] == 0


async def test_there_are_not_too_many_and_a_key_is_of_one_url(visitor: Visitor) -> None:
    key = {"idempotency-key": "k"}
    first = await visitor("POST", CHANNELS, json=wanted(), headers=key)
    same = await visitor("POST", CHANNELS, json=wanted(), headers=key)
    elsewhere = wanted(url=SLACK.replace("B1", "B2"))
    refused = await visitor("POST", CHANNELS, json=elsewhere, headers=key)
    for _ in range(MAX_CHANNELS - 1):
        assert (await visitor("POST", CHANNELS, json=wanted())).status_code == 201

    assert first.json() == same.json()
    assert fields(refused) == ["idempotency-key"]
    problem(await visitor("POST", CHANNELS, json=wanted()), 409)


async def test_who_may_only_read_or_operate_creates_none(visitor: Visitor, org: Org) -> None:
    for scope in (Scope.READ, Scope.OPERATE):
        answer = await replace(visitor, secret=org.secrets[scope])("POST", CHANNELS, json=wanted())
        problem(answer, 403)


async def test_without_a_key_of_the_operator_the_setting_is_named(
    dsn: str, redis: ArqRedis, redis_url: str, clock: SettableClock, org: Org
) -> None:
    del redis
    async with running(config_for(dsn, redis_url, secrets_key=None), clock) as client:
        visitor = Visitor(client, org.secrets[Scope.ADMIN])
        answer = await visitor("POST", CHANNELS, json=wanted())

    assert "SECRETS_KEY is not set" in problem(answer, 503)["detail"]
