"""The door: who comes in, how long they stay, and what a stranger can do."""

import asyncio
import re
from datetime import UTC, datetime
from uuid import UUID, uuid4

import httpx
import pytest
from arq.connections import ArqRedis
from starlette.routing import Route

from app.core.enums import Scope
from app.orgs import one_time_login
from app.store.orgs import orgs
from app.web.context import SIGN_IN_FAILURES, TOKEN_CACHE_SECONDS
from app.web.dashboard import events
from app.web.dashboard.session import COOKIE, SessionSigner
from app.web.page_and_api_routes import page_and_api_routes
from app.web.routes import routes
from tests.dashboard.fixtures import GOOD, Scene, alive
from tests.dashboard.server import Site, csrf
from tests.wait import until

PAGES = (
    "/",
    "/jobs/a",
    "/jobs/a/ticks/2026-01-01T00:00:00Z",
    "/collections",
    "/runs/00000000-0000-4000-8000-000000000001",
)
OPEN = ("/livez", "/readyz", "/health", "/health/scheduler", "/static/rollcall.css", "/login")
ACTIONS = ("/jobs/a/run", "/jobs/a/pause", "/jobs/a/resume")


@pytest.mark.parametrize("path", PAGES)
async def test_no_page_is_shown_to_a_stranger(site: Site, path: str) -> None:
    async with site.visitor() as stranger:
        answer = await stranger.get(path)

    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


async def test_whatever_is_added_is_behind_the_door_unless_it_is_named_here(site: Site) -> None:
    open_ = {"/livez", "/readyz", "/health", "/health/scheduler", "/health/workers", "/metrics"}
    open_ |= {
        "/health/jobs/{job}",
        "/badge/{job}.svg",
        "/login",
        "/logout",
        "/openapi.json",
        "/docs",
        "/docs/rollcall_client.py",
    }
    every = [route for route in (*routes(), *page_and_api_routes()) if isinstance(route, Route)]
    behind = [route for route in every if route.path not in open_]

    statuses: dict[str, int] = {}
    async with site.visitor() as stranger:
        for route in behind:
            path = re.sub(r"{\w+:uuid}", str(uuid4()), route.path)
            path = re.sub(r"{\w+:int}", "1", path)
            for method in (route.methods or set()) - {"HEAD"}:
                answer = await stranger.request(method, re.sub(r"{.*?}", "x", path))
                statuses[f"{method} {route.path}"] = answer.status_code

    assert len(behind) >= 9
    assert {route: status for route, status in statuses.items() if status not in {303, 401}} == {}


@pytest.mark.parametrize("path", OPEN)
async def test_health_and_the_door_stand_open(site: Site, path: str) -> None:
    async with site.visitor() as stranger:
        answer = await stranger.get(path)

    assert answer.status_code in {200, 503}


@pytest.mark.parametrize("path", ACTIONS)
async def test_a_stranger_cannot_act(site: Site, path: str) -> None:
    async with site.visitor() as stranger:
        answer = await stranger.post(path, data={"csrf": "x", "note": "x"})

    assert answer.status_code == 401


async def test_the_stream_is_not_for_strangers(site: Site) -> None:
    async with site.visitor() as stranger:
        answer = await stranger.get("/live", headers={"accept": "text/event-stream"})

    assert answer.status_code == 401


async def test_the_stream_tells_nothing_more_once_its_token_is_revoked(
    site: Site, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)
    monkeypatch.setattr(events, "POLLS_PER_SESSION_CHECK", 1_000)
    async with site.signed_in(Scope.READ) as reader, reader.stream("GET", "/live") as stream:
        parts = stream.aiter_text()
        told = ""
        while "data: " not in told:
            told += await anext(parts)
        await site.pool.execute("UPDATE api_tokens SET revoked_at = now()")
        await asyncio.sleep(TOKEN_CACHE_SECONDS)
        await scene.job("a", [GOOD])

        rest = "".join([part async for part in parts])

    assert "data: " not in rest


async def test_a_token_opens_the_door_and_leads_back(site: Site) -> None:
    token = await site.token(Scope.READ)

    async with site.visitor() as visitor:
        turned_away = await visitor.get("/collections")
        form = await visitor.get(turned_away.headers["location"])
        answer = await visitor.post("/login", data={"token": token, "next": "/collections"})
        page = await visitor.get(answer.headers["location"])

    assert 'name="next" value="/collections"' in form.text
    assert (answer.status_code, answer.headers["location"]) == (303, "/collections")
    assert page.status_code == 200
    assert "operator/ann" in page.text
    assert token not in page.text


