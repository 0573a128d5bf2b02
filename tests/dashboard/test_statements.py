"""How many statements a page takes does not depend on how many rows it finds."""

import asyncio
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import httpx
import pytest
from starlette.applications import Starlette

from app.core.enums import Scope, TickReason
from app.core.records import Item
from app.health.alerts.watch import AlertContext, check
from app.orgs import tokens
from app.orgs.tokens import TokenRequest
from app.store.db import Pool
from app.web.application import create_app
from tests.api.clients import wares
from tests.configs import config_for
from tests.dashboard.collected import collected, event
from tests.dashboard.fixtures import BAD, GOOD, Fate, Scene, alive
from tests.dashboard.server import csrf_of

pytestmark = pytest.mark.timeout(120)
MOST = 12  # statements of a page
KEPT = 1.1  # seconds after which nothing read before is used again
_asked: ContextVar[list[str] | None] = ContextVar("asked", default=None)
PAGES = (
    "/", "/?sort=took", "/jobs", "/jobs/poll", "/jobs/poll/ticks/{at}", "/jobs/poll/backfill",
    "/runs", "/runs?period=30d&status=unsuccessful", "/runs/{run}", "/runs/{run}/pages", "/ticks",
    "/workers", "/audit", "/backfills", "/alerts", "/trends", "/trends?by=job", "/collections",
    "/data/odds", "/data/articles", "/data/stories", "/data/items", "/data/items/books",
    "/data/rejected", "/data/sources/bet9ja", "/data/pages/{page}",
)  # fmt: skip
ORG_PAGES = (
    "/collections", "/runs", "/ticks", "/audit", "/data/items", "/edit/schedules/default",
    "/edit/presets", "/edit/recipes", "/edit/recipes/wares", "/edit/notifications",
)  # fmt: skip


@contextmanager
def counted(found: list[str]) -> Generator[None]:
    """Note the statements that a request in the body executes, and no others."""
    connections: Any = asyncpg.Connection
    original = connections._execute

    async def execute(connection: Any, query: str, *args: Any, **options: Any) -> Any:
        asked = _asked.get()
        if asked is not None and "api_tokens" not in query:  # looked up every two seconds
            asked.append(query)
        return await original(connection, query, *args, **options)

    connections._execute = execute
    token = _asked.set(found)
    try:
        yield
    finally:
        _asked.reset(token)
        connections._execute = original


@pytest.fixture
async def client(dsn: str, redis_url: str, scene: Scene) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser of the web in this process, whose requests run in the test's own task."""
    app: Starlette = create_app(config_for(dsn, redis_url))
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Any, receive: Any, send: Any) -> None:
            await app({**scope, "state": state}, receive, send)

        transport = httpx.ASGITransport(served)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as opened:
            opened.headers["accept"] = "text/html"
            await alive(scene)
            yield opened


async def sign_in(client: httpx.AsyncClient, pool: Pool, org: str | None) -> None:
    now = datetime.now(UTC)
    wanted = TokenRequest(org, f"ann{now:%f}", Scope.ADMIN, now + timedelta(hours=1))
    token = await tokens.create_token(pool, wanted, now, by="test")
    client.cookies.clear()
    assert (await client.post("/login", data={"token": token})).status_code == 303


async def statements(client: httpx.AsyncClient, pages: list[str]) -> dict[str, int]:
    """How many statements each page takes when nothing is kept of an earlier request."""
    found: dict[str, int] = {}
    for path in pages:
        asked: list[str] = []
        await client.get(path)  # signs the session in, and prepares what is done once
        if path.startswith("/?") or path == "/":
            await asyncio.sleep(KEPT)
        with counted(asked):
            answer = await client.get(path)
        assert answer.status_code == 200, f"{path}: {answer.text}"
        found[path] = len(asked)
    return found


MORE = (
    "INSERT INTO items (source, key, data, content_hash, first_seen, last_seen, changed_at)"
    " SELECT 'books', 'n' || n, '{\"title\": \"a\"}', '', now(), now(), now()"
    " FROM generate_series(1, 60) n",
    'INSERT INTO audit_log (at, "by", action, job)'
    " SELECT now(), 'ann', 'retry', 'poll' FROM generate_series(1, 60)",
    "INSERT INTO rejected_records (execution_id, source, partition, page, reason, data)"
    " SELECT execution_id, 'bet9ja', 'all', 1, 'no price', '{}' FROM runs",
    "INSERT INTO trends (step, kind, at, name, runs, failed, records, prices, changed, errors,"
    " bytes) SELECT 3600, kind, date_bin('1 hour', now(), 'epoch'), kind || n, 1, 0, 1, 1, 1, 0, 1"
    " FROM generate_series(1, 60) n, unnest(ARRAY['job', 'source']) kind",
    "INSERT INTO stories (provider, story_uuid, topic, told_at, categories, keywords,"
    " first_seen_at, updated_at, run_id) SELECT provider, 'm' || n, topic, told_at, categories,"
    " keywords, first_seen_at, updated_at, run_id FROM stories, generate_series(1, 60) n",
    "INSERT INTO raw_pages (execution_id, source, partition, page, url, status, headers,"
    " fetched_at, body_hash) SELECT execution_id, source, partition, n, url, status, headers,"
    " fetched_at, body_hash FROM raw_pages, generate_series(2, 40) n",
)


