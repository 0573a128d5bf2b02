"""A recipe runs as every source does: through the executor, page by page, into `items`."""

from pathlib import Path

from app.context import WorkerContext
from tests import worker_harness
from tests.recipes.shop import Shop, ask, items, ware, write

WARES = """
name = "wares"
kind = "json"
url = "{base}/wares"

[limits]
rate = 50
burst = 50

[paginate]
type = "page"
max_pages = 10
total = "total"

[extract]
records = "items"

[extract.fields]
id = "id"
name = "name"
price = {{ path = "price.amount", type = "decimal" }}
at = {{ path = "at", type = "datetime" }}

[store]
key = "id"
missing = "mark"
"""


async def test_a_recipe_reads_all_pages_into_items(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", WARES.format(base=shop.base))

    run_id = await ask(kitchen, "wares")

    run = await worker_harness.run_row(kitchen.pool, run_id)
    assert (run["status"], run["error_message"]) == ("success", None)
    assert run["stats"]["rows"] == 7
    assert run["stats"]["inserted"] == 7
    kept = await items(kitchen)
    assert [row["key"] for row in kept] == list("1234567")
    assert kept[0]["data"] == {
        "id": "1",
        "name": "ware 1",
        "price": "1.50",
        "at": "2026-09-05T12:00:01Z",
    }


async def test_what_two_whole_listings_lack_is_missing(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", WARES.format(base=shop.base))
    await ask(kitchen, "wares")
    del shop.wares[4]
    shop.wares[0] = ware(1, name="another")

    run_id = await ask(kitchen, "wares")

    run = await worker_harness.run_row(kitchen.pool, run_id)
    assert (run["status"], run["error_message"]) == ("success", None)
    assert run["stats"]["changed"] == 1
    assert [row["key"] for row in await items(kitchen) if row["absent_since"]] == ["5"]
    assert not any(row["missing_since"] for row in await items(kitchen))

    await ask(kitchen, "wares")

    assert [row["key"] for row in await items(kitchen) if row["missing_since"]] == ["5"]