async def test_the_cookie_is_for_the_server_alone(site: Site) -> None:
    token = await site.token(Scope.READ)

    async with site.visitor() as visitor:
        plain = await visitor.post("/login", data={"token": token})
        behind_tls = await visitor.post(
            "/login", data={"token": token}, headers={"x-forwarded-proto": "https"}
        )

    flags = plain.headers["set-cookie"].lower()
    assert flags.startswith(COOKIE)
    assert "httponly" in flags
    assert "samesite=lax" in flags
    assert "max-age=43200" in flags
    assert "path=/" in flags
    assert "secure" not in flags
    assert "secure" in behind_tls.headers["set-cookie"].lower()
    assert token.split("_", 2)[2] not in plain.headers["set-cookie"]


async def test_a_forged_cookie_is_no_session(site: Site) -> None:
    async with site.signed_in(Scope.ADMIN) as visitor:
        body, mark = visitor.cookies[COOKIE].split(".")
        forged = (f"{body}.", f".{mark}", f"{body}A.{mark}", "x", f"{body}.{mark[:-2]}AA")
        visitor.cookies.clear()
        answers = [
            await visitor.get("/", headers={"cookie": f"{COOKIE}={value}"}) for value in forged
        ]

    assert {answer.status_code for answer in answers} == {303}


async def test_a_wrong_token_is_refused_in_the_same_words_as_a_revoked_one(site: Site) -> None:
    token = await site.token(Scope.READ)
    await orgs.revoke(site.pool, UUID(token.split("_")[1]), datetime.now(UTC))

    async with site.visitor() as visitor:
        revoked = await visitor.post("/login", data={"token": token})
        unknown = await visitor.post("/login", data={"token": "rc_nonsense"})

    assert revoked.status_code == unknown.status_code == 403
    assert revoked.text == unknown.text


async def test_only_failures_are_limited_and_a_right_token_gets_in_all_the_same(
    site: Site,
) -> None:
    token = await site.token(Scope.READ)

    async with site.visitor() as visitor:
        refused = [
            # Nobody trusts the header here, so that it makes no new client.
            await visitor.post(
                "/login", data={"token": "no"}, headers={"x-forwarded-for": f"192.0.2.{number}"}
            )
            for number in range(SIGN_IN_FAILURES + 1)
        ]
        late = await visitor.post("/login", data={"token": token})
        once = await visitor.get("/login?once=used")

    assert [answer.status_code for answer in refused] == [403] * SIGN_IN_FAILURES + [429]
    assert 0 < int(refused[-1].headers["retry-after"]) <= 300
    assert late.status_code == 303
    assert once.status_code == 429


async def test_a_revoked_token_ends_its_session_within_seconds(site: Site) -> None:
    async with site.signed_in(Scope.READ) as visitor:
        before = await visitor.get("/")
        token_id = await site.pool.fetchval("SELECT id FROM api_tokens")
        await orgs.revoke(site.pool, token_id, datetime.now(UTC))

        async def sent_away() -> bool:
            return (await visitor.get("/collections")).status_code == 303

        await until(sent_away, what="the session to end")

    assert before.status_code == 200


async def test_signing_out_takes_the_cookie_away(site: Site) -> None:
    async with site.signed_in(Scope.READ) as visitor:
        answer = await visitor.post("/logout")
        after = await visitor.get("/")

    assert answer.status_code == after.status_code == 303
    assert COOKIE not in visitor.cookies


@pytest.mark.parametrize(
    "onward",
    [
        "//evil.example",
        "https://evil.example/",
        "/\\evil.example",
        "javascript:alert(1)",
        "/\tx",
        "\\\\evil.example",
        "http:/evil.example",
        "///evil.example",
        "/login",
    ],
)
async def test_the_door_leads_nowhere_but_inside(site: Site, onward: str) -> None:
    token = await site.token(Scope.READ)

    async with site.visitor() as visitor:
        answer = await visitor.post("/login", data={"token": token, "next": onward})
        again = await visitor.get("/login", params={"next": onward})

    assert answer.headers["location"] == again.headers["location"] == "/"


async def test_a_one_time_address_works_once(site: Site, redis: ArqRedis) -> None:
    path = await one_time_login.create_login(redis)

    async with site.visitor() as first, site.visitor() as second:
        answer = await first.get(path)
        page = await first.get("/")
        again = await second.get(path)

    assert answer.status_code == 303
    assert "operator/once" in page.text
    assert again.status_code == 403
    assert COOKIE not in second.cookies


async def test_a_preview_of_a_one_time_address_does_not_use_it(site: Site, redis: ArqRedis) -> None:
    path = await one_time_login.create_login(redis)

    async with site.visitor() as preview, site.visitor() as visitor:
        looked = await preview.head(path)
        answer = await visitor.get(path)

    assert COOKIE not in preview.cookies
    assert (looked.status_code, answer.status_code) == (200, 303)


