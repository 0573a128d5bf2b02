"""Kept pages of recipes and of news are read again too; what came for organisations is not."""

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.core.errors import BadParameters
from app.runs.replay import ReplayReport, ReplayRequest, ReplaySource
from app.runs.replay import replay as replayed
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.collections import harness
from tests.configs import config_for
from tests.recipes.conftest import folder, kitchen, shop
from tests.recipes.shop import Shop, ask, items, write
from tests.recipes.test_incomplete import RATES, rates
from tests.recipes.test_running import WARES
from tests.replay.scraped import DAY
from workers import news, odds, replays

__all__ = ["folder", "kitchen", "shop"]
OTHERWISE = WARES.replace('name = "name"', "name = \"join('-', [name, 'x'])\"")


async def again(
    context: WorkerContext, reader: ReplaySource, *, write: bool = True, **wish: Any
) -> ReplayReport:
    wanted = ReplayRequest(context.clock() - DAY, by="ada", **wish)
    return await replayed(context.pool, reader, wanted, lambda _done, _of: None, write=write)


async def versions(context: WorkerContext) -> dict[str, Any]:
    rows = await context.pool.fetch("SELECT key, xmin::text || ctid::text AS v FROM items")
    return {row["key"]: row["v"] for row in rows}


async def test_the_same_recipe_differs_in_nothing_and_writes_nothing(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", WARES.format(base=shop.base))
    await ask(kitchen, "wares")
    before, asked = await versions(kitchen), len(shop.asked)

    report = await again(kitchen, replays.recipe_reader(kitchen.config, "wares"))

    assert (report.records, report.differ, report.unreadable) == (7, 0, 0)
    assert await versions(kitchen) == before
    assert len(shop.asked) == asked


async def test_a_mended_recipe_shows_the_difference_first_and_then_changes_those_rows(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", WARES.format(base=shop.base))
    await ask(kitchen, "wares")
    before = await items(kitchen)
    write(folder, "wares", OTHERWISE.format(base=shop.base))
    reader = replays.recipe_reader(kitchen.config, "wares")

    shown = await again(kitchen, reader, write=False)
    untouched = await items(kitchen)
    report = await again(kitchen, reader)
    second = await again(kitchen, reader)

    after = await items(kitchen)
    example = shown.examples[0]
    assert (shown.changed, report.changed, second.differ) == (7, 7, 0)
    name = f"ware {example.record}"
    assert (example.field, example.before, example.after) == ("name", name, f"{name}-x")
    assert untouched == before
    assert [row["data"]["name"] for row in after] == [f"ware {n}-x" for n in range(1, 8)]
    assert [row["last_seen"] for row in after] == [row["last_seen"] for row in before]


async def test_an_item_that_has_gone_missing_since_stays_so(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    write(folder, "wares", WARES.format(base=shop.base))
    await ask(kitchen, "wares")
    await kitchen.pool.execute("UPDATE items SET missing_since = now() WHERE key = '5'")
    write(folder, "wares", OTHERWISE.format(base=shop.base))

    report = await again(kitchen, replays.recipe_reader(kitchen.config, "wares"))

    (gone,) = [row for row in await items(kitchen) if row["missing_since"]]
    assert (report.changed, report.left_alone) == (6, 1)
    assert gone["data"]["name"] == "ware 5"


async def test_observations_are_not_made_again(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    text = WARES.replace('missing = "mark"', 'mode = "append"')
    write(folder, "wares", text.format(base=shop.base))

    with pytest.raises(BadParameters, match="observation"):
        replays.recipe_reader(kitchen.config, "wares")


async def test_what_came_for_an_organisation_is_not_read(context: WorkerContext) -> None:
    acme = await harness.client(context)
    await acme.choose({"source": "bet9ja"})
    await acme.run()
    source = next(one for one in odds.every_source(context.config) if one.name == "bet9ja")

    report = await again(
        context, ReplaySource(odds.scrape_all_platforms.name, source, odds.GROUP.write)
    )

    assert await context.pool.fetchval("SELECT count(*) FROM raw_pages WHERE source = 'bet9ja'")
    assert report.pages == 0
    assert await context.pool.fetchval("SELECT count(*) FROM odds_events") == 0


@pytest.fixture
async def newsroom(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    """A worker context that AskNews knows."""
    settings: dict[str, Any] = {
        "asknews_api_key": SecretStr("standin-key"),
        "tracked_entities": ("OpenAI", "AMD"),
    }
    async with worker_harness.opened(config_for(dsn, redis_url, standin, **settings), redis) as h:
        yield h


async def test_news_that_were_stored_wrong_are_mended_from_their_pages(
    newsroom: WorkerContext,
) -> None:
    await worker_harness.perform(newsroom, job=news.poll_news)
    (source,) = news.GROUP.every_source(newsroom.config)
    reader = ReplaySource(news.poll_news.name, source, news.GROUP.write)
    well = await again(newsroom, reader)
    wrong = await newsroom.pool.fetchval(
        "UPDATE articles SET title = 'wrong' WHERE id = (SELECT min(id) FROM articles)"
        " RETURNING article_id"
    )

    report = await again(newsroom, reader)

    (example,) = report.examples
    assert (well.differ, report.changed, report.new) == (0, 1, 0)
    assert well.records > 0
    assert (example.record, example.field, example.before) == (wrong, "title", "wrong")
    assert await newsroom.pool.fetchval("SELECT count(*) FROM articles WHERE title = 'wrong'") == 0


async def test_news_of_a_later_page_are_not_replaced_by_an_earlier_one(
    newsroom: WorkerContext,
) -> None:
    """The later page is not kept any more."""
    await worker_harness.perform(newsroom, job=news.poll_news)
    (source,) = news.GROUP.every_source(newsroom.config)
    await newsroom.pool.execute(
        "UPDATE articles SET title = 'later', updated_at = updated_at + interval '1 minute'"
    )

    report = await again(newsroom, ReplaySource(news.poll_news.name, source, news.GROUP.write))

    assert report.records > 0
    assert (report.differ, report.changed) == (0, 0)
    assert await newsroom.pool.fetchval("SELECT bool_and(title = 'later') FROM articles")


async def test_a_key_that_collides_is_refused_by_a_replay_as_it_was_by_the_run(
    kitchen: WorkerContext, shop: Shop, folder: Path
) -> None:
    rates(shop)
    write(folder, "rates", RATES.format(base=shop.base, columns="", key='"date"'))
    await ask(kitchen, "rates")
    before = await items(kitchen)

    report = await again(kitchen, replays.recipe_reader(kitchen.config, "rates"))

    assert (report.records, report.refused, report.readable, report.differ) == (1, 2, 0, 0)
    assert await items(kitchen) == before
