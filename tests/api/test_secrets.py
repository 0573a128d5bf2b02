"""An organisation's secrets over HTTP: set, named, forgotten, and never told."""

from dataclasses import replace

import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.orgs import secrets
from app.store.db import Pool
from tests.api.clients import Org, Visitor, fields, own_secret, problem, running
from tests.clock import SettableClock
from tests.configs import config_for

SECRETS = "/collection/secrets"
VALUE = "s3cr3t-of-acme"


async def test_a_secret_is_set_named_and_forgotten_but_never_told(
    visitor: Visitor, pool: Pool, capsys: pytest.CaptureFixture[str]
) -> None:
    put = await visitor("PUT", f"{SECRETS}/TOKEN", json={"value": VALUE})
    again = await visitor("PUT", f"{SECRETS}/TOKEN", json={"value": f"{VALUE}!"})
    listed = await visitor("GET", SECRETS)
    kept = await pool.fetchval("SELECT ciphertext FROM org_secrets")
    deleted = await visitor("DELETE", f"{SECRETS}/TOKEN")

    assert (put.status_code, again.json()["name"]) == (200, "TOKEN")
    assert [one["name"] for one in listed.json()["secrets"]] == ["TOKEN"]
    out = capsys.readouterr()
    result = "".join(one.text + str(one.headers) for one in (put, again, listed, deleted))
    assert VALUE not in result + out.out + out.err + repr(kept)
    assert deleted.status_code == 204
    problem(await visitor("DELETE", f"{SECRETS}/TOKEN"), 404)


async def test_what_cannot_be_a_secret_is_refused_without_its_value(visitor: Visitor) -> None:
    long = "s3cr3t" * 2_000
    answers = [
        await visitor("PUT", f"{SECRETS}/TOKEN", json=body)
        for body in ({"value": "s3cr3t\n"}, {"value": long}, {"value": 7}, {"value": "abc"})
    ]
    misnamed = await visitor("PUT", f"{SECRETS}/1A", json={"value": VALUE})
    odd = await visitor("PUT", f"{SECRETS}/TOKEN", json={"valeu": VALUE})

    assert [fields(answer) for answer in answers] == [["value"]] * 4
    assert misnamed.status_code == 404
    assert not any("s3cr3t" in one.text for one in (*answers, misnamed, odd))


async def test_without_a_key_the_setting_is_named(
    dsn: str, redis: ArqRedis, redis_url: str, clock: SettableClock, org: Org
) -> None:
    del redis
    async with running(config_for(dsn, redis_url, secrets_key=None), clock) as client:
        visitor = Visitor(client, org.secrets[Scope.ADMIN])
        answer = await visitor("PUT", f"{SECRETS}/TOKEN", json={"value": VALUE})
        listed = await visitor("GET", SECRETS)

    assert "SECRETS_KEY is not set" in problem(answer, 503)["detail"]
    assert answer.headers["retry-after"]
    assert listed.json() == {"secrets": []}


async def test_another_organisations_secrets_are_not_there(visitor: Visitor, other: Org) -> None:
    stranger = replace(visitor, secret=other.secrets[Scope.ADMIN])
    await own_secret(visitor)

    problem(await stranger("DELETE", f"{SECRETS}/TOKEN"), 404)
    await own_secret(stranger)
    await stranger("DELETE", f"{SECRETS}/TOKEN")

    assert (await stranger("GET", SECRETS)).json() == {"secrets": []}
    assert len((await visitor("GET", SECRETS)).json()["secrets"]) == 1


async def test_how_many_there_may_be_is_limited(visitor: Visitor) -> None:
    for number in range(secrets.MAX_SECRETS):
        await own_secret(visitor, f"T{number}")

    answer = await visitor("PUT", f"{SECRETS}/ONE_MORE", json={"value": VALUE})

    assert "at most 100" in problem(answer, 409)["detail"]
