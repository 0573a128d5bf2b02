"""Every address and page x every role x every owner: who sees and touches whose rows."""

import re
from collections.abc import AsyncGenerator, Iterator
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
import zstandard
from arq.connections import ArqRedis
from starlette.applications import Starlette
from starlette.routing import Mount, Route

from app.core.enums import Scope
from app.orgs import tokens
from app.store.db import Pool
from app.store.schedules import heartbeats
from app.web.application import create_app
from app.web.page_and_api_routes import page_and_api_routes
from tests.api.clients import ODDS, wares
from tests.configs import config_for
from tests.dashboard.server import csrf_of
from tests.orgs.furnishing import rows_by_owner
from tests.web.harness import visit

OPERATOR = None
OWNERS = (OPERATOR, "ours", "theirs")

# Who may use a route: everybody, every session, operators, or organisations.
PUBLIC, SESSION, OPERATORS, ORGS = "public", "session", "operators", "organisations"
ORG_PAGES = "pages of organisations"
ROUTES: dict[str, str] = {
    "GET /livez": PUBLIC,
    "GET /readyz": PUBLIC,
    "GET /health": PUBLIC,
    "GET /health/scheduler": PUBLIC,
    "GET /health/workers": PUBLIC,
    "GET /health/jobs/{job}": PUBLIC,
    "GET /badge/{job}.svg": PUBLIC,
    "GET /metrics": PUBLIC,
    "GET /openapi.json": PUBLIC,
    "GET /docs": PUBLIC,
    "GET /docs/rollcall_client.py": PUBLIC,
    "GET /login": PUBLIC,
    "POST /login": PUBLIC,
    "POST /logout": PUBLIC,
    "GET /": SESSION,
    "GET /collections": SESSION,
    "GET /live": SESSION,
    "GET /jobs": OPERATORS,
    "POST /jobs/several": OPERATORS,
    "GET /jobs/{key}/backfill": OPERATORS,
    "POST /jobs/{key}/backfill": OPERATORS,
    "GET /backfills": OPERATORS,
    "POST /backfills/{id:uuid}/stop": OPERATORS,
    "GET /workers": OPERATORS,
    "GET /edit/preview": ORG_PAGES,
    "GET /edit/schedules": ORG_PAGES,
    "GET /edit/schedules/{collection}": ORG_PAGES,
    "POST /edit/schedules/{collection}": ORG_PAGES,
    "GET /edit/presets": ORG_PAGES,
    "POST /edit/presets": ORG_PAGES,
    "GET /edit/presets/{preset_id:uuid}": ORG_PAGES,
    "POST /edit/presets/{preset_id:uuid}": ORG_PAGES,
    "GET /edit/recipes": ORG_PAGES,
    "POST /edit/recipes": ORG_PAGES,
    "GET /edit/recipes/{name}": ORG_PAGES,
    "POST /edit/recipes/{name}": ORG_PAGES,
    "GET /edit/notifications": ORG_PAGES,
    "POST /edit/notifications/channels": ORG_PAGES,
    "POST /edit/notifications/channels/{channel_id:uuid}": ORG_PAGES,
    "POST /edit/notifications/webhooks": ORG_PAGES,
    "GET /edit/notifications/webhooks/{webhook_id:uuid}": ORG_PAGES,
    "POST /edit/notifications/webhooks/{webhook_id:uuid}": ORG_PAGES,
    "GET /trends": SESSION,
    "GET /alerts": OPERATORS,
    "POST /alerts/{key}/acknowledge": OPERATORS,
    "POST /alerts/{key}/release": OPERATORS,
    "GET /audit": SESSION,
    "GET /ticks": SESSION,
    "GET /runs": SESSION,
    "POST /runs/several": SESSION,
    "POST /runs/{run_id:uuid}/cancel": SESSION,
    "POST /runs/{run_id:uuid}/retry": SESSION,
    "POST /zone": PUBLIC,
    "GET /jobs/{key}": SESSION,
    "GET /jobs/{key}/ticks/{at}": SESSION,
    "GET /runs/{run_id:uuid}": SESSION,
    "POST /jobs/{key}/run": SESSION,
    "POST /jobs/{key}/pause": SESSION,
    "POST /jobs/{key}/resume": SESSION,
    "GET /data": SESSION,
    "GET /data/odds": OPERATORS,
    "GET /data/matches/{match:path}": OPERATORS,
    "GET /data/articles": OPERATORS,
    "GET /data/stories": OPERATORS,
    "GET /data/stories/{story_id:int}": OPERATORS,
    "GET /data/items": SESSION,
    "GET /data/items/{source:path}": SESSION,
    "GET /data/item/{item_id:int}/{source:path}": SESSION,
    "GET /data/rejected": SESSION,
    "GET /data/sources/{source:path}": SESSION,
    "GET /data/pages/{page_id:int}": SESSION,
    "GET /data/pages/{page_id:int}/body": SESSION,
    "POST /data/pages/{page_id:int}/replay": SESSION,
    "GET /runs/{run_id:uuid}/pages": SESSION,
}
# Pages on which the operator finds only its own rows, and which may have nothing to show.
OWN_ONLY = ("GET /data/item/{item_id:int}/{source:path}",)
MAY_BE_EMPTY = ("GET /data/sources/{source:path}",)
# Parts of paths that name something of one owner; others may have something of that name too.
OWNED_PARTS = ("{key", "{run_id", "{item_id", "{page_id")
# Streams, which this client would wait for; their own tests say who may have them.
ENDLESS = ("GET /live", "GET /collection/changes/stream")
ORG_PREFIXES = ("/collection/", "/collections/")
OPERATOR_PREFIXES = ("/operator/", " /odds/", " /news/")  # " /odds/": not the page /data/odds
API_PREFIXES = (*ORG_PREFIXES, *OPERATOR_PREFIXES)
# Health of built-in jobs is public: these name them on purpose.
NAMES_BUILT_IN_JOBS = ("/health", "/badge", "/metrics")
BODIES: dict[str, Any] = {
    "PATCH /collection/schedule": {"notify": True},
    "POST /collection/schedule/pause": {"note": "x"},
    "PATCH /collections/{collection}/schedule": {"notify": True},
    "POST /collections/{collection}/schedule/pause": {"note": "x"},
    "POST /collection/presets": {"name": "new", "sources": [{"source": "bet9ja"}]},
    "PATCH /collection/presets/{preset_id}": {"name": "changed"},
    "POST /collection/sources": {"recipe": wares("fresh")},
    "PUT /collection/sources/{name}": {"recipe": wares("wares")},
    "POST /collection/sources/dry-run": {"recipe": wares()},
    "PUT /collection/secrets/{secret}": {"value": "another"},
    "POST /operator/organizations": {"name": "New"},
    "PATCH /operator/organizations/{org_id}": {"limits": {"max_pages": 9}},
    "POST /operator/organizations/{org_id}/tokens": {"label": "x"},
    "POST /operator/tokens": {"label": "x"},
    "POST /operator/jobs/{key:path}/pause": {"note": "x"},
    "POST /operator/backfills": {
        "job": "built_in",
        "since": "2026-09-01T00:00:00Z",
        "until": "2026-09-02T00:00:00Z",
    },
    "POST /collection/webhooks": {"url": "https://example.com/in"},
    "POST /collection/webhooks/{webhook_id}/pause": {"note": "x"},
    "POST /collection/webhooks/{webhook_id}/replay": {"after": "0"},
    "POST /collection/channels": {"label": "new", "url": "ifttt://key@event"},
}
FORMS = {
    "POST /jobs/several": {"action": "pause", "confirmed": "1"},
    "POST /edit/schedules/{collection}": {"cron_expression": "@daily", "timezone": "UTC"},
    "POST /edit/presets": {"name": "formed", "sources": "bet9ja"},
    "POST /edit/presets/{preset_id:uuid}": {"name": "formed too", "sources": "bet9ja"},
    "POST /edit/recipes": {"do": "save", "recipe": wares("formed")},
    "POST /edit/recipes/{name}": {"do": "save", "recipe": wares("wares") + "# formed"},
    "POST /edit/notifications/channels": {"label": "formed", "url": "ifttt://key@event"},
    "POST /edit/notifications/channels/{channel_id:uuid}": {"do": "test"},
    "POST /edit/notifications/webhooks": {"url": "https://example.com/formed"},
    "POST /edit/notifications/webhooks/{webhook_id:uuid}": {"do": "test"},
    "POST /runs/several": {"action": "retry_all", "confirmed": "1", "once": str(UUID(int=7))},
}
QUERIES = {
    "GET /collection/schedule/preview": {"cron": "@daily"},
    "GET /edit/preview": {"cron": "@daily", "timezone": "UTC"},
    "GET /edit/schedules": {"collection": "default"},
}


