"""What every source holds to, those of users too: it ends, it is the same again, it resumes."""

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from app.context import WorkerContext
from app.core.errors import Failure
from app.core.messages import Partition, RawPage
from app.core.records import Article, Item, OddsEvent, Record, Story
from app.sources.base import Source
from tests import worker_harness
from tests.fetch.hostile import Visit
from tests.recipes import test_golden as examples
from tests.recipes.shop import Shop, ask, bare, items, open_shop, write
from tests.sources import test_golden as built_in
from workers import source
from workers.execute import execute

MOST = 300  # requests that no source needs for one partition of saved pages

SAVED: list[tuple[Source, bytes]] = [
    *((built_in.SOURCES[path.parent.name], path.read_bytes()) for path in built_in.PAGES),
    *(
        (examples.source_of(path), examples.page_of(path, "https://site.test").body)
        for path in examples.EXAMPLES
    ),
]
IDS = [f"{source.name}-{number}" for number, (source, _) in enumerate(SAVED)]


def raw(body: bytes, page: int = 1) -> RawPage:
    return RawPage(body, 200, "https://site.test/a", {}, examples.NOON, Partition("saved"), page)


def key_of(record: Record) -> str | None:
    match record:
        case OddsEvent():
            return record.platform_event_id
        case Article():
            return record.article_id
        case Story():
            return record.story_uuid
        case Item():
            return record.key
        case _:
            return None


def parsed(asked: Source, body: bytes) -> list[Record] | str:
    try:
        return list(asked.parse(raw(body)))
    except Failure as failure:
        return str(failure)


@pytest.mark.parametrize(("asked", "body"), SAVED, ids=IDS)
def test_a_page_read_twice_says_the_same_and_its_keys_are_its_own(
    asked: Source, body: bytes
) -> None:
    first = parsed(asked, body)

    again = parsed(asked, body)

    assert first == again
    keys = [key_of(record) for record in first if not isinstance(record, str)]
    result = [key for key in keys if key is not None]
    assert all(result)
    assert len(set(result)) == len(result)


@pytest.mark.parametrize(("asked", "body"), SAVED, ids=IDS)
def test_paging_ends_though_a_site_says_the_same_for_ever(asked: Source, body: bytes) -> None:
    asking = asked.pages(Partition(_part(asked)))
    asked_for = 0

    try:
        next(asking)
        while asked_for < MOST:
            asked_for += 1
            asking.send(raw(body, asked_for))
    except (StopIteration, Failure, KeyError):
        pass

    assert asked_for < MOST


def _part(asked: Source) -> str:
    return "all" if asked.name in {path.stem for path in examples.EXAMPLES} else "1"


FORMS = {
    "page": ('type = "page"\nmax_pages = 9\n', "?page={n}"),
    "offset": ('type = "offset"\nsize = 3\nmax_pages = 9\n', "?offset={o}&limit=3"),
    "cursor": ('type = "cursor"\npath = "next"\nmax_pages = 9\n', "?cursor={n}"),
    "next": ('type = "next"\npath = "next_url"\nmax_pages = 9\n', "?at={n}"),
    "link_header": ('type = "link_header"\nmax_pages = 9\n', "?at={n}"),
}
RECIPE = """
name = "paged"
kind = "json"
url = "{base}/paged"
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
mode = "{mode}"
"""


class Paged(Shop):
    """Three pages of a site of that form; hangs once at one of them."""

    def __init__(self, form: str, hang_at: int = 0) -> None:
        super().__init__()
        self.form, self.hang_at, self.hung = form, hang_at, asyncio.Event()

    async def __call__(self, visit: Visit) -> None:
        address = FORMS[self.form][1]
        known = {address.format(n=n, o=(n - 1) * 3): n for n in range(1, 5)}
        query = visit.path.partition("/paged")[2]
        number = known.get(query, 1 if not query or query == "?limit=3&offset=0" else 0)
        number = number or known.get("?offset=" + query.partition("offset=")[2] + "&limit=3", 0)
        self.asked.append(visit.path)
        if number == self.hang_at:
            self.hang_at = 0
            self.hung.set()
            await visit.hang()
        await self._answer(visit, number, address)

    async def _answer(self, visit: Visit, number: int, address: str) -> None:
        rows = [{"id": f"{number}{letter}"} for letter in "abc"] if 0 < number <= 3 else []
        following = f"/paged{address.format(n=number + 1, o=0)}" if 0 < number < 3 else None
        result: dict[str, Any] = {"items": rows, "next_url": following}
        result["next"] = number + 1 if following else None
        link = {"link": f'<{following}>; rel="next"'} if following else {}
        await visit.answer("200 OK", json.dumps(result).encode(), **link)


