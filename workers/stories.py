"""The task `poll_stories`: stories about the tracked entities."""

from typing import Any

from app.core.config import Config
from app.sources.sites.asknews import STORIES_PAGE_SIZE, AskNewsLimits, AskNewsStories
from app.store.content import stories
from app.store.runs.progress import SourceProgress
from workers import asknews
from workers.asknews import PollParams
from workers.execute import RunCall, execute
from workers.job import Job


def every_source(config: Config) -> tuple[AskNewsStories]:
    """The AskNews source, without entities."""
    return (AskNewsStories(config.asknews_url),)


def sources(config: Config, params: PollParams) -> tuple[AskNewsStories]:
    """The AskNews source for the entities of `params`, or the tracked ones."""
    return (
        AskNewsStories(
            config.asknews_url,
            asknews.polled_entities(config, params),
            pace=AskNewsLimits(min(config.asknews_page_size, STORIES_PAGE_SIZE)),
            max_pages=config.asknews_max_pages,
        ),
    )


def stats(row: SourceProgress) -> dict[str, int]:
    """The stats of a stories poll."""
    return asknews.poll_stats(row) | {
        "stories_fetched": row.counts.records,
        "stories_stored": row.counts.inserted,
        "sentiment_points_stored": row.counts.points,
    }


JOB = Job(
    name="poll_stories",
    settings="stories",
    params=PollParams,
    every_source=every_source,
    sources=sources,
    write=stories.write,
    record_key=asknews.record_key,
    records_stat="stories_fetched",
    never_empty=False,
    stats=stats,
    disabled_reason=asknews.disabled_reason,
    login=asknews.login,
    prepare=asknews.prepare,
    on_partition_done=asknews.move_cursor,
)


async def poll_stories(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Execute one run; without `run_id`, a manual run with these parameters."""
    await execute(ctx, RunCall(JOB.name, run_id, params), JOB.plan)