@dataclass(frozen=True, slots=True)
class Owned:
    """Where an owner's rows are, and the word that stands in their content."""

    org_id: UUID | None
    marker: str
    path: dict[str, str]


@dataclass(frozen=True, slots=True)
class Role:
    """Somebody with a token of this owner and scope; without a scope, nobody."""

    owner: str | None
    scope: Scope | None

    def sees(self, owner: str | None) -> bool:
        """The operator sees every owner's rows, an organisation its own."""
        return self.scope is not None and self.owner in (OPERATOR, owner)

    def touches(self, owner: str | None) -> bool:
        return self.sees(owner) and self.scope is not Scope.READ


ROLES = [Role(OPERATOR, None)] + [Role(o, s) for o in (OPERATOR, "ours") for s in Scope]

SCHEDULE = """
INSERT INTO schedules (key, job, org_id, spec, policies, params, version, effective_from, enabled,
                       evaluated_through, next_tick_at, paused_at, paused_by, paused_note,
                       preset_id)
VALUES ($1, $2, $3, $4, '{}', '{}', 1, $5, true, $5, $5::timestamptz + interval '1 day', $5, $6, $6,
        $7) RETURNING id
"""
VERSION = """
INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)
SELECT id, 1, spec, policies, effective_from FROM schedules WHERE id = $1
"""
RUN = """
INSERT INTO runs (execution_id, job, schedule_id, org_id, scheduled_for, trigger, params, status,
                  attempt, losses, max_attempts, timeout_seconds, lease_epoch, queued_at, stats,
                  requested_by, error_type, error_message)
VALUES ($1, $2, $3, $4, $5, 'scheduled', '{}', 'failure', 1, 0, 3, 60, 0, $5, '{}', $6, $6, $6)
"""
TICK = """
INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)
VALUES ($1, $2, 1, 'ran', $3, $2)
"""
ITEM = """
INSERT INTO items (org_id, source, key, data, content_hash, first_seen, last_seen, changed_at)
VALUES ($1, 'shop', $2, $3, '', $4, $4, $4) RETURNING id
"""
PAGE = """
INSERT INTO raw_pages (execution_id, source, page, url, status, headers, fetched_at, body_hash)
VALUES ($1, 'shop', 1, $2, 200, '{}', $3, keep_raw_body($4, $5, $6, $3)) RETURNING id
"""
REJECTED = """
INSERT INTO rejected_records (execution_id, source, partition, page, record_id, reason, data)
VALUES ($1, 'shop', 'p', 1, $2, $2, $3)
"""


