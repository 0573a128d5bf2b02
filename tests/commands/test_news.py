"""`rollcall news`: collected articles and stories."""

import json
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

import pytest

from app.store.db import Pool
from tests.dashboard.collected import ARTICLE, STORY
from tests.typed_command import printed, typed

RUN = UUID(int=7)


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")


async def news(*words: str) -> Any:
    return json.loads(await printed("news", *words, "--json"))


async def test_articles_and_stories_are_listed_by_entity_text_and_age(pool: Pool) -> None:
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    for number in range(4):
        at = now - timedelta(hours=number)
        values = (f"a{number}", "https://a.example", f"Derby {number}", at, 1, RUN)
        await pool.fetchval(ARTICLE, *values)
    await pool.execute(
        "INSERT INTO article_entities (article_id, entity, first_seen_at, run_id)"
        " SELECT id, 'Leeds', published_at, run_id FROM articles WHERE title = 'Derby 2'"
    )
    story_id = await pool.fetchval(STORY, "Transfer", now, RUN)
    await pool.execute(
        "INSERT INTO story_sentiment (story_id, at, value, run_id) VALUES ($1, $2, -0.4, $3)",
        story_id,
        now,
        RUN,
    )

    by_entity = await news("--entity", "Leeds")
    recent = await news("--since", "90m", "--limit", "9")
    by_text = await news("--text", "derby 3")
    first_two = await news("--limit", "2")
    stories = await news("stories", "--text", "TRANS")
    none = await news("stories", "--text", "derby")
    story = await news("story", str(story_id))

    assert [(one["title"], one["entities"]) for one in by_entity] == [("Derby 2", ["Leeds"])]
    assert [one["title"] for one in recent] == ["Derby 0", "Derby 1"]
    assert [one["title"] for one in by_text] == ["Derby 3"]
    assert [one["title"] for one in first_two] == ["Derby 0", "Derby 1"]
    assert [one["topic"] for one in stories] == ["Transfer"]
    assert none == []
    assert [one["value"] for one in story["sentiments"]] == [-0.4]
    assert "Derby 3" in await printed("news")
    assert "Transfer" in await printed("news", "stories")
    assert "-0.4" in await printed("news", "story", str(story_id))


async def test_a_story_that_is_not_there_is_one_sentence(pool: Pool) -> None:
    del pool
    result = await typed("news", "story", "9")

    assert "there is no story 9" in str(result.exception)
