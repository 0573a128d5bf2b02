"""The task `poll_stories`: stories about the tracked entities."""

from typing import Any

from app.core.config import Config
from app.sources.sites.asknews import STORIES_PAGE_SIZE, AskNewsStories, Pace
from app.store.content import stories
from app.store.runs.progress import SourceRow
from workers import asknews, execute
from workers.asknews import PollParams
from workers.job import Job


def every_source(config: Config) -> tuple[AskNewsStories]:
    """The AskNews source, without entities."""
    return (AskNewsStories(config.asknews_url),)


def sources(config: Config, params: PollParams) -> tuple[AskNewsStories]:
    """The AskNews source for the entities of `params`, or the tracked ones."""
    return (
        AskNewsStories(
            config.asknews_url,
            asknews.tracked(config, params),
            pace=Pace(min(config.asknews_page_size, STORIES_PAGE_SIZE)),
            max_pages=config.asknews_max_pages,
        ),
    )


def stats(row: SourceRow) -> dict[str, int]:
    """The stats of a stories poll."""
    return asknews.entities(row) | {
        "stories_fetched": row.counts.records,
        "stories_stored": row.counts.inserted,
        "sentiment_points_stored": row.counts.points,
    }


JOB = Job(
    name="poll_stories",
    minutes=lambda config: config.stories_interval_minutes,
    params=PollParams,
    every_source=every_source,
    sources=sources,
    write=stories.write,
    key=asknews.key,
    counted="stories_fetched",
    never_empty=False,
    stored="stories_stored",
    stats=stats,
    off=asknews.off,
    login=asknews.login,
    prepare=asknews.prepare,
    turned=asknews.turned,
)


async def poll_stories(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Execute one run; without `run_id`, a manual run with these parameters."""
    await execute.perform(ctx, JOB, run_id, params)