async def furnish(pool: Pool, owner: str | None) -> Owned:
    """Rows of this owner, each with its marker in it."""
    now = await heartbeats.database_now(pool)
    marker = f"row-of-{owner or 'operator'}"
    org_id = None if owner is None else await tokens.create_org(pool, owner, now)
    key = "built_in" if org_id is None else f"collection:{org_id}"
    run_id, preset_id = uuid4(), uuid4()
    spec = {"cron": "0 3 29 2 *", "timezone": "UTC"}
    async with pool.acquire() as connection, connection.transaction():
        await connection.execute(
            "INSERT INTO collection_presets (id, org_id, name, sources, revision)"
            " VALUES ($1, $2, $3, '[]', 1)",
            preset_id,
            org_id,
            "built in too" if org_id is None else marker,
        )
        task = "built_in" if org_id is None else "collection"
        chosen = UUID(ODDS) if org_id else None
        schedule = await connection.fetchval(SCHEDULE, key, task, org_id, spec, now, marker, chosen)
        await connection.execute(VERSION, schedule)
        await connection.execute(RUN, run_id, task, schedule, org_id, now, marker)
        await connection.execute(TICK, schedule, now, run_id)
        await connection.execute(
            "INSERT INTO schedule_edits (schedule_id, org_id, at, by, action, before)"
            " VALUES ($1, $2, $3, $4, 'created', '{}')",
            schedule,
            org_id,
            now,
            marker,
        )
        await connection.execute(
            "INSERT INTO audit_log (org_id, job, at, by, action) VALUES ($1, $2, $3, $4, 'run')",
            org_id,
            key,
            now,
            marker,
        )
        item_id = await connection.fetchval(ITEM, org_id, marker, {"name": marker}, now)
        body = zstandard.ZstdCompressor().compress(marker.encode())
        page_id = await connection.fetchval(
            PAGE,
            run_id,
            f"https://example.org/{marker}",
            now,
            marker.encode(),
            body,
            len(marker),
        )
        await connection.execute(REJECTED, run_id, marker, marker.encode())
        if org_id is not None:
            await connection.execute(
                "INSERT INTO org_sources (org_id, name, recipe, revision) VALUES ($1, $2, $3, 1)",
                org_id,
                "wares",
                wares("wares") + f"# {marker}",
            )
            await connection.execute(
                "INSERT INTO webhooks (id, org_id, url, secret, position, change_id, created_at,"
                " created_by) VALUES ($1, $2, $3, '', 0, 0, $4, $3)",
                run_id,
                org_id,
                marker,
                now,
            )
            await connection.execute(
                "INSERT INTO alert_channels (id, org_id, label, service, secret, created_at,"
                " created_by) VALUES ($1, $2, $3, 'slack', '', $4, $3)",
                run_id,
                org_id,
                marker,
                now,
            )
            await connection.execute(
                "INSERT INTO org_secrets (org_id, name, ciphertext, updated_at)"
                " VALUES ($1, 'TOKEN', $2, $3)",
                org_id,
                marker.encode(),
                now,
            )
    path = {
        "key": key,
        "job": key,
        "at": now.isoformat(),
        "run_id": str(run_id),
        "preset_id": str(preset_id),
        "webhook_id": str(run_id),
        "channel_id": str(run_id),
        "name": "wares",
        "secret": "TOKEN",
        "collection": "default",
        "what": "items",
        "source": "shop",
        "item_id": str(item_id),
        "page_id": str(page_id),
        "match": "x",
        "story_id": "1",
        "story": "1",
        "id": str(run_id),
        "org_id": str(org_id or UUID(int=0)),
        "token_id": str(UUID(int=0)),
        "backfill_id": str(UUID(int=0)),
    }
    return Owned(org_id, marker, path)


