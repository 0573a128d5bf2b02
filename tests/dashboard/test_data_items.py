"""The pages of items, rejected records and raw pages, of the operator and of organisations."""

import re
from html import unescape
from uuid import UUID

import pytest

from app.core.enums import Scope
from app.core.records import Item
from app.store import bounded
from tests.dashboard.collected import HOSTILE, JOB, collected
from tests.dashboard.fixtures import Scene
from tests.dashboard.server import Site, cells, shown


def book(number: int, **data: str | int) -> Item:
    return Item("books", f"k{number:03}", {"title": f"Book {number}", "price": number} | data)


async def as_org(site: Site, path: str, status: int = 200, org: str = "acme") -> str:
    async with site.signed_in(Scope.READ, org) as visitor:
        answer = await visitor.get(path)
    assert answer.status_code == status, answer.text
    return unescape(answer.text)


async def org_id(site: Site, org: str = "acme") -> UUID:
    await site.token(Scope.READ, org)
    found: UUID = await site.pool.fetchval("SELECT id FROM organizations WHERE name = $1", org)
    return found


async def test_items_have_the_columns_of_their_source_and_link_to_run_and_tick(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    await known.items("books", [book(1), book(2)])

    sources = await shown(site, "/data/items")
    page = await shown(site, "/data/items/books")

    assert 'href="/data/items/books"' in sources
    assert "k001 1 Book 1" in cells(page)
    assert f'href="/runs/{known.runs[-1]}"' in page
    assert f'href="/jobs/{JOB}/ticks/' in page


async def test_the_ticks_of_what_a_job_stores_under_a_name_of_its_own_are_those_of_the_job(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    await known.items("books", [book(1)])
    await known.items("acme books", [book(2)], await org_id(site))

    async with site.signed_in(Scope.READ) as visitor:
        own = await visitor.get("/data/sources/books")
        other = await visitor.get("/data/sources/acme%20books")
    async with site.signed_in(Scope.READ, "acme") as visitor:
        theirs = await visitor.get("/data/sources/books")

    assert (own.status_code, own.headers.get("location")) == (303, f"/jobs/{JOB}")
    assert (other.status_code, theirs.status_code) == (404, 404)


async def test_the_name_of_a_source_may_have_a_slash(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.items("shop/prices", [Item("shop/prices", "k001", {"title": "Book 1"})])

    sources = await shown(site, "/data/items")
    page = await shown(site, "/data/items/shop%2Fprices")
    (item,) = re.findall(r'href="(/data/item/\d+/shop%2Fprices)"', page)

    assert 'href="/data/items/shop%2Fprices"' in sources
    assert "Book 1" in cells(await shown(site, item))


async def test_the_name_of_a_source_may_end_like_the_address_of_an_item(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    await known.items("shop", [Item("shop", "k001", {"title": "Book 1"})])
    number = await scene.pool.fetchval("SELECT max(id) FROM items")
    name = f"shop/{number}"
    await known.items(name, [Item(name, "k002", {"title": "Book 2"})])

    page = await shown(site, f"/data/items/shop%2F{number}")
    (item,) = re.findall(rf'href="(/data/item/\d+/shop%2F{number})"', page)

    assert "Book 2" in cells(page)
    assert "Book 2" in cells(await shown(site, item))


async def test_every_order_pages_through_all_items_once(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.items("books", [book(n) for n in range(120)])

    for order in ("changed", "key", "price", "-price"):
        seen: list[int] = []
        path = f"/data/items/books?order={order}"
        async with site.signed_in(Scope.READ) as visitor:
            while path:
                page = (await visitor.get(path)).text
                seen += [int(n) for n in re.findall(r">k(\d+)<", page)]
                older = re.search(r'rel="next" href="([^"]+)"', page)
                path = unescape(older[1]) if older else ""
        wanted = {"changed": None, "-price": list(reversed(range(120)))}
        assert sorted(seen) == list(range(120)), order
        assert seen == wanted.get(order, list(range(120))) or order == "changed"


async def test_a_search_examines_a_bounded_number_and_goes_on(
    site: Site, scene: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = await collected(scene)
    monkeypatch.setattr(bounded.row_page, "__defaults__", (20,))
    await known.items("books", [book(n) for n in range(60)] + [book(900, title="The Needle")])

    path, pages = "/data/items/books?q=needle", list[str]()
    async with site.signed_in(Scope.READ) as visitor:
        while path:
            pages.append((await visitor.get(path)).text)
            older = re.search(r'rel="next" href="([^"]+)"', pages[-1])
            path = unescape(older[1]) if older else ""

    assert ["The Needle" in page for page in pages].count(True) == 1
    assert ["20 items examined" in page for page in pages] == [True] * 3 + [False]


async def test_missing_items_are_shown_as_such(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.items("books", [book(1), book(2)])
    await known.pool.execute("UPDATE items SET missing_since = now() WHERE key = 'k001'")

    missing = cells(await shown(site, "/data/items/books?state=missing"))
    present = cells(await shown(site, "/data/items/books?state=present"))

    assert "k001" in missing
    assert "k002" not in missing
    assert "k002" in present
    assert "k001" not in present


@pytest.mark.parametrize("org", [False, True], ids=["operator", "organisation"])
async def test_an_item_says_what_changed_and_by_which_run(
    site: Site, scene: Scene, *, org: bool
) -> None:
    known = await collected(scene)
    owner = await org_id(site) if org else None
    for price in (5, 7):
        await known.items("books", [book(1, price=price)], owner)
    newest = await known.pool.fetchval("SELECT max(id) FROM items")

    page = await (as_org if org else shown)(site, f"/data/item/{newest}/books")

    assert "price 5 → 7" in cells(page)


async def test_an_organisation_sees_its_own_items_only(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    acme, other = await org_id(site), await org_id(site, "other")
    await known.items("recipe:shop", [book(1, title="Mine")], acme)
    await known.items("recipe:shop", [book(1, title="Theirs")], other)
    await known.items("recipe:shop", [book(1, title="House")])
    theirs = await known.pool.fetchval("SELECT id FROM items WHERE org_id = $1", other)

    page = cells(await as_org(site, "/data/items/recipe:shop"))
    chosen = cells(await as_org(site, "/data/items/recipe:shop?org=other"))
    operators = cells(await shown(site, "/data/items/recipe:shop?org=other"))
    operator = cells(await shown(site, "/data/items/recipe:shop"))
    await as_org(site, f"/data/item/{theirs}/recipe:shop", 404)

    assert [word for word in ("Mine", "Theirs", "House") if word in page] == ["Mine"]
    assert [word for word in ("Mine", "Theirs", "House") if word in chosen] == ["Mine"]
    assert [word for word in ("Mine", "Theirs", "House") if word in operators] == ["Theirs"]
    assert [word for word in ("Mine", "Theirs", "House") if word in operator] == ["House"]


OPERATORS = (
    "/data/odds", "/data/matches/70000001", "/data/articles", "/data/stories", "/data/stories/1",
)  # fmt: skip


@pytest.mark.parametrize("path", OPERATORS)
async def test_what_belongs_to_the_operator_is_no_page_for_organisations(
    site: Site, path: str
) -> None:
    page = await as_org(site, path, 404)
    navigation = await as_org(site, "/data/items")

    assert "No such page" in page
    assert 'href="/data/odds"' not in navigation


async def test_an_organisation_sees_no_page_record_or_tick_of_the_operator(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    await known.rejected("a secret reason")
    page_id = await known.page(b"secret", {})
    await known.source("bet9ja")

    rejected = await as_org(site, "/data/rejected")
    for path in (
        f"/data/pages/{page_id}", f"/data/pages/{page_id}/body", f"/runs/{known.runs[-1]}/pages",
        "/data/sources/bet9ja",
    ):  # fmt: skip
        await as_org(site, path, 404)

    assert "a secret reason" not in rejected


async def test_an_organisation_sees_the_pages_and_rejections_of_its_runs(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    acme = await org_id(site)
    await known.pool.execute(
        "UPDATE runs SET org_id = $1 WHERE execution_id = $2", acme, known.runs[-1]
    )
    await known.rejected("no price", source="recipe:shop")
    page_id = await known.page(b"my page", {}, source="recipe:shop")

    rejected = await as_org(site, "/data/rejected")
    page = await as_org(site, f"/data/pages/{page_id}")
    listed = await as_org(site, f"/runs/{known.runs[-1]}/pages")

    assert "no price" in rejected
    assert f'href="/data/pages/{page_id}"' in rejected
    assert "my page" in page
    assert "https://site.example/list?page=1" in listed


async def test_rejected_records_of_all_runs_have_reason_page_run_and_tick(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    await known.rejected("no kick-off", b'{"id": 1}')
    await known.rejected("no price", b"\xff\x00<b>", source="betpawa")
    page_id = await known.page(b"x", {})

    page = await shown(site, "/data/rejected")
    some = cells(await shown(site, "/data/rejected?source=betpawa&reason=PRICE"))

    assert "no kick-off" in page
    assert f'href="/data/pages/{page_id}"' in page
    assert "not kept" in page
    assert f'href="/runs/{known.runs[-1]}"' in page
    assert f'href="/jobs/{JOB}/ticks/' in page
    assert "no price" in some
    assert "no kick-off" not in some


async def test_a_raw_page_is_text_whatever_the_site_sent(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    body = f"<html><body onload=alert(1)>{HOSTILE} é</body></html>".encode("utf-16-le")
    page_id = await known.page(body, {"content-type": "text/html; charset=utf-16le"})

    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get(f"/data/pages/{page_id}")).text
        download = await visitor.get(f"/data/pages/{page_id}/body")

    assert "&lt;html&gt;&lt;body onload=alert(1)&gt;" in page
    assert "<body onload" not in page
    assert "charset=utf-16le" in page
    assert download.content == body
    assert download.headers["content-type"] == "application/octet-stream"
    assert download.headers["content-disposition"].startswith("attachment")
    assert download.headers["cache-control"] == "no-store"


async def test_the_run_page_leads_to_its_kept_pages(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.source("bet9ja")

    page = await shown(site, f"/runs/{known.runs[-1]}")

    assert f'href="/runs/{known.runs[-1]}/pages"' in page
    assert 'href="/data/sources/bet9ja"' in page


async def test_values_of_strangers_are_text(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.items("books", [Item("books", HOSTILE, {"title": HOSTILE, "n": {"a": HOSTILE}})])
    await known.rejected(HOSTILE, HOSTILE.encode())
    item_id = await known.pool.fetchval("SELECT id FROM items")

    async with site.signed_in(Scope.READ) as visitor:
        for path in ("/data/items/books", f"/data/item/{item_id}/books", "/data/rejected"):
            page = (await visitor.get(path)).text
            assert "<script>alert" not in page
            assert '<bdi dir="auto">&lt;script&gt;' in page


@pytest.mark.parametrize("charset", ["utf-7", "raw_unicode_escape", "idna", "undefined", "hex"])
async def test_a_raw_page_is_shown_whatever_charset_the_site_names(
    site: Site, scene: Scene, charset: str
) -> None:
    known = await collected(scene)
    page_id = await known.page(b"plain +2AA- \\ud800", {"content-type": f"x; charset={charset}"})

    page = await shown(site, f"/data/pages/{page_id}")

    assert "plain" in page


async def test_a_source_whose_job_has_had_no_tick_has_a_page_that_says_so(
    site: Site, scene: Scene
) -> None:
    await scene.job("scrape_all_platforms", [])

    page = await shown(site, "/data/sources/bet9ja")
    await shown(site, "/data/sources/nothing_of_this_name", 404)

    assert "No tick yet" in page