async def test_a_page_takes_as_many_statements_for_many_rows_as_for_few(
    client: httpx.AsyncClient, scene: Scene
) -> None:
    known = await collected(scene)
    await known.source("bet9ja")
    await known.article("an article", 0)
    await known.story("a story", [0.1, 0.2])
    await known.items("books", [Item("books", "k", {"title": "a"})])
    await known.odds(event(known.now, "bet9ja"), timedelta(minutes=1))
    page_id = await known.page(b"<p>a page</p>", {})
    names = {"run": str(known.runs[-1]), "page": str(page_id)}
    names["at"] = f"{scene.now:%Y-%m-%dT%H:%M:%SZ}"
    await jobs(scene, "poll", 1)
    await sign_in(client, scene.pool, None)
    pages = [path.format(**names) for path in PAGES]
    few = await statements(client, pages)

    await jobs(scene, "more", 12)
    for number in range(12):
        await known.odds(
            event(known.now, "bet9ja", platform_event_id=f"m{number}", sportradar_id=f"m{number}"),
            timedelta(minutes=1),
        )
        await known.article(f"another article {number}", 1)
    for statement in MORE:
        await scene.pool.execute(statement)
    many = await statements(client, pages)

    assert {path: (few[path], many[path]) for path in pages if few[path] != many[path]} == {}
    assert {path: number for path, number in many.items() if not 0 < number <= MOST} == {}


async def test_an_organisations_page_takes_as_many_for_many_rows_as_for_few(
    client: httpx.AsyncClient, scene: Scene
) -> None:
    org_id = await tokens.create_org(scene.pool, "acme", datetime.now(UTC))
    await sign_in(client, scene.pool, "acme")
    for form in (
        ("/edit/recipes", {"do": "save", "recipe": wares()}),
        ("/edit/presets", {"do": "save", "name": "ours", "sources": "bet9ja"}),
        ("/edit/schedules/default", {"do": "save", "cron_expression": "@daily", "timezone": "UTC"}),
    ):
        answer = await client.post(form[0], data={"csrf": csrf_of(client), **form[1]})
        assert answer.status_code == 303, answer.text
    few = await statements(client, list(ORG_PAGES))

    for table, columns in (
        ("org_sources (org_id, name, recipe, revision)", "'n' || n, '', 1"),
        ("collection_presets (org_id, id, name, sources, revision)",
         "gen_random_uuid(), 'n' || n, '[]', 1"),
        ("audit_log (org_id, at, \"by\", action)", "now(), 'ann', 'retry'"),
        ("webhooks (org_id, id, url, secret, position, change_id, created_at, created_by)",
         "gen_random_uuid(), 'x', '', 0, 0, now(), 'ann'"),
        ("alert_channels (org_id, id, label, service, secret, created_at, created_by)",
         "gen_random_uuid(), 'x', 'slack', '', now(), 'ann'"),
        ("items (org_id, source, key, data, content_hash, first_seen, last_seen, changed_at)",
         "'books', n::text, '{}', '', now(), now(), now()"),
        ("schedules (org_id, key, job, spec, policies, params, version, effective_from, enabled,"
         " evaluated_through)",
         "'collection:' || $1 || ':n' || n, 'collection',"
         """ '{"cron": "0 0 * * *", "timezone": "UTC"}', '{}', '{}', 1, now(), true, now()"""),
        ("schedule_edits (org_id, schedule_id, at, \"by\", action)",
         "(SELECT min(id) FROM schedules WHERE org_id IS NOT NULL), now(), 'ann', 'edited'"),
    ):  # fmt: skip
        await scene.pool.execute(
            f"INSERT INTO {table} SELECT $1::uuid, {columns} FROM generate_series(1, 15) n",  # noqa: S608 - our own
            org_id,
        )
    many = await statements(client, list(ORG_PAGES))

    assert {path: (few[path], many[path]) for path in ORG_PAGES if few[path] != many[path]} == {}
    assert {path: number for path, number in many.items() if not 0 < number <= MOST} == {}


async def jobs(scene: Scene, name: str, times: int) -> None:
    """So many failing jobs, with alerts."""
    mixed: list[Fate] = [GOOD, TickReason.LATE, BAD, BAD, BAD, BAD]
    for number in range(times):
        await scene.job(name if times == 1 else f"{name}{number}", mixed)
    await scene.publish()
    await check(AlertContext(scene.pool, scene.redis))