def routes_of(app: Starlette) -> Iterator[str]:
    """Every method and path of the application, such as `GET /runs/{run_id:uuid}`."""
    for prefix, route in _flat("", [*app.routes, *page_and_api_routes()]):
        for method in sorted(route.methods or ()):
            if method != "HEAD":
                yield f"{method} {prefix}{route.path}"


def _flat(prefix: str, routes: Any) -> Iterator[tuple[str, Route]]:
    for route in routes:
        if isinstance(route, Route):
            yield prefix, route
        elif isinstance(route, Mount) and route.path != "/static":
            yield from _flat(prefix + route.path, route.routes)


def audience(route: str) -> str:
    """Who may use it. Fails for a route that nobody has decided about."""
    if any(prefix in route for prefix in ORG_PREFIXES):
        return ORGS
    if any(prefix in route for prefix in OPERATOR_PREFIXES):
        return OPERATORS
    assert route in ROUTES, f"{route}: say in ROUTES who may use it"
    return ROUTES[route]


@pytest.fixture
async def world(
    dsn: str, redis: ArqRedis, redis_url: str, pool: Pool
) -> AsyncGenerator[tuple[Starlette, httpx.AsyncClient, dict[str | None, Owned]]]:
    del redis
    app = create_app(config_for(dsn, redis_url))
    owned = {owner: await furnish(pool, owner) for owner in OWNERS}
    async with visit(app) as client:
        client.headers["accept"] = "text/html"
        yield app, client, owned


async def sign_in(client: httpx.AsyncClient, pool: Pool, role: Role) -> str:
    """Sign in to the pages; returns the token."""
    if role.scope is None:
        return "rc_none"
    now = await heartbeats.database_now(pool)
    request = tokens.TokenRequest(role.owner, "visitor", role.scope, now + timedelta(hours=1))
    token = await tokens.create_token(pool, request, now, by="test")
    answer = await client.post("/login", data={"token": token})
    assert answer.status_code == 303
    return token


