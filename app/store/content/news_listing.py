"""Reads of articles and stories for people, with their sentiment over time."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func
from sqlmodel import col, select

from app.models.news import ArticleEntityRow, ArticleRow, StoryEntityRow, StoryRow
from app.store.bounded import Condition, RowPage, RowQuery, row_page
from app.store.db import Connection

# Per day in UTC: how many articles there are, and the mean of those that have a sentiment. Each day
# is read by itself, since sorting the articles of all days costs more than reading them.
DAILY = """
SELECT d.day, c.articles, c.mean, c.positive, c.negative
FROM generate_series($1::timestamptz, now(), interval '1 day') AS d (day)
CROSS JOIN LATERAL (
  SELECT count(*) AS articles, avg(sentiment) AS mean,
         count(*) FILTER (WHERE sentiment > 0) AS positive,
         count(*) FILTER (WHERE sentiment < 0) AS negative
  FROM articles WHERE published_at >= d.day AND published_at < d.day + interval '1 day') c
WHERE c.articles > 0 ORDER BY d.day
"""
DAILY_OF_ENTITY = """
SELECT date_trunc('day', a.published_at, 'UTC') AS day, count(*) AS articles,
       avg(a.sentiment) AS mean, count(*) FILTER (WHERE a.sentiment > 0) AS positive,
       count(*) FILTER (WHERE a.sentiment < 0) AS negative
FROM article_entities n JOIN articles a ON a.id = n.article_id
WHERE a.published_at >= $1 AND n.entity = $2
GROUP BY 1 ORDER BY 1
"""
ENTITIES = """
SELECT entity FROM news_cursors GROUP BY entity ORDER BY entity LIMIT $1
"""
ARTICLE_ENTITIES = """
SELECT article_id, array_agg(entity ORDER BY entity) AS entities FROM article_entities
WHERE article_id = ANY ($1::bigint[]) GROUP BY 1
"""
STORY_ENTITIES = """
SELECT story_id, array_agg(entity ORDER BY entity) AS entities FROM story_entities
WHERE story_id = ANY ($1::bigint[]) GROUP BY 1
"""
STORY = """
SELECT id, topic, told_at, categories, keywords, first_seen_at, updated_at, run_id,
       ARRAY(SELECT entity FROM story_entities e WHERE e.story_id = s.id ORDER BY 1) AS entities
FROM stories s WHERE id = $1
"""
UPDATES = """
SELECT at, headline, text, articles, run_id FROM story_updates
WHERE story_id = $1 ORDER BY at DESC LIMIT $2
"""
# The newest values of each story, in order of time.
SENTIMENT = """
SELECT s.story_id, v.at, v.value, v.run_id FROM unnest($1::bigint[]) AS s (story_id)
CROSS JOIN LATERAL (
  SELECT at, value, run_id FROM story_sentiment t
  WHERE t.story_id = s.story_id ORDER BY at DESC LIMIT $2) v
ORDER BY s.story_id, v.at
"""
MAX_VALUES = 2_000  # of the sentiment of one story
MAX_UPDATES = 200


@dataclass(frozen=True, slots=True)
class NewsFilter:
    """Filter of articles or stories: the tracked entity, and a substring of title or topic.

    `since`, `until`: published, or last updated, at or after, and before.
    """

    entity: str | None = None
    text: str | None = None
    since: datetime | None = None
    until: datetime | None = None


async def articles(
    connection: Connection, filters: NewsFilter, after: tuple[datetime, int] | None, n: int
) -> RowPage:
    """Return `n` matching articles, the last published first, after (published_at, id).

    `entities` of an article are the tracked ones that it was found under.
    """
    link: Any = select(ArticleEntityRow.article_id).where(ArticleEntityRow.entity == filters.entity)
    conditions = _conditions(filters, "title", link)
    statement = _between(select(ArticleRow), col(ArticleRow.published_at), filters)
    query = RowQuery(statement, ("published_at", "id"), conditions)
    page = await row_page(connection, query, after, n)
    return await _with_entities(connection, ARTICLE_ENTITIES, page)


async def stories(
    connection: Connection, filters: NewsFilter, after: tuple[datetime, int] | None, n: int
) -> RowPage:
    """Return `n` matching stories with their entities, last updated first, after (told_at, id)."""
    link: Any = select(StoryEntityRow.story_id).where(StoryEntityRow.entity == filters.entity)
    statement = _between(select(StoryRow), col(StoryRow.told_at), filters)
    query = RowQuery(statement, ("told_at", "id"), _conditions(filters, "topic", link))
    page = await row_page(connection, query, after, n)
    return await _with_entities(connection, STORY_ENTITIES, page)


def _between(statement: Any, at: Any, filters: NewsFilter) -> Any:
    if filters.since is not None:
        statement = statement.where(at >= filters.since)
    return statement if filters.until is None else statement.where(at < filters.until)


def _conditions(filters: NewsFilter, title: str, ids: Any) -> list[Condition]:
    conditions: list[Condition] = []
    if filters.entity is not None:
        conditions.append(lambda c: c.id.in_(ids))
    if filters.text is not None:
        text = filters.text.lower()
        conditions.append(lambda c: func.strpos(func.lower(c[title]), text) > 0)
    return conditions


async def _with_entities(connection: Connection, statement: str, page: RowPage) -> RowPage:
    found = await connection.fetch(statement, [row["id"] for row in page.rows])
    entities = {row[0]: row[1] for row in found}
    for row in page.rows:
        row["entities"] = entities.get(row["id"], [])
    return page


async def daily_sentiment(
    connection: Connection, since: datetime, entity: str | None
) -> list[dict[str, Any]]:
    """Return the number of articles and their mean sentiment for each day since `since`.

    `since` is the begin of a day in UTC.
    """
    if entity is None:
        rows = await connection.fetch(DAILY, since)
    else:
        rows = await connection.fetch(DAILY_OF_ENTITY, since, entity)
    return [dict(row) for row in rows]


async def tracked_entities(connection: Connection, limit: int) -> list[str]:
    """Return the entities that are polled, by name."""
    return [row[0] for row in await connection.fetch(ENTITIES, limit)]


async def story(connection: Connection, story_id: int) -> dict[str, Any] | None:
    """Return the story with its `entities`, its `updates`, newest first, and its `sentiments`."""
    row = await connection.fetchrow(STORY, story_id)
    if row is None:
        return None
    updates = await connection.fetch(UPDATES, story_id, MAX_UPDATES)
    sentiments = await story_sentiment(connection, [story_id], MAX_VALUES)
    return {**row, "updates": [dict(each) for each in updates], "sentiments": sentiments[story_id]}


async def story_sentiment(
    connection: Connection, ids: Sequence[int], limit: int
) -> dict[int, list[dict[str, Any]]]:
    """Return the newest values of the sentiment of each story, in order of time."""
    found: dict[int, list[dict[str, Any]]] = {story_id: [] for story_id in ids}
    for row in await connection.fetch(SENTIMENT, ids, limit):
        found[row["story_id"]].append({name: row[name] for name in ("at", "value", "run_id")})
    return found
