"""The forms of recipes and presets: lint, dry run, difference, revisions, and the API's rules."""

from collections.abc import AsyncGenerator
from html import unescape
from typing import Any

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.store.db import Pool
from app.store.orgs.recipe_revisions import KEPT
from app.web.dashboard.editing.recipes import difference
from tests.api.clients import wares
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.dashboard.server import Site, csrf_of
from tests.recipes.shop import Shop, open_shop

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    async with open_shop(Shop()) as opened:
        yield opened


@pytest.fixture
async def near(dsn: str, redis_url: str, pool: Pool, redis: ArqRedis) -> AsyncGenerator[Site]:
    """A web whose dry runs may visit loopback."""
    del redis
    async with sites.opened(config_for(dsn, redis_url, guard_allow=("127.0.0.1",)), pool) as opened:
        yield opened


async def post(visitor: httpx.AsyncClient, path: str, **form: str) -> httpx.Response:
    return await visitor.post(path, data={"csrf": csrf_of(visitor), **form})


def text_of(page: str, name: str = "recipe") -> str:
    """What stands in the text field of a page, as a browser reads it."""
    return unescape(
        page.split(f'name="{name}"')[1].split(">", 1)[1].split("</textarea>", maxsplit=1)[0][1:]
    )


def recipe(title: str = "title") -> str:
    return wares().replace("title", title)


async def test_a_recipe_is_created_changed_and_brought_back(site: Site, pool: Pool) -> None:
    first, second = recipe(), recipe() + "# <b>second</b>\n"
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        created = await post(visitor, "/edit/recipes", do="save", recipe=first)
        form = {"do": "save", "revision": "1"}
        changed = await post(
            visitor, "/edit/recipes/wares", recipe=second.replace("\n", "\r\n"), **form
        )
        page = (await visitor.get("/edit/recipes/wares")).text
        back = (await visitor.get("/edit/recipes/wares?revision=1")).text
        gone = [
            (await visitor.get(f"/edit/recipes/wares?revision={n}")).status_code for n in ("9", "x")
        ]
        stale = await post(visitor, "/edit/recipes/wares", recipe=first, **form)
        listed = (await visitor.get("/edit/recipes")).text

    rows = await pool.fetch('SELECT revision, recipe, "by" FROM org_source_revisions ORDER BY 1')
    assert created.headers["location"] == "/edit/recipes/wares?done=saved", created.text
    assert changed.headers["location"] == "/edit/recipes/wares?done=saved", changed.text
    assert [tuple(row) for row in rows] == [(1, first, "acme/ann"), (2, second, "acme/ann")]
    assert text_of(page) == second
    assert "Nothing differs" in page
    assert text_of(back) == first
    assert "<del>- # &lt;b&gt;second&lt;/b&gt;</del>" in back
    assert gone == [404, 404]
    assert stale.status_code == 412
    assert 'href="/edit/recipes/wares"' in listed


async def test_faults_are_named_with_their_line_and_nothing_is_stored(
    site: Site, pool: Pool
) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answers = [
            await post(visitor, "/edit/recipes", do=do, recipe="name = 7\nnonsense = true\n")
            for do in ("check", "try", "save")
        ]
        fine = await post(visitor, "/edit/recipes", do="check", recipe=recipe())

    for answer in answers:
        assert answer.status_code == 422
        assert "Line 1, <code>name</code>" in answer.text
        assert text_of(answer.text) == "name = 7\nnonsense = true\n"
    assert "The recipe has no faults" in fine.text
    assert await pool.fetchval("SELECT count(*) FROM org_sources") == 0


async def test_a_dry_run_shows_the_rows_of_the_real_page(
    near: Site, shop: Shop, pool: Pool
) -> None:
    shop.wares[0]["name"] = "<script>alert(1)</script>"
    text = wares(url=f"{shop.base}/wares")
    async with near.signed_in(Scope.OPERATE, "acme") as visitor:
        page = (await post(visitor, "/edit/recipes", do="try", recipe=text)).text
        away = (await post(visitor, "/edit/recipes", do="try", recipe=wares())).text

    assert "3 rows found, 0 rejected" in page
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "<script>alert" not in page
    assert 'class="fault"' in away
    assert await pool.fetchval("SELECT count(*) FROM items") == 0