async def request(
    client: httpx.AsyncClient, token: str, route: str, owned: Owned
) -> httpx.Response:
    """Use the route for what this owner has."""
    method, _, path = route.partition(" ")
    names = owned.path | ({"key": owned.marker} if "/collection/items/" in path else {})
    path = re.sub(r":(uuid|path|int)}", "}", path).format(**names)
    asked: dict[str, Any] = {"params": QUERIES.get(route)}
    if any(prefix in route for prefix in API_PREFIXES):
        asked["headers"] = {"authorization": f"Bearer {token}"}
        asked |= {"json": BODIES[route]} if route in BODIES else {}
    elif method == "POST" and path not in ("/login", "/logout"):
        form = csrf_of(client) if "rollcall_session" in client.cookies else "x"
        asked["data"] = {"csrf": form, "note": "x"} | FORMS.get(route, {})
    return await client.request(method, path, **asked)


async def test_every_route_has_an_audience(
    world: tuple[Starlette, httpx.AsyncClient, dict[str | None, Owned]],
) -> None:
    app, _, _ = world

    known = {route for route in routes_of(app) if audience(route)}

    assert set(ROUTES) <= known


@pytest.mark.parametrize("role", ROLES, ids=lambda r: f"{r.owner or 'operator'}-{r.scope}")
async def test_a_role_sees_and_touches_what_it_owns_on_every_route(
    world: tuple[Starlette, httpx.AsyncClient, dict[str | None, Owned]], pool: Pool, role: Role
) -> None:
    app, client, owned = world
    token = await sign_in(client, pool, role)
    faults: list[str] = []
    before = await rows_by_owner(pool)
    # What reads comes first: a route that deletes a row would take it from those after it.
    for route in sorted(routes_of(app), key=lambda one: (not one.startswith("GET"), one)):
        if route in (*ENDLESS, "POST /login", "POST /logout"):
            continue
        for owner in OWNERS:
            answer = await request(client, token, route, owned[owner])
            after = await rows_by_owner(pool)
            result = f"{route} of {owner or 'operator'}: {answer.status_code}"
            changed = {key for key in before.keys() | after if before.get(key) != after.get(key)}
            before = after
            for other in OWNERS:
                shown = owned[other].marker in answer.text
                public = any(path in route for path in NAMES_BUILT_IN_JOBS)
                if shown and not role.sees(other) and not public:
                    faults.append(f"{result} shows rows of {other or 'operator'}")
                tables = sorted(table for org_id, table in changed if org_id == owned[other].org_id)
                if tables and not role.touches(other):
                    faults.append(f"{result} changes {tables} of {other or 'operator'}")
            faults += [f"{result}, {what}" for what in refusals(role, route, owner, answer)]
    assert faults == []


def must_be_shown(role: Role, route: str, owner: str | None) -> bool:
    """Whether a page must have something for a role that sees the owner's rows."""
    empty = route in MAY_BE_EMPTY or (route in OWN_ONLY and role.owner != owner)
    return route.startswith("GET") and not empty


def refusals_of_org_pages(
    role: Role, route: str, owner: str | None, answer: httpx.Response
) -> Iterator[str]:
    """What is wrong with the status of a page for organisations only."""
    status = answer.status_code
    login = answer.headers.get("location", "").startswith("/login")
    if role.scope is None and status != 401 and not login:
        yield "without a session"
    if role.scope is not None and role.owner is OPERATOR and status not in (403, 404):
        yield "but the operator has no collection"
    shown = status < 400 or not route.startswith("GET")
    if role.owner and role.owner == owner and not shown:
        yield "but it may be seen"


def refusals(role: Role, route: str, owner: str | None, answer: httpx.Response) -> Iterator[str]:
    """What is wrong with the status."""
    status = answer.status_code
    owned = any(part in route for part in OWNED_PARTS)
    if status >= 500 and not route.startswith("GET /health"):
        yield "which is a fault"
    if audience(route) == ORG_PAGES:
        yield from refusals_of_org_pages(role, route, owner, answer)
    match audience(route):
        case "session" if role.scope is None:
            if not (status == 401 or answer.headers.get("location", "").startswith("/login")):
                yield "without a session"
        case "session" if owned and not role.sees(owner) and status not in (403, 404):
            yield "but it is another owner's"
        case "session" if role.sees(owner) and status >= 400 and must_be_shown(role, route, owner):
            yield "but it may be seen"
        case "organisations" if role.scope is None and status not in (401, 429):
            yield "but there is no token"
        case "organisations" if role.scope and role.owner is OPERATOR and status != 403:
            yield "but the operator has no collection"
        case "operators" if role.scope and role.owner is not OPERATOR and status not in (403, 404):
            yield "but it is the operator's"
        case _:
            pass