async def run_through(
    context: WorkerContext, folder: Path, shop: Paged, mode: str = "upsert"
) -> None:
    paging = FORMS[shop.form][0]
    write(folder, "paged", RECIPE.format(base=shop.base, paging=paging, mode=mode))
    if not shop.hang_at:
        await ask(context, "paged")
        return
    ctx = worker_harness.ctx_of(context)
    first = asyncio.create_task(execute(ctx, source.collect_recipe, params={"source": "paged"}))
    await shop.hung.wait()
    first.cancel()
    await first
    run_id = await context.pool.fetchval("SELECT execution_id FROM runs")
    await execute(worker_harness.ctx_of(context), source.collect_recipe, str(run_id))


@pytest.mark.parametrize("form", FORMS)
async def test_every_form_of_paging_reads_all_pages_and_ends(
    kitchen: WorkerContext, folder: Path, form: str
) -> None:
    async with open_shop(Paged(form)) as shop:
        assert isinstance(shop, Paged)
        await run_through(kitchen, folder, shop)

    (run,) = await kitchen.pool.fetch("SELECT status, error_message FROM runs")
    assert dict(run) == {"status": "success", "error_message": None}
    assert [row["key"] for row in await items(kitchen)] == [f"{n}{c}" for n in "123" for c in "abc"]
    assert len(shop.asked) <= 7  # each page once more after the next one


@pytest.mark.parametrize("page", [1, 2, 3])
@pytest.mark.parametrize("mode", ["upsert", "append", "append_on_change"])
async def test_a_run_that_is_cut_off_at_any_page_and_goes_on_leaves_the_same_table(
    kitchen: WorkerContext, folder: Path, page: int, mode: str
) -> None:
    async with open_shop(Paged("cursor", page)) as shop:
        assert isinstance(shop, Paged)
        await run_through(kitchen, folder, shop, mode)

    (run,) = await kitchen.pool.fetch("SELECT status, attempt FROM runs")
    assert dict(run) == {"status": "success", "attempt": 2}
    kept = [bare(row) for row in await items(kitchen)]
    assert [(row[2] or row[1]) for row in kept] == [f"{n}{c}" for n in "123" for c in "abc"]
    assert len(kept) == 9


@pytest.mark.parametrize(("mode", "rows"), [("upsert", 2), ("append", 4), ("append_on_change", 2)])
async def test_a_page_that_is_as_before_is_an_observation_where_each_one_is_a_row(
    kitchen: WorkerContext, folder: Path, shop: Shop, mode: str, rows: int
) -> None:
    body = json.dumps({"items": [{"id": 1}, {"id": 2}]}).encode()
    shop.paths["/paged"] = ("200 OK", body, {"etag": '"same"'})
    write(folder, "paged", RECIPE.format(base=shop.base, paging='type = "none"', mode=mode))

    ids = [await ask(kitchen, "paged") for _ in range(2)]

    runs = [await worker_harness.run_row(kitchen.pool, run_id) for run_id in ids]
    assert [run["status"] for run in runs] == ["success", "success"]
    assert len(await items(kitchen)) == rows


@pytest.mark.parametrize(
    "case",
    [
        ('type = "page"\nparam = "p"\nmax_pages = 5', "partial_failure", "page 2 is page 1 again"),
        ('type = "next"\npath = "self"\nmax_pages = 5', "partial_failure", "pagination loops"),
        ('type = "page"\nmax_pages = 2', "partial_failure", "there is more than max_pages = 2"),
        ('type = "page"\nmax_pages = 2\nenough = true', "success", None),
    ],
)
async def test_paging_that_does_not_lead_on_is_told(
    kitchen: WorkerContext, folder: Path, shop: Shop, case: tuple[str, str, str | None]
) -> None:
    paging, status, why = case
    write(
        folder,
        "paged",
        RECIPE.format(base=shop.base, paging=paging, mode="upsert").replace("/paged", "/wares"),
    )
    if "self" in paging:
        body = {"items": [{"id": 1}], "self": "/wares"}
        shop.paths["/wares"] = ("200 OK", json.dumps(body).encode(), {})

    run = await worker_harness.run_row(kitchen.pool, await ask(kitchen, "paged"))

    assert run["status"] == status
    assert (why or "") in (run["error_message"] or "")
