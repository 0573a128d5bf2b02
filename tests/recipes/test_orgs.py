"""Two organisations' recipes of one name share nothing but the site's patience."""

from typing import Any
from uuid import UUID, uuid4

from pydantic import SecretStr

from app.context import WorkerContext
from app.core.messages import HostLimits
from app.fetch.authenticated import MAX_FETCHERS, FetcherOptions
from app.sources.base import sandbox_lock_key
from app.sources.recipes.load import load
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource
from app.store.content import cursors
from app.store.orgs import orgs
from tests import worker_harness
from tests.recipes.shop import Shop
from workers import recipe_sources

RECIPE = """
name = "wares"
kind = "json"
url = "{base}/wares"
[auth]
type = "header"
name = "x-key"
value = "secret:KEY"
[limits]
rate = 50
burst = 100
concurrency = 16
[extract]
records = "items"
[extract.fields]
id = "id"
name = "{name}"
[store]
key = "id"
"""


async def collected(
    context: WorkerContext, recipe: Recipe, org_id: UUID, secret: str
) -> dict[str, Any]:
    """One run of that recipe for that organisation, as its collection does it; its row."""
    asked = await recipe_sources.open_recipe_source(
        context, recipe, lambda _: SecretStr(secret), org_id
    )
    keeping = recipe_sources.RecipeItemStorage(org_id, {asked.name: asked})
    job = worker_harness.collecting(asked, group=keeping, name="source")
    run_id = await worker_harness.perform(context, job=job, params={"source": "wares"})
    return await worker_harness.run_row(context.pool, run_id)


async def kept(context: WorkerContext, org_id: UUID) -> list[tuple[str, Any]]:
    rows = await context.pool.fetch(
        "SELECT key, data FROM items WHERE org_id = $1 ORDER BY key", org_id
    )
    return [(row["key"], row["data"]["name"]) for row in rows]


async def two(context: WorkerContext) -> tuple[UUID, UUID]:
    one, other = uuid4(), uuid4()
    await orgs.create(context.pool, one, "one", context.clock())
    await orgs.create(context.pool, other, "other", context.clock())
    return one, other


async def test_each_gets_the_rows_of_a_page_that_the_other_has_read_already(
    kitchen: WorkerContext, shop: Shop
) -> None:
    one, other = await two(kitchen)
    names, ids = (load(RECIPE.format(base=shop.base, name=n)) for n in ("name", "id"))

    first = await collected(kitchen, names, one, "key of one")
    second = await collected(kitchen, names, other, "key of the other")
    third = await collected(kitchen, ids, one, "key of one")
    fourth = await collected(kitchen, ids, one, "key of one")

    assert [run["stats"]["pages_unchanged"] for run in (first, second, third, fourth)] == [
        0,
        0,
        0,
        1,
    ]
    assert await kept(kitchen, one) == [("1", "1"), ("2", "2"), ("3", "3")]
    assert await kept(kitchen, other) == [("1", "ware 1"), ("2", "ware 2"), ("3", "ware 3")]
    sent = [head.lower().partition("x-key: ")[2].partition("\r")[0] for head in shop.heads]
    assert sent == ["key of one", "key of the other", "key of one", "key of one"]


async def test_none_asks_harder_than_strangers_may(kitchen: WorkerContext, shop: Shop) -> None:
    recipe = load(RECIPE.format(base=shop.base, name="name"))

    asked = await recipe_sources.open_recipe_source(
        kitchen, recipe, lambda _: SecretStr("key"), uuid4()
    )

    assert asked.limits == HostLimits(rate=5, burst=10, concurrency=4)
    assert asked.fetcher_name in kitchen.fetchers
    assert "wares" not in kitchen.fetchers


def test_of_an_organisations_sources_one_is_read_at_a_time_and_nobody_elses_waits() -> None:
    one, other = uuid4().hex, uuid4().hex
    text = RECIPE.format(base="https://shop.test", name="name")
    both = [load(text), load(text.replace('"wares"', '"more"', 1))]

    turns = [
        [sandbox_lock_key(RecipeSource(r, owner=whose)) for r in both] for whose in (one, other, "")
    ]

    assert turns == [[one, one], [other, other], ["wares", "more"]]


async def test_of_windows_that_were_opened_on_the_way_only_the_latest_are_kept(
    kitchen: WorkerContext,
) -> None:
    before = len(kitchen.fetchers)

    for number in range(MAX_FETCHERS + 10):
        kitchen.open_fetcher(f"w{number}", FetcherOptions(HostLimits(1, 1, 1)))

    assert len(kitchen.fetchers) == before + MAX_FETCHERS
    assert "w9" not in kitchen.fetchers
    assert "sportybet" in kitchen.fetchers


async def test_cursors_of_two_organisations_are_two(kitchen: WorkerContext) -> None:
    one, other = await two(kitchen)
    async with kitchen.pool.acquire() as connection:
        where, run_id = ("wares", "all"), uuid4()
        await cursors.move_cursor(connection, one, where, "5", kitchen.clock(), run_id)

    assert await cursors.cursors(kitchen.pool, one, "wares") == {"all": "5"}
    assert not await cursors.cursors(kitchen.pool, other, "wares")
