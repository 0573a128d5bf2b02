"""A recipe's source is held to what it says under `expect`, and to what it usually brings."""

from pathlib import Path
from typing import Any

from app.context import WorkerContext
from tests.recipes.shop import Shop, ask, items, ware, write
from tests.worker_harness import run_row

WARES = """
name = "shop"
kind = "json"
url = "{base}/wares"

[limits]
rate = 50
burst = 50

[paginate]
type = "page"
max_pages = 20

[extract]
records = "items"
[extract.fields]
id = {{ path = "id", type = "integer" }}
name = "name"
at = {{ path = "at", type = "datetime" }}

[store]
key = "id"
missing = "mark"
"""


async def run(context: WorkerContext) -> dict[str, Any]:
    return await run_row(context.pool, await ask(context, "shop"))


async def test_a_source_whose_fields_go_empty_while_it_answers_200_is_drift_at_once(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    shop.wares = [ware(n) for n in range(1, 13)]
    write(folder, "shop", WARES.format(base=shop.base))
    good = [(await run(kitchen))["status"] for _ in range(3)]

    shop.wares = [ware(n, name=None) for n in range(1, 13)]
    row = await run(kitchen)

    assert good == ["success"] * 3
    assert (row["status"], row["error_type"]) == ("partial_failure", "expectation")
    assert row["stats"]["breach"] == "drift"
    assert "name 0 %" in row["error_message"]


async def test_rows_that_nearly_all_go_are_drift_and_not_marked_as_missing(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    shop.wares = [ware(n) for n in range(1, 31)]
    write(folder, "shop", WARES.format(base=shop.base))
    for _ in range(3):
        await run(kitchen)

    shop.wares = [ware(1)]
    row = await run(kitchen)

    assert row["error_message"] == "shop: 1 records where 30 are usual"
    assert not any(item["missing_since"] for item in await items(kitchen))


async def test_what_a_recipe_expects_is_held_to_from_its_first_run(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    expect = '[expect]\nnot_null = "name"\nfresh = { field = "at", within = "1h" }\n'
    text = WARES.format(base=shop.base) + expect + "[expect.records]\nmin = 8\n"
    write(folder, "shop", text)
    shop.wares[0] = ware(1, name="")

    row = await run(kitchen)

    assert "7 records; at least 8 are expected" in row["error_message"]
    assert "name is empty in 1 of 7 records" in row["error_message"]
    assert "at is expected within 1.0 h" in row["error_message"]
    assert row["stats"]["breach"] == "drift"


async def test_one_row_dated_in_the_future_does_not_make_the_others_fresh(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    expect = '[expect]\nfresh = { field = "at", within = "1h" }\n'
    write(folder, "shop", WARES.format(base=shop.base) + expect)
    shop.wares[0] = ware(1, at="2062-11-20T10:00:00Z")

    row = await run(kitchen)

    assert row["stats"]["breach"] == "stale_data"
    assert "the newest is" in row["error_message"]


async def test_rows_that_are_all_refused_are_drift_from_the_first_run(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    shop.wares = [ware(n, id="no number") for n in range(1, 4)]
    write(folder, "shop", WARES.format(base=shop.base))

    row = await run(kitchen)

    assert row["status"] == "partial_failure"
    assert "100 % of the records could not be read" in row["error_message"]


async def test_a_column_that_is_taken_out_of_a_recipe_is_missed_by_nobody(
    kitchen: WorkerContext, folder: Path, shop: Shop
) -> None:
    shop.wares = [ware(n) for n in range(1, 13)]
    text = WARES.format(base=shop.base)
    write(folder, "shop", text)
    for _ in range(3):
        await run(kitchen)

    write(folder, "shop", text.replace('name = "name"\n', ""))
    row = await run(kitchen)

    assert row["status"] == "success"
