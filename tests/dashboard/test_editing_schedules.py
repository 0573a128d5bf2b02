"""The form of a collection's schedule: the rules of the API, previews, and the way back."""

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from app.core.enums import Scope
from app.store.db import Pool
from tests.dashboard.server import Site, csrf_of
from tests.wait import until

pytestmark = pytest.mark.timeout(60)
PATH = "/edit/schedules/default"
NIGHTLY = {"cron_expression": "0 3 * * *", "timezone": "Africa/Lagos", "revision": "0"}


async def save(visitor: httpx.AsyncClient, **values: str) -> httpx.Response:
    form = {"csrf": csrf_of(visitor), "do": "save", **NIGHTLY, **values}
    return await visitor.post(PATH, data=form)


async def test_a_schedule_is_created_changed_and_brought_back(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        created = await save(visitor, enabled="on", overlap="queue_one", exclude="sun\nsat")
        edited = await save(visitor, cron_expression="*/30 * * * *", revision="1")
        edit_id = await pool.fetchval("SELECT max(id) FROM schedule_edits")
        page = (await visitor.get(PATH)).text
        back = (await visitor.get(f"{PATH}?edit={edit_id}&side=before")).text

    assert created.headers["location"] == edited.headers["location"] == f"{PATH}?done=saved"
    assert 'value="*/30 * * * *"' in page
    assert "<code>cron_expression</code>" in page
    assert 'value="0 3 * * *"' in back
    assert ">sun\nsat</textarea>" in back
    assert '<option value="queue_one" selected>' in back
    assert 'name="enabled" checked' in back
    assert "Nothing is stored until you save it" in back
    row = await pool.fetchrow("SELECT spec, enabled, policy_choices FROM schedules")
    assert row is not None
    assert (row["spec"]["cron"], row["enabled"], row["policy_choices"]) == (
        "*/30 * * * *",
        False,
        {},
    )


async def test_the_way_back_to_a_deleted_preset_chooses_no_other(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        form = {"csrf": csrf_of(visitor), "do": "save", "name": "mine", "sources": "bet9ja"}
        made = await visitor.post("/edit/presets", data=form)
        preset_id = made.headers["location"].partition("?")[0].rpartition("/")[2]
        await save(visitor, preset_id=preset_id)
        await save(visitor, revision="1")
        deleted = await visitor.post(f"/edit/presets/{preset_id}", data=form | {"do": "delete"})
        edit_id = await pool.fetchval("SELECT max(id) FROM schedule_edits")
        back = (await visitor.get(f"{PATH}?edit={edit_id}&side=before")).text
        saved = await save(visitor, preset_id=preset_id, revision="2")

    assert deleted.status_code == 303
    assert f'<option value="{preset_id}" selected>one that does not exist any more' in back
    assert saved.status_code == 422
    assert "preset_id" in saved.text


async def test_policies_are_open_if_any_is_chosen(site: Site) -> None:
    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        default = (await save(visitor, do="preview")).text
        chosen = (await save(visitor, do="preview", exclude="sun")).text

    assert '<details id="policies">' in default
    assert '<details id="policies" open>' in chosen


async def test_a_preview_says_when_and_stores_nothing(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        shown = await save(visitor, do="preview")
        live = await visitor.get(
            "/edit/preview", params={"cron": "0 3 * * *", "timezone": "Africa/Lagos"}
        )

    for page in (shown.text, live.text):
        assert page.count("03:00:00 Africa/Lagos") == 10
    assert live.text.count("<li>") == 10
    assert await pool.fetchval("SELECT count(*) FROM schedules") == 0


async def test_a_preview_and_its_update_have_the_time_zone_of_the_browser(site: Site) -> None:
    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        visitor.cookies.set("zone", "Asia/Kolkata")
        shown = await save(visitor, do="preview")
        live = await visitor.get("/edit/preview?cron=0+3+*+*+*&timezone=UTC")

    assert "07:30:00</time>" in shown.text  # 03:00 in Lagos
    assert "08:30:00</time>" in live.text  # 03:00 UTC


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"cron_expression": "0 3 * *"}, "fields"),
        ({"timezone": "Mars/Olympus"}, "timezone"),
        ({"catch_up": "many"}, "catch_up"),
        ({"overlap": "sometimes"}, "overlap"),
        ({"preset_id": "00000000-0000-4000-8000-0000000000ff"}, "preset_id"),
        ({"cron_expression": "* * * * * *"}, "1,440 times"),
        ({"exclude": "\x00"}, "exclude"),
    ],
)
async def test_what_the_api_refuses_is_said_and_the_form_keeps_it(
    site: Site, pool: Pool, values: dict[str, str], named: str
) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answer = await save(visitor, **values)

    problem = answer.text.split('id="problem"')[1].split("</div>")[0]
    assert answer.status_code in {400, 422}
    assert named in problem
    assert f'value="{NIGHTLY["timezone"]}"' in answer.text or "timezone" in values
    assert await pool.fetchval("SELECT count(*) FROM schedules") == 0


async def test_an_edit_of_an_older_revision_is_refused(site: Site) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        await save(visitor)
        answer = await save(visitor, cron_expression="@hourly")

    assert answer.status_code == 412
    assert "Somebody else has changed it meanwhile" in answer.text


async def test_the_form_has_the_values_of_the_revision_that_it_is_based_on(
    site: Site, pool: Pool
) -> None:
    async def blocked() -> bool:
        return bool(await pool.fetchval("SELECT count(*) FROM pg_locks WHERE NOT granted"))

    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        await save(visitor)
        async with pool.acquire() as other, other.transaction():
            await other.execute("LOCK TABLE schedule_edits")  # the form waits amid its reads
            reading = asyncio.create_task(visitor.get(PATH))
            await until(blocked, what="the form")
            await other.execute("UPDATE schedules SET enabled = true, revision = 2")
        page = (await reading).text

    assert 'name="revision" value="2"' in page
    assert 'name="enabled" checked' in page


async def test_only_an_admin_of_the_organisation_saves(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        refused = await save(visitor)
        page = (await visitor.get(PATH)).text
    async with site.signed_in(Scope.ADMIN) as operator:
        theirs = (await operator.get(PATH)).status_code, (await save(operator)).status_code

    assert refused.status_code == 403
    assert 'value="save"' not in page
    assert theirs == (404, 404)
    assert await pool.fetchval("SELECT count(*) FROM schedules") == 0


async def test_a_form_without_its_token_is_refused(site: Site) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answer = await save(visitor, csrf="x")

    assert answer.status_code == 403


async def test_instants_are_in_the_future(site: Site) -> None:
    async with site.signed_in(Scope.READ, "acme") as visitor:
        page = (await visitor.get("/edit/preview?cron=@hourly&timezone=UTC")).text

    first = datetime.fromisoformat(page.split('datetime="')[1].split('"')[0])
    assert first > datetime.now(UTC)
