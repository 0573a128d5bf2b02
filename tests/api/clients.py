"""Organisations with their tokens, and the running web they visit, on a real Postgres and Redis."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.config import Config
from app.core.enums import Scope
from app.orgs import tokens
from app.store import tenancy
from app.store.db import Pool
from app.store.orgs import org_sources, recipe_revisions
from app.store.orgs.org_sources import OrgRecipe
from app.store.orgs.recipe_revisions import RecipeRevision
from app.web.application import create_app
from tests.clock import NOON, SettableClock
from tests.configs import config_for
from tests.web.harness import visit

SCHEDULE = "/collection/schedule"
ODDS = "00000000-0000-4000-8000-000000000001"
NEWS = "00000000-0000-4000-8000-000000000002"
WARES = """name = "{name}"
kind = "json"
url = "{url}"
[limits]
rate = 50
burst = 50
[extract]
records = "items"
[extract.fields]
id = "id"
title = "name"
[store]
key = "id"
"""
MERGE = "application/merge-patch+json"


@dataclass(frozen=True, slots=True)
class Org:
    """An organisation and the secrets of its tokens, by scope."""

    id: UUID
    name: str
    secrets: dict[Scope, str]


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody with a token, at the running web."""

    client: httpx.AsyncClient
    secret: str | None

    async def __call__(self, method: str, path: str, **asked: Any) -> httpx.Response:
        headers = {} if self.secret is None else {"authorization": f"Bearer {self.secret}"}
        headers |= asked.pop("headers", {})
        return await self.client.request(method, path, headers=headers, **asked)

    async def patch(self, revision: int | None = None, **changes: Any) -> httpx.Response:
        """PATCH the schedule, of that revision or whichever."""
        headers = {} if revision is None else {"if-match": f'"{revision}"'}
        return await self("PATCH", SCHEDULE, json=changes, headers=headers)

    async def schedule(self) -> dict[str, Any]:
        answer = await self("GET", SCHEDULE)
        assert answer.status_code == 200, answer.text
        return answer.json()


@asynccontextmanager
async def running(config: Config, clock: SettableClock) -> AsyncGenerator[httpx.AsyncClient]:
    """The web, which takes the time from this clock."""

    async def now(_: Pool) -> Any:
        return clock()

    async with visit(create_app(config, now=now)) as client:
        yield client


@pytest.fixture
async def api(
    dsn: str, redis: ArqRedis, redis_url: str, clock: SettableClock
) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser on the running web, without a token."""
    del redis  # emptied before and looked over afterwards
    async with running(config_for(dsn, redis_url), clock) as client:
        yield client


async def found(pool: Pool, clock: SettableClock, name: str) -> Org:
    """An organisation with a token of each scope."""
    org_id = await tokens.create_org(pool, name, clock())
    expires = clock() + timedelta(days=365)
    secrets = {
        scope: await tokens.create_token(
            pool, tokens.TokenRequest(name, scope.value, scope, expires), clock(), by="test"
        )
        for scope in Scope
    }
    return Org(org_id, name, secrets)


@pytest.fixture
async def org(pool: Pool, clock: SettableClock) -> Org:
    return await found(pool, clock, "Acme")


@pytest.fixture
async def other(pool: Pool, clock: SettableClock) -> Org:
    return await found(pool, clock, "Other")


@pytest.fixture
def visitor(api: httpx.AsyncClient, org: Org) -> Visitor:
    """The organisation's admin."""
    return Visitor(api, org.secrets[Scope.ADMIN])


def problem(answer: httpx.Response, status: int) -> dict[str, Any]:
    """The refusal in this answer, which must have the agreed shape."""
    assert answer.status_code == status, f"{answer.status_code}: {answer.text}"
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["type"] == "about:blank"
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    return body


def fields(answer: httpx.Response) -> list[str]:
    """The fields that a 422 names."""
    return [fault["field"] for fault in problem(answer, 422)["errors"]]


async def preset(who: Visitor, name: str = "mine", sources: int = 1) -> str:
    """A preset of the organisation's own; returns its id."""
    names = ["sportybet", "betpawa", "bet9ja", "asknews_news"][:sources]
    wanted = {"name": name, "sources": [{"source": one} for one in names]}
    answer = await who("POST", "/collection/presets", json=wanted)
    assert answer.status_code == 201, answer.text
    return answer.json()["id"]


def wares(name: str = "wares", url: str = "https://127.0.0.1:1/wares", more: str = "") -> str:
    """A recipe of that name, of an address that nothing can be had of."""
    return WARES.format(name=name, url=url) + more


async def own_source(who: Visitor, name: str = "wares", **said: str) -> None:
    """A source of the organisation's own."""
    answer = await who("POST", "/collection/sources", json={"recipe": wares(name, **said)})
    assert answer.status_code == 201, answer.text


async def stored_source(pool: Pool, org: Org, name: str = "wares") -> None:
    """A source of the organisation's own, as its rows: no process checks the recipe."""
    recipe = OrgRecipe(name, wares(name), 1, NOON, NOON)
    async with tenancy.org_transaction(pool, org.id) as connection:
        await org_sources.add(connection, org.id, recipe)
        revision = RecipeRevision(name, 1, recipe.recipe, "test", NOON)
        await recipe_revisions.record(connection, org.id, revision)


async def own_secret(who: Visitor, name: str = "TOKEN", value: str = "s3cr3t-of-acme") -> None:
    """A secret of the organisation's own."""
    answer = await who("PUT", f"/collection/secrets/{name}", json={"value": value})
    assert answer.status_code == 200, answer.text


RUN = """
INSERT INTO runs (execution_id, job, schedule_id, org_id, trigger, params, status, attempt, losses,
                  max_attempts, timeout_seconds, lease_epoch, queued_at, created_at, stats)
SELECT $1, 'collection', (SELECT id FROM schedules WHERE org_id = $2), $2, 'manual', '{}', $3, 1, 0,
       3, 60, 0, $4, $4, '{}'
"""
ITEM = """
INSERT INTO items (org_id, source, key, data, content_hash, first_seen, last_seen, changed_at,
                   missing_since)
VALUES ($1, $2, $3, '{"n": 1}', '', $4, $4, $4, $5)
"""


async def had_run(pool: Pool, org: Org, at: Any, status: str = "success") -> UUID:
    """A run of the organisation's which is over, or not."""
    run_id = uuid4()
    await pool.execute(RUN, run_id, org.id, status, at)
    return run_id


async def had_item(pool: Pool, org: Org, at: Any, source: str = "bet9ja", gone: Any = None) -> None:
    """Something that was collected, called by its instant."""
    await pool.execute(ITEM, org.id, source, f"{at:%H:%M:%S}", at, gone)


async def operator_with(
    api: httpx.AsyncClient, pool: Pool, clock: SettableClock, scope: Scope
) -> Visitor:
    expires = clock() + timedelta(days=365)
    request = tokens.TokenRequest(None, "laptop", scope, expires)
    return Visitor(api, await tokens.create_token(pool, request, clock(), by="test"))


async def leaf(visitor: Visitor, path: str, what: str, **query: Any) -> list[dict[str, Any]]:
    """Every row, page after page."""
    rows: list[dict[str, Any]] = []
    cursor: str | None = None
    while True:
        asked = query | ({"cursor": cursor} if cursor else {})
        page = (await visitor("GET", path, params=asked)).json()
        rows += page[what]
        cursor = page["next_cursor"]
        if cursor is None:
            return rows
