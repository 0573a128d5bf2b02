"""A run whose listing did not end is no success, marks nothing as missing, moves no cursor."""

import asyncio
import gzip
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from app.context import WorkerContext
from app.core.messages import SourceRequest
from tests import worker_harness
from tests.fetch.hostile import Visit
from tests.recipes.served_pages import ERROR, KINDS, PAGES, MovingList, json_page, without
from tests.recipes.shop import Shop, ask, items, open_shop, write
from tests.wait import until
from workers import source
from workers.execute import execute

RECIPE = """
name = "{name}"
kind = "json"
url = "{base}/list"
[limits]
rate = 50
burst = 50
[paginate]
{paging}
[extract]
records = "items"
[extract.fields]
id = "id"
[store]
key = "id"
{more}
"""
VARIANTS = {"marking": 'missing = "mark"', "moving": '[incremental]\nparam = "since"'}
EMPTY = b'{"items": [], "meta": {"cursor": null, "next": null}, "error": "quota exceeded"}'
MIDDLES: dict[str, tuple[str, bytes] | tuple[str, bytes, dict[str, str]]] = {
    "an empty list with an error": ("200 OK", EMPTY),
    "an empty list of another kind": ("200 OK", b'{"items": []}', {"content_type": "text/html"}),
    "cut off": ("200 OK", str(json_page(3).body).encode()[:50]),
    "sign in": ("302 Found", b"", {"location": "/list"}),
    "half a gzip": ("200 OK", gzip.compress(bytes(500))[:-12], {"content_encoding": "gzip"}),
    "error": ("200 OK", ERROR.encode()),
    "captcha": ("200 OK", b"<html><form>Are you human?</form></html>"),
    "no list": ("200 OK", b'{"meta": {}}'),
    "page 1 again": ("200 OK", str(json_page(1).body).encode()),
    "404": ("404 Not Found", b""),
    "416": ("416 Range", b""),
    "204": ("204 No Content", b""),
}