async def test_a_large_recipe_fits_into_the_form(site: Site) -> None:
    text = recipe() + "# " + "é" * 30_000 + "\n"
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answer = await post(visitor, "/edit/recipes", do="save", recipe=text)

    assert answer.status_code == 303, answer.text[:500]


async def test_only_the_last_revisions_are_kept_and_go_with_the_recipe(
    site: Site, pool: Pool
) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        await post(visitor, "/edit/recipes", do="save", recipe=recipe())
        await pool.execute("UPDATE org_sources SET revision = $1", KEPT)
        await post(visitor, "/edit/recipes/wares", do="save", recipe=recipe() + "# more\n")
        kept = await pool.fetch("SELECT revision FROM org_source_revisions")
        deleted = await post(visitor, "/edit/recipes/wares", do="delete")

    assert [row["revision"] for row in kept] == [KEPT + 1]
    assert deleted.headers["location"] == "/edit/recipes?done=deleted"
    assert await pool.fetchval("SELECT count(*) FROM org_source_revisions") == 0


@pytest.mark.parametrize("query", ["", "?revision=1"])
async def test_a_name_that_postgres_cannot_hold_is_refused(site: Site, query: str) -> None:
    async with site.signed_in(Scope.READ, "acme") as visitor:
        answer = await visitor.get(f"/edit/recipes/%00{query}")

    assert answer.status_code == 400


async def test_a_reader_tries_and_stores_nothing(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.READ, "acme") as visitor:
        page = (await visitor.get("/edit/recipes")).text
        refused = await post(visitor, "/edit/recipes", do="check", recipe=recipe())
    async with site.signed_in(Scope.OPERATE, "acme") as visitor:
        unsaved = await post(visitor, "/edit/recipes", do="save", recipe=recipe())

    assert 'value="check"' not in page
    assert (refused.status_code, unsaved.status_code) == (403, 403)
    assert await pool.fetchval("SELECT count(*) FROM org_sources") == 0


async def test_a_preset_is_created_changed_and_deleted(site: Site, pool: Pool) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        made = await post(visitor, "/edit/presets", name="ours", sources="bet9ja\n\nsportybet {}")
        path = made.headers["location"].partition("?")[0]
        page = (await visitor.get(path)).text
        changed = await post(visitor, path, name="ours too", sources="betpawa", revision="1")
        stale = await post(visitor, path, name="ours", sources="betpawa", revision="1")
        stored = await pool.fetchrow(
            "SELECT name, sources FROM collection_presets WHERE org_id IS NOT NULL"
        )
        deleted = await post(visitor, path, do="delete")

    assert text_of(page, "sources") == "bet9ja\nsportybet"
    assert changed.status_code == 303
    assert stale.status_code == 412
    assert stored is not None
    assert tuple(stored) == ("ours too", [{"source": "betpawa", "params": {}}])
    assert deleted.headers["location"] == "/edit/presets?done=deleted"


@pytest.mark.parametrize(
    ("sources", "named"),
    [
        ("bet9ja {", "Line 1, <code>bet9ja</code>"),
        ("bet9ja\nbet9ja [1]", "params"),
        ("nobody", "nobody"),
        ("", "sources"),
        ("bet9ja " + "[" * 3_000, "Line 1"),
    ],
)
async def test_what_a_preset_may_not_have_is_named(site: Site, sources: str, named: str) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        answer = await post(visitor, "/edit/presets", name="ours", sources=sources)

    problem = answer.text.split('id="problem"')[1].split("</div>")[0]
    assert answer.status_code == 422
    assert named in problem
    assert text_of(answer.text, "sources") == sources


async def test_a_built_in_preset_is_not_changed(site: Site, pool: Pool) -> None:
    preset_id: Any = await pool.fetchval("SELECT id FROM collection_presets WHERE name = 'odds'")
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        page = (await visitor.get(f"/edit/presets/{preset_id}")).text
        refused = await post(visitor, f"/edit/presets/{preset_id}", name="x", sources="bet9ja")

    assert 'value="save"' not in page
    assert refused.status_code == 409


def test_a_difference_has_the_lines_that_differ() -> None:
    before, after = "a\nb\nc\n", "a\nB\nc\n"

    assert difference(before, after) == [
        ("@", "@@ -1,3 +1,3 @@"), (" ", "a"), ("-", "b"), ("+", "B"), (" ", "c"),
    ]  # fmt: skip
    assert difference(before, before) == []