async def test_the_token_behind_a_one_time_address_ends_with_the_session(
    site: Site, redis: ArqRedis
) -> None:
    async with site.visitor() as visitor:
        await visitor.get(await one_time_login.create_login(redis))
        cookie = visitor.cookies[COOKIE]
        await visitor.post("/logout")

        after = await visitor.get("/", headers={"cookie": f"{COOKIE}={cookie}"})

    assert after.status_code == 303


async def test_a_form_without_its_token_or_from_elsewhere_is_refused(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as visitor:
        token = csrf((await visitor.get("/jobs/a")).text)
        missing = await visitor.post("/jobs/a/run")
        wrong = await visitor.post("/jobs/a/run", data={"csrf": token[:-1] + "?"})
        foreign = await visitor.post(
            "/jobs/a/run", data={"csrf": token}, headers={"origin": "https://evil.example"}
        )
        sandboxed = await visitor.post(
            "/jobs/a/run", data={"csrf": token}, headers={"origin": "null"}
        )
        unreadable = await visitor.post(
            "/jobs/a/run", data={"csrf": token}, headers={"origin": "http://["}
        )
        async with site.signed_in(Scope.OPERATE) as other:
            borrowed = await other.post("/jobs/a/run", data={"csrf": token})

    answers = (missing, wrong, foreign, sandboxed, unreadable, borrowed)
    assert [answer.status_code for answer in answers] == [403] * 6
    assert await site.pool.fetchval("SELECT count(*) FROM runs WHERE trigger = 'manual'") == 0


async def test_the_head_of_the_live_updates_ends(site: Site) -> None:
    async with site.signed_in(Scope.READ) as visitor:
        answer = await visitor.head("/live")
        after = await visitor.get("/livez", timeout=5)  # on the same connection

    assert (answer.status_code, after.status_code) == (200, 200)
    assert answer.headers["content-type"].startswith("text/event-stream")


async def test_reading_is_not_operating(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        operating = await operator.get("/jobs/a")
    async with site.signed_in(Scope.READ) as reader:
        page = await reader.get("/jobs/a")
        token = _csrf_of(reader)
        answers = [await reader.post(path, data={"csrf": token, "note": "x"}) for path in ACTIONS]

    assert "Run now" in operating.text
    assert "Run now" not in page.text
    assert {answer.status_code for answer in answers} == {403}
    assert await site.pool.fetchval("SELECT paused_at FROM schedules") is None


def _csrf_of(client: httpx.AsyncClient) -> str:
    """What a page with forms would hold; a reader is shown none."""
    seal = SessionSigner(b"s" * 32)
    session = seal.verify(client.cookies[COOKIE], datetime.now(UTC))
    assert session is not None
    return seal.csrf(session)


async def test_every_answer_carries_the_headers_that_bind_the_browser(site: Site) -> None:
    async with site.signed_in(Scope.READ) as visitor:
        answers = [await visitor.get(path) for path in ("/", "/login", "/nothing", "/jobs/none")]

    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "same-origin"
        assert answer.headers["permissions-policy"] == "camera=(), geolocation=(), microphone=()"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        assert answer.headers["cache-control"] == "no-store"


async def test_no_page_needs_what_the_policy_forbids(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD, GOOD])
    await scene.publish()
    async with site.signed_in(Scope.OPERATE) as visitor:
        pages = [(await visitor.get(path)).text for path in ("/", "/jobs/a", "/collections")]

    for page in pages:
        assert " style=" not in page
        assert "<style" not in page
        assert " onclick=" not in page
        assert page.count("<script") == page.count('<script src="/static/live.js"')


async def test_a_fault_is_a_page_without_a_trace(site: Site) -> None:
    async with site.signed_in(Scope.READ) as visitor:
        answer = await visitor.get("/jobs/none")
        unknown = await visitor.get("/nothing")

    assert answer.status_code == unknown.status_code == 404
    assert "No such job." in answer.text
    assert "Traceback" not in answer.text + unknown.text


async def test_no_answer_for_people_may_be_kept_by_a_browser_or_a_proxy(site: Site) -> None:
    paths = ("/", "/login", "/jobs/none", "/runs", "/audit", "/alerts", "/data", "/data/odds")
    async with site.visitor() as stranger:
        turned_away = await stranger.get("/runs")
        refused = await stranger.post("/login", data={"token": "wrong"})
    async with site.signed_in(Scope.READ) as visitor:
        answers = [await visitor.get(path) for path in paths]
        plain = await visitor.get("/", headers={"accept-encoding": "identity"})
        zone = await visitor.post("/zone", data={"zone": "UTC"}, headers={"origin": site.url})
        left = await visitor.post("/logout", data={"csrf": _csrf_of(visitor)})

    for answer in (turned_away, refused, *answers, plain, zone, left):
        assert answer.headers["cache-control"] == "no-store", answer.url
