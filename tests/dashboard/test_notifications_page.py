"""The page of alert channels and webhooks: the API's rules, errors at the field, no secrets."""

from html import unescape
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.core.enums import Scope
from app.store.db import Pool
from tests.dashboard.server import Site, csrf_of

pytestmark = pytest.mark.timeout(60)
PAGE = "/edit/notifications"
TOKEN = "c" * 24
SLACK = f"slack://A12345678/B12345678/{TOKEN}"
HOOK = "https://example.com/rollcall"


async def post(visitor: httpx.AsyncClient, path: str, **form: Any) -> httpx.Response:
    return await visitor.post(f"{PAGE}{path}", data={"csrf": csrf_of(visitor), **form})


def fault(page: str, field: str) -> str:
    """What is said at the field, which points to it."""
    field_of = page.split(f'name="{field}"')[1].split(">", maxsplit=1)[0]
    assert 'aria-invalid="true"' in field_of
    assert f'aria-describedby="fault-{field}' in field_of
    return unescape(page.split(f'id="fault-{field}">')[1].split("</p>", maxsplit=1)[0])


async def test_a_channel_is_created_tested_and_deleted_and_its_url_never_shown(
    site: Site, pool: Pool
) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        made = await post(
            visitor, "/channels", label="team", url=SLACK, severities=["failure", "success"]
        )
        listed = (await visitor.get(made.headers["location"])).text
        stored = await pool.fetchrow("SELECT id, severities, created_by FROM alert_channels")
        assert stored is not None
        path = f"/channels/{stored['id']}"
        tested = await post(visitor, path, do="test")
        again = await post(visitor, path, do="test")
        waiting = await pool.fetchval("SELECT count(*) FROM notifications")
        deleted = await post(visitor, path, do="delete")
        gone = await post(visitor, path, do="test")

    shown = "".join(one.text for one in (made, tested, again, deleted)) + listed
    assert (stored["severities"], stored["created_by"]) == (["failure", "success"], "acme/ann")
    assert "it became unhealthy, it is healthy again" in listed
    assert TOKEN not in shown
    assert (tested.headers["location"], waiting) == (f"{PAGE}?done=test", 1)
    assert (again.status_code, "a test of this channel waits" in again.text) == (409, True)
    assert deleted.headers["location"] == f"{PAGE}?done=delete"
    assert gone.status_code == 404
    assert await pool.fetchval("SELECT count(*) FROM alert_channels") == 0


@pytest.mark.parametrize(
    ("change", "field", "said"),
    [
        ({"url": f"json://{TOKEN}.example"}, "url", "create a webhook"),
        ({"url": f"{SLACK}?verify=no"}, "url", "parameter 'verify'"),
        ({"url": "slack://x"}, "url", "is not complete"),
        ({"url": ""}, "url", "character"),
        ({"label": " "}, "label", "character"),
    ],
)
async def test_a_refused_channel_says_why_at_the_field_and_keeps_what_was_typed(
    site: Site, pool: Pool, change: dict[str, str], field: str, said: str
) -> None:
    typed = {"label": "team", "url": SLACK, "severities": "warning"} | change
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answer = await post(visitor, "/channels", **typed)

    assert answer.status_code == 422
    assert said in fault(answer.text, field)
    assert TOKEN not in answer.text
    assert f'name="label" value="{typed["label"].strip()}"' in answer.text
    assert 'value="warning" checked' in answer.text
    assert await pool.fetchval("SELECT count(*) FROM alert_channels") == 0


async def test_a_webhook_is_created_with_its_secret_shown_once(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        made = await post(visitor, "/webhooks", url=HOOK)
        webhook_id: UUID = await pool.fetchval("SELECT id FROM webhooks")
        path = f"/webhooks/{webhook_id}"
        listed = (await visitor.get(PAGE)).text
        tested = await post(visitor, path, do="test")
        unexplained = await post(visitor, path, do="pause", note=" ")
        paused = await post(visitor, path, do="pause", note="we are moving")
        page = (await visitor.get(f"{PAGE}{path}")).text
        resumed = await post(visitor, path, do="resume")
        odd = await post(visitor, path, do="burn")
        deleted = await post(visitor, path, do="delete")

    secret = made.text.split('id="secret">')[1].split("<")[0]
    assert secret.startswith("whsec_")
    assert made.headers["cache-control"] == "no-store"
    assert secret not in listed + page
    assert f'href="{PAGE}{path}"' in listed
    assert tested.headers["location"] == f"{PAGE}{path}?done=test"
    assert (unexplained.status_code, bool(fault(unexplained.text, "note"))) == (422, True)
    assert paused.headers["location"] == f"{PAGE}{path}?done=pause"
    assert "paused by acme/ann: we are moving" in page
    assert ">test</td>" in page
    assert resumed.headers["location"] == f"{PAGE}{path}?done=resume"
    assert (odd.status_code, deleted.headers["location"]) == (422, f"{PAGE}?done=delete")
    assert await pool.fetchval("SELECT count(*) FROM webhooks") == 0


@pytest.mark.parametrize("url", ["http://example.com/", "https://127.0.0.1/", "ftp://x", ""])
async def test_a_refused_webhook_says_why_at_the_field(site: Site, pool: Pool, url: str) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answer = await post(visitor, "/webhooks", url=url)

    form = answer.text.split('aria-labelledby="new-webhook"')[1]
    assert answer.status_code == 422
    assert fault(form, "url")
    assert f'value="{url}"' in form
    assert await pool.fetchval("SELECT count(*) FROM webhooks") == 0


@pytest.mark.parametrize("scope", [Scope.READ, Scope.OPERATE])
async def test_who_is_no_admin_creates_and_deletes_nothing(
    site: Site, pool: Pool, scope: Scope
) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as admin:
        await post(admin, "/channels", label="team", url=SLACK)
    channel = await pool.fetchval("SELECT id FROM alert_channels")
    async with site.signed_in(scope, "acme") as visitor:
        page = (await visitor.get(PAGE)).text
        refused = [
            await post(visitor, "/channels", label="x", url=SLACK),
            await post(visitor, "/webhooks", url=HOOK),
            await post(visitor, f"/channels/{channel}", do="delete"),
        ]

    assert ('value="test"' in page) == (scope is Scope.OPERATE)
    assert 'value="delete"' not in page
    assert 'name="url"' not in page
    assert [answer.status_code for answer in refused] == [403] * 3
    assert await pool.fetchval("SELECT count(*) FROM alert_channels") == 1
