"""Handlers of /news: the articles and stories that the operator's news jobs collect.

They answer what the command `news` prints.
"""

from typing import Any

from app.core.enums import Scope
from app.core.errors import NotFound
from app.store import tenancy
from app.store.bounded import RowPage
from app.store.content import news_listing
from app.store.content.news_listing import NewsFilter
from app.web.api import cursor
from app.web.api.context import ApiRequest, ApiResponse
from app.web.api.endpoint import Endpoint, get
from app.web.api.schemas.data import (
    ArticleBody,
    Articles,
    NewsQuery,
    Stories,
    StoryBody,
    StorySummary,
)

ARTICLES, STORIES = "/news/articles", "/news/stories"


async def list_articles(request: ApiRequest) -> ApiResponse:
    """List articles, the last published first."""
    query: NewsQuery = request.query
    after = cursor.decode(query.cursor, cursor.Instant, cursor.Number)
    async with tenancy.transaction(request.context.pool, None) as connection:
        found = await news_listing.articles(connection, _filters(query), after, query.limit)
    bodies = [ArticleBody.model_validate(row) for row in found.rows]
    return ApiResponse(Articles(articles=bodies, next_cursor=_next(found)))


async def list_stories(request: ApiRequest) -> ApiResponse:
    """List stories, the last updated first."""
    query: NewsQuery = request.query
    after = cursor.decode(query.cursor, cursor.Instant, cursor.Number)
    async with tenancy.transaction(request.context.pool, None) as connection:
        found = await news_listing.stories(connection, _filters(query), after, query.limit)
        ids = [row["id"] for row in found.rows]
        sentiment = await news_listing.story_sentiment(connection, ids, 1)
    bodies = [
        StorySummary.model_validate(row | {"sentiment": _last(sentiment[row["id"]])})
        for row in found.rows
    ]
    return ApiResponse(Stories(stories=bodies, next_cursor=_next(found)))


async def read_story(request: ApiRequest) -> ApiResponse:
    """Read a story with its updates and the course of its sentiment."""
    story_id = int(request.path["story"])
    async with tenancy.transaction(request.context.pool, None) as connection:
        row = await news_listing.story(connection, story_id)
    if row is None:
        raise NotFound(f"there is no story {story_id}")
    body = row | {"sentiment": _last(row["sentiments"])}
    return ApiResponse(StoryBody.model_validate(body))


def _filters(query: NewsQuery) -> NewsFilter:
    return NewsFilter(query.entity, query.text, query.since, query.until)


def _next(found: RowPage) -> str | None:
    return None if found.after is None else cursor.encode(*found.after)


def _last(values: list[dict[str, Any]]) -> float | None:
    return values[-1]["value"] if values else None


ENDPOINTS: tuple[Endpoint, ...] = (
    get(ARTICLES, Scope.READ, list_articles, Articles, query=NewsQuery, data=True),
    get(STORIES, Scope.READ, list_stories, Stories, query=NewsQuery, data=True),
    get(f"{STORIES}/{{story}}", Scope.READ, read_story, StoryBody, data=True),
)
