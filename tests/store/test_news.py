"""Articles and stories are kept once, changed when they changed, and read up to a cursor."""

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

from app.core.messages import Partition, RawPage
from app.core.records import Article, Record, SentimentPoint, Story
from app.sources.base import Source
from app.sources.sites.asknews import AskNewsNews, AskNewsStories
from app.store.content import news, stories
from app.store.content.write_counts import WriteCounts
from app.store.db import Pool
from tests.clock import NOON

SAVED = Path(__file__).parents[1] / "sources"
RUN, LATER_RUN = uuid4(), uuid4()
LATER = NOON + timedelta(hours=1)


def saved(source: Source, page: str, entity: str = "OpenAI") -> Sequence[Record]:
    """The records of a saved page, as if found under the entity."""
    body = (SAVED / source.name / f"{page}.json").read_bytes()
    return list(source.parse(RawPage(body, 200, "https://site.test", {}, NOON, Partition(entity))))


def articles(page: str, entity: str = "OpenAI") -> list[Article]:
    return [r for r in saved(AskNewsNews(""), page, entity) if isinstance(r, Article)]


def stories_of(page: str) -> list[Story]:
    return [r for r in saved(AskNewsStories(""), page) if isinstance(r, Story)]


async def rows(pool: Pool, table: str, order: str) -> list[dict[str, Any]]:
    found = await pool.fetch(f"SELECT * FROM {table} ORDER BY {order}")  # noqa: S608 - our own words
    return [dict(row) for row in found]


async def put(
    pool: Pool, records: Sequence[Article] | Sequence[Story], *, later: bool
) -> WriteCounts:
    now, run = (LATER, LATER_RUN) if later else (NOON, RUN)
    async with pool.acquire() as connection, connection.transaction():
        kept = [r for r in records if isinstance(r, Article)]
        if kept:
            return await news.write(connection, kept, now, run)
        return await stories.write(
            connection, [r for r in records if isinstance(r, Story)], now, run
        )


async def test_one_article_under_two_entities_is_one_row_with_two_links(pool: Pool) -> None:
    first = await put(pool, articles("search"), later=False)

    again = await put(pool, articles("search", "Chips"), later=True)

    links = [(r["entity"], r["run_id"]) for r in await rows(pool, "article_entities", "entity")]
    kept = await rows(pool, "articles", "id")
    assert first == WriteCounts(2, 2, 0)
    assert again == WriteCounts(2, 0, 0)
    assert {row["run_id"] for row in kept} == {RUN}
    assert links == [("Chips", LATER_RUN)] * 2 + [("OpenAI", RUN)] * 2


async def test_an_article_that_changed_is_written_and_keeps_when_it_was_first_seen(
    pool: Pool,
) -> None:
    one, other = articles("search")
    await put(pool, [one, other], later=False)

    written = await put(pool, [replace(one, title="Corrected"), other], later=True)

    changed, same = await rows(pool, "articles", "article_id")
    assert written == WriteCounts(2, 0, 1)
    assert (changed["title"], changed["first_seen_at"], changed["updated_at"]) == (
        "Corrected",
        NOON,
        LATER,
    )
    assert same["updated_at"] == NOON


async def test_a_page_that_was_fetched_before_the_last_one_does_not_replace_its_articles(
    pool: Pool,
) -> None:
    one, other = articles("search")
    await put(pool, [replace(one, title="Newer")], later=True)

    written = await put(pool, [one, other], later=False)

    titles = {row["title"] for row in await rows(pool, "articles", "article_id")}
    assert titles == {"Newer", other.title}
    assert written == WriteCounts(2, 1, 0)


async def test_a_page_of_traps_leaves_the_right_rows(pool: Pool) -> None:
    written = await put(pool, articles("traps"), later=False)

    kept = {row["article_id"]: row for row in await rows(pool, "articles", "id")}
    assert written.inserted == len(kept) == 6
    assert kept["a-string"]["categories"] == ["Business"]
    assert kept["a-offset"]["published_at"].isoformat() == "2026-09-05T10:15:00.250000+00:00"
    assert kept["a-entities"]["entities"] == {"Organization": ["OpenAI"]}
    assert kept["a-bare"]["title"] == "Only title"
    assert kept["a-bare"]["categories"] == []
    assert kept["a-bare"]["sentiment"] is None
    assert not {"a-impossible-date", "a-no-date", "a-no-title"} & kept.keys()


async def test_moods_and_instants_of_unequal_number_are_paired_as_far_as_they_go(
    pool: Pool,
) -> None:
    written = await put(pool, stories_of("traps"), later=False)

    found = await pool.fetch(
        "SELECT s.story_uuid, array_agg(p.value ORDER BY p.at) AS moods"
        " FROM stories s JOIN story_sentiment p ON p.story_id = s.id GROUP BY 1"
    )
    moods = {row["story_uuid"]: row["moods"] for row in found}
    assert written.points == sum(map(len, moods.values()))
    assert moods["s-fewer-instants"] == [-1, 0]
    assert moods["s-fewer-moods"] == [1]
    assert moods["s-gaps"] == [1]
    assert moods["s-odd-instant"] == [0]
    assert "s-no-moods" not in moods


async def test_a_storys_page_written_again_changes_nothing(pool: Pool) -> None:
    await put(pool, stories_of("traps"), later=False)

    again = await put(pool, stories_of("traps"), later=True)

    tables = ("stories", "story_entities", "story_updates", "story_sentiment")
    runs = [{row["run_id"] for row in await rows(pool, table, "run_id")} for table in tables]
    assert (again.inserted, again.changed, again.points) == (0, 0, 0)
    assert runs == [{RUN}] * 4


async def test_a_story_that_moved_gets_its_new_points_and_what_was_corrected(pool: Pool) -> None:
    (story, *_) = stories_of("stories")
    await put(pool, [story], later=False)
    first, last = story.sentiment
    moved = (replace(first, value=0.5), last, SentimentPoint(LATER, -1))

    written = await put(pool, [replace(story, told_at=LATER, sentiment=moved)], later=True)

    points = [(row["value"], row["run_id"]) for row in await rows(pool, "story_sentiment", "at")]
    assert written == WriteCounts(1, 0, 1, points=1)
    assert sorted(points) == [(-1, LATER_RUN), (0.5, LATER_RUN), (1, RUN)]


async def test_a_page_that_was_fetched_before_the_last_one_does_not_replace_its_stories(
    pool: Pool,
) -> None:
    one, other, *_ = stories_of("stories")
    await put(pool, [replace(one, topic="Newer")], later=True)

    written = await put(pool, [one, other], later=False)

    topics = {row["topic"] for row in await rows(pool, "stories", "story_uuid")}
    assert topics == {"Newer", other.topic}
    assert (written.inserted, written.changed) == (1, 0)


async def test_an_empty_page_writes_nothing(pool: Pool) -> None:
    assert await put(pool, [], later=False) == WriteCounts()


async def test_a_cursor_moves_forward_and_never_back(pool: Pool) -> None:
    where = ("asknews_news", "OpenAI")
    async with pool.acquire() as connection:
        for at in (NOON, LATER, NOON):
            await news.move_cursor(connection, where, at, RUN)

    assert await news.cursors(pool, "asknews_news", ["OpenAI", "AMD"]) == {"OpenAI": LATER}
    assert await news.cursors(pool, "asknews_stories", ["OpenAI"]) == {}