class Site(Shop):
    """Four pages of three rows; answers `middle` to a request for page 3."""

    middle: tuple[str, bytes] | tuple[str, bytes, dict[str, str]] | None = None

    async def __call__(self, visit: Visit) -> None:
        self.asked.append(visit.path)
        query = dict(pair.split("=") for pair in visit.path.partition("?")[2].split("&") if pair)
        offset = int(query.get("offset", 0))
        number = int(query.get("page") or query.get("cursor") or offset // 3 + 1)
        if number == 3 and self.middle is not None:
            status, body, *headers = self.middle
            await visit.answer(status, body, **(headers[0] if headers else {}))
            return
        page = json_page(number)
        link = {"link": page.link} if page.link else {}
        await visit.answer(body=str(page.body).encode(), **link)


async def run(context: WorkerContext, name: str) -> dict[str, Any]:
    return await worker_harness.run_row(context.pool, await ask(context, name))


@pytest.mark.parametrize("kind", KINDS)
async def test_no_run_that_meets_no_end_is_a_success(
    kitchen: WorkerContext, folder: Path, kind: str
) -> None:
    async with open_shop(Site()) as site:
        assert isinstance(site, Site)
        for name, more in VARIANTS.items():
            paging = KINDS[kind]
            write(folder, name, RECIPE.format(name=name, base=site.base, paging=paging, more=more))
            assert (await run(kitchen, name))["status"] == "success"
        before = await kitchen.pool.fetch("SELECT partition, value FROM source_cursors")
        rows = 3 * PAGES * len(VARIANTS)
        for middle, answer in MIDDLES.items():
            site.middle = answer
            for name in VARIANTS:
                row = await run(kitchen, name)
                assert row["status"] in ("partial_failure", "failure"), (middle, name)

        kept = await items(kitchen)
        assert [row["key"] for row in kept if row["absent_since"] or row["missing_since"]] == []
        assert len(kept) == rows
        assert await kitchen.pool.fetch("SELECT partition, value FROM source_cursors") == before


@dataclass
class MovingSite(Shop):
    """Serves `list`, which is changed whenever page 3 is requested for the first time in a run."""

    list: MovingList | None = None

    async def __call__(self, visit: Visit) -> None:
        assert self.list is not None
        page = self.list(SourceRequest(f"https://site.test{visit.path}"))
        await visit.answer(
            body=str(page.body).encode(), **({"link": page.link} if page.link else {})
        )


@pytest.mark.parametrize("kind", KINDS)
async def test_a_list_that_moves_up_while_it_is_read_loses_no_row(
    kitchen: WorkerContext, folder: Path, kind: str
) -> None:
    """Row 3a moves onto page 2 in each run: two listings lack it, and it is there all the time."""
    for name, more in VARIANTS.items():
        async with open_shop(MovingSite(list=MovingList("json", 9, list, total=True))) as site:
            assert isinstance(site, MovingSite)
            paging = KINDS[kind] + '\ntotal = "total"'
            write(folder, name, RECIPE.format(name=name, base=site.base, paging=paging, more=more))
            assert (await run(kitchen, name))["status"] == "success"
            before = await kitchen.pool.fetch("SELECT partition, value FROM source_cursors")
            for _ in range(2):
                site.list = MovingList("json", 3, without("2a", joined=["5a"]), total=True)
                row = await run(kitchen, name)
                assert row["status"] == "partial_failure"
                assert "rows of page 2 left it" in row["error_message"]

        kept = await items(kitchen)
        assert [item["key"] for item in kept if item["absent_since"] or item["missing_since"]] == []
        assert await kitchen.pool.fetch("SELECT partition, value FROM source_cursors") == before


CURSORS = "SELECT partition, value FROM source_cursors"


@pytest.mark.parametrize("field", ["", '\nfield = "at"'])
@pytest.mark.parametrize("first", [True, False])
async def test_a_cursor_does_not_pass_rows_that_could_not_be_read(
    kitchen: WorkerContext, folder: Path, shop: Shop, field: str, first: bool
) -> None:
    text = RECIPE.format(name="since", base=shop.base, paging='type = "none"', more="").replace(
        'id = "id"', 'id = "id"\nat = "at"'
    )
    write(folder, "since", f'{text}\n[incremental]\nparam = "since"{field}')
    listed = {"items": [{"id": str(n), "at": f"2026-11-20T10:0{n}:00Z"} for n in range(5)]}
    if not first:
        shop.paths["/list"] = ("200 OK", json.dumps(listed).encode(), {})
        assert (await run(kitchen, "since"))["status"] == "success"
    before = await kitchen.pool.fetch(CURSORS)
    renamed = {"items": [{"uid": str(n), "at": "2026-11-20T11:00:00Z"} for n in range(5, 9)]}
    renamed["items"] += [{"id": "9", "at": "2026-11-20T11:30:00Z"}]
    shop.paths["/list"] = ("200 OK", json.dumps(renamed).encode(), {})

    row = await run(kitchen, "since")

    assert (row["status"], row["stats"]["breach"]) == ("partial_failure", "drift")
    assert await kitchen.pool.fetch(CURSORS) == before
    assert len(before) == (0 if first else 1)


async def test_a_named_status_ends_the_listing_of_a_run(
    kitchen: WorkerContext, folder: Path
) -> None:
    async with open_shop(Site()) as site:
        assert isinstance(site, Site)
        site.middle = ("404 Not Found", b"")
        paging = KINDS["page"] + "\nend_status = [404]"
        text = RECIPE.format(name="ending", base=site.base, paging=paging, more="")
        write(folder, "ending", text)

        row = await run(kitchen, "ending")

    assert (row["status"], row["stats"]["rows"]) == ("success", 6)


RATES = """
name = "rates"
kind = "json"
url = "{base}/rates/{{each}}"
[request]
each = ["EUR", "USD", "GBP"]
[limits]
rate = 50
burst = 50
[extract]
records = "rates"
[extract.fields]
date = "date"
rate = {{ path = "rate", type = "decimal" }}
{columns}
[store]
key = {key}
"""


def rates(shop: Shop) -> None:
    for number, each in enumerate(("EUR", "USD", "GBP")):
        body = {"source": "bank", "rates": [{"date": "2026-11-20", "rate": f"1.{number}"}]}
        shop.paths[f"/rates/{each}"] = ("200 OK", json.dumps(body).encode(), {})


async def test_keys_that_collide_across_partitions_are_refused_with_both_places(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    rates(shop)
    write(folder, "rates", RATES.format(base=shop.base, columns="", key='"date"'))

    row = await run(kitchen, "rates")

    assert row["status"] == "partial_failure"
    assert (row["stats"]["rows"], row["stats"]["rejected"]) == (1, 2)
    reasons = await kitchen.pool.fetch("SELECT reason FROM rejected_records ORDER BY id")
    assert reasons[0]["reason"].startswith("the key '2026-11-20' is taken by another row")
    assert "partition 'EUR', page 1; and here, partition 'USD', page 1" in reasons[0]["reason"]


@dataclass
class SlowShop(Shop):
    """Answers nothing at `waits_at` until `open` is set."""

    waits_at: str = ""
    open: asyncio.Event = field(default_factory=asyncio.Event)

    async def __call__(self, visit: Visit) -> None:
        if visit.path == self.waits_at and not self.open.is_set():
            self.asked.append(visit.path)
            await self.open.wait()
        await super().__call__(visit)


async def test_the_next_attempt_knows_the_keys_of_the_partitions_that_it_does_not_read_again(
    kitchen: WorkerContext, folder: Path
) -> None:
    async with open_shop(SlowShop(waits_at="/rates/USD")) as shop:
        assert isinstance(shop, SlowShop)
        rates(shop)
        write(folder, "rates", RATES.format(base=shop.base, columns="", key='"date"'))
        first = asyncio.create_task(ask(kitchen, "rates"))
        await until(lambda: "/rates/USD" in shop.asked, what="the second partition")
        await until(lambda: kitchen.pool.fetchval("SELECT count(*) FROM run_keys"), what="the keys")
        first.cancel()
        run_id = await first
        shop.open.set()

        await execute(worker_harness.ctx_of(kitchen), source.collect_recipe, str(run_id))
        row = await worker_harness.run_row(kitchen.pool, run_id)

    assert (row["attempt"], row["stats"]["rows"], row["stats"]["rejected"]) == (2, 1, 2)
    assert shop.asked.count("/rates/EUR") == 1
    assert [item["data"]["rate"] for item in await items(kitchen)] == ["1.0"]
    assert await kitchen.pool.fetchval("SELECT count(*) FROM run_keys") == 0


async def test_each_and_the_page_can_be_columns_and_parts_of_a_key(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    rates(shop)
    columns = '[columns]\nbase = "{each}"\nbank = { path = "source" }'
    text = RATES.format(base=shop.base, columns=columns, key='["base", "date"]')
    write(folder, "rates", text)

    row = await run(kitchen, "rates")

    assert (row["status"], row["stats"]["rows"]) == ("success", 3)
    kept = await items(kitchen)
    assert [item["key"] for item in kept] == [f"{c}|2026-11-20" for c in ("EUR", "GBP", "USD")]
    assert {item["data"]["bank"] for item in kept} == {"bank"}


async def test_a_small_source_that_has_nothing_any_more_is_drift(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    text = RECIPE.format(name="small", base=shop.base, paging='type = "none"', more="")
    write(folder, "small", text)
    listed = {"items": [{"id": str(number)} for number in range(8)]}
    shop.paths["/list"] = ("200 OK", json.dumps(listed).encode(), {})
    good = [(await run(kitchen, "small"))["status"] for _ in range(2)]

    shop.paths["/list"] = ("200 OK", b'{"items": []}', {})
    row = await run(kitchen, "small")

    assert good == ["success"] * 2
    assert (row["status"], row["stats"]["breach"]) == ("partial_failure", "drift")
    assert row["error_message"] == "small: no records where the last runs had 8, 8"


async def test_more_than_a_tenth_of_the_rows_refused_is_drift(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    write(folder, "bad", RECIPE.format(name="bad", base=shop.base, paging='type = "none"', more=""))
    listed = {"items": [{"id": str(n) if n >= 40 else None} for n in range(100)]}
    shop.paths["/list"] = ("200 OK", json.dumps(listed).encode(), {})

    row = await run(kitchen, "bad")

    assert (row["status"], row["stats"]["breach"]) == ("partial_failure", "drift")
    assert "40 % of the records could not be read; at most 10 %" in row["error_message"]


class ConditionalSite(Site):
    """Answers 304, with no more headers than it must, to who has the page."""

    charset: str | None = None
    conditional: int = 0

    async def __call__(self, visit: Visit) -> None:
        if "if-none-match" in visit.head.lower():
            self.conditional += 1
            await visit.say(b'HTTP/1.1 304 Not Modified\r\netag: "1"\r\nconnection: close\r\n\r\n')
        elif self.charset is not None:
            body = '{"items": [{"id": "Käse"}]}'.encode(self.charset)
            media = f"application/json; charset={self.charset}"
            await visit.answer(body=body, content_type=media, etag='"1"')
        else:
            page = json_page(int(visit.path.partition("page=")[2] or 1))
            link = {"link": page.link} if page.link else {}
            await visit.answer(body=str(page.body).encode(), etag='"1"', **link)


async def test_a_page_that_is_not_modified_still_names_the_next_page_in_its_header(
    kitchen: WorkerContext, folder: Path
) -> None:
    async with open_shop(ConditionalSite()) as site:
        assert isinstance(site, ConditionalSite)
        more = 'missing = "mark"'
        paging = KINDS["link_header"] + "\nstable = true"
        text = RECIPE.format(name="links", base=site.base, paging=paging, more=more)
        write(folder, "links", text)
        first = await run(kitchen, "links")

        again = await run(kitchen, "links")

    assert site.conditional == PAGES
    assert [row["stats"]["pages"] for row in (first, again)] == [PAGES, PAGES]
    assert [row["status"] for row in (first, again)] == ["success", "success"]
    assert not [item["key"] for item in await items(kitchen) if item["absent_since"]]


async def test_a_page_that_is_not_modified_is_read_in_its_own_encoding(
    kitchen: WorkerContext, folder: Path
) -> None:
    async with open_shop(ConditionalSite()) as site:
        assert isinstance(site, ConditionalSite)
        site.charset = "iso-8859-1"
        text = RECIPE.format(name="latin", base=site.base, paging='type = "none"', more="")
        write(folder, "latin", text)
        await run(kitchen, "latin")

        again = await run(kitchen, "latin")

    assert (site.conditional, again["status"], again["error_message"]) == (1, "success", None)


async def test_numbered_pages_go_on_at_the_whole_of_a_long_address(
    kitchen: WorkerContext, folder: Path
) -> None:
    ids = ",".join(str(number) for number in range(1_000, 1_200))
    async with open_shop(Site()) as site:
        text = RECIPE.format(name="long", base=site.base, paging=KINDS["page"], more="")
        write(folder, "long", text.replace("/list", f"/list?ids={ids}"))

        row = await run(kitchen, "long")

    assert row["stats"]["pages"] == PAGES + 1
    assert all(f"ids={ids}" in path for path in site.asked)


class ManyLanguages(Shop):
    """One address in two languages; modified at one instant, which it does not serve again."""

    async def __call__(self, visit: Visit) -> None:
        head = visit.head.lower()
        modified = "Sat, 05 Sep 2026 10:00:00 GMT"
        if "if-modified-since" in head:
            await visit.answer("304 Not Modified", b"", last_modified=modified)
        else:
            name = "Käse" if "accept-language: de" in head else "cheese"
            body = json.dumps({"items": [{"id": name}]}).encode()
            await visit.answer(body=body, last_modified=modified, vary="accept-language")


async def test_partitions_that_differ_in_a_header_are_two_pages(
    kitchen: WorkerContext, folder: Path
) -> None:
    more = '[request]\neach = ["en", "de"]\n[http]\nheaders = { Accept-Language = "{each}" }'
    async with open_shop(ManyLanguages()) as site:
        text = RECIPE.format(name="food", base=site.base, paging='type = "none"', more=more)
        write(folder, "food", text)

        rows = [await run(kitchen, "food") for _ in range(2)]

        write(folder, "food", text.replace('["en", "de"]', '["en"]'))
        again = await run(kitchen, "food")

    assert [row["status"] for row in (*rows, again)] == ["success"] * 3
    assert [row["stats"]["pages_unchanged"] for row in (*rows, again)] == [0, 2, 1]
    assert {item["key"] for item in await items(kitchen)} == {"cheese", "Käse"}
