"""Pages of articles and stories, with their sentiment over time. For the operator."""

from datetime import datetime, timedelta
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from app.store.content import news_listing
from app.store.content.news_listing import NewsFilter
from app.store.db import Connection
from app.store.runs.origins import origins
from app.store.schedules import heartbeats
from app.web.dashboard.data import reading
from app.web.dashboard.data.line_chart import ChartLine, ChartPoint, sloped_chart, sparkline
from app.web.dashboard.session_auth import SessionUser

ARTICLES, STORIES = "/data/articles", "/data/stories"
DAYS = 30  # of the chart of articles
MAX_ENTITIES = 500  # that are offered as filters
SPARK_VALUES = 40  # values of a story in the list
RANGE = (-1.0, 1.0)  # of the sentiment


async def articles(request: Request, user: SessionUser, connection: Connection) -> Response:
    """Articles, the last published first, and the daily mean of their sentiment."""
    filters, active = _filters(request)
    found = await news_listing.articles(connection, filters, _cursor(request), reading.PER_PAGE)
    now = await heartbeats.database_now(connection)
    since = now.replace(hour=0, minute=0, second=0, microsecond=0) - timedelta(days=DAYS)
    days = await news_listing.daily_sentiment(connection, since, filters.entity)
    points = [
        ChartPoint(day["day"], None if day["mean"] is None else float(day["mean"])) for day in days
    ]
    return reading.respond(
        "data/articles.html",
        user,
        "articles",
        articles=found.rows,
        days=days,
        chart=sloped_chart(
            [ChartLine("mean sentiment", points)],
            since,
            now,
            f"Mean sentiment of articles for each of the last {DAYS} days",
            RANGE,
        ),
        entities=await news_listing.tracked_entities(connection, MAX_ENTITIES),
        origins=await origins(connection, (row["run_id"] for row in found.rows), None),
        **reading.paging(request, ARTICLES, active, found),
    )


async def stories(request: Request, user: SessionUser, connection: Connection) -> Response:
    """Stories, the last updated first, each with the course of its sentiment."""
    filters, active = _filters(request)
    found = await news_listing.stories(connection, filters, _cursor(request), reading.PER_PAGE)
    ids = [row["id"] for row in found.rows]
    sentiment = await news_listing.story_sentiment(connection, ids, SPARK_VALUES)
    return reading.respond(
        "data/stories.html",
        user,
        "stories",
        stories=found.rows,
        last={story_id: values[-1]["value"] for story_id, values in sentiment.items() if values},
        sparks={
            story_id: sparkline([value["value"] for value in values], *RANGE)
            for story_id, values in sentiment.items()
        },
        entities=await news_listing.tracked_entities(connection, MAX_ENTITIES),
        origins=await origins(connection, (row["run_id"] for row in found.rows), None),
        **reading.paging(request, STORIES, active, found),
    )


async def story(request: Request, user: SessionUser, connection: Connection) -> Response:
    """One story: its sentiment over time and its updates. Raises HTTPException 404."""
    story_id = request.path_params["story_id"]
    row = await news_listing.story(connection, story_id)
    if row is None:
        raise HTTPException(404, "No such story.")
    values = row["sentiments"]
    points = [ChartPoint(value["at"], value["value"]) for value in values]
    chart = (
        sloped_chart(
            [ChartLine("sentiment", points)],
            points[0].at,
            points[-1].at,
            f"Sentiment of the story at {len(points)} instants",
            _bounds(points),
        )
        if points
        else ""
    )
    run_ids = [row["run_id"], *(each["run_id"] for each in (*values, *row["updates"]))]
    return reading.respond(
        "data/story.html",
        user,
        "stories",
        story=row,
        values=list(reversed(values)),
        chart=chart,
        origins=await origins(connection, run_ids, None),
    )


def _bounds(points: list[ChartPoint]) -> tuple[float, float]:
    values = [point.value for point in points if point.value is not None]
    return min(*values, RANGE[0]), max(*values, RANGE[1])


def _filters(request: Request) -> tuple[NewsFilter, dict[str, str]]:
    entity, text = reading.text_param(request, "entity"), reading.text_param(request, "q")
    return NewsFilter(entity or None, text or None), {"entity": entity, "q": text}


def _cursor(request: Request) -> Any:
    return reading.cursor_param(request, tuple[datetime, int])
