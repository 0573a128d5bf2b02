"""The job `poll_stories`: stories about the tracked entities."""

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.core.config import Config
from app.core.records import Story
from app.sources.sites.asknews import STORIES_PAGE_SIZE, AskNewsStories
from app.sources.sites.asknews_limits import AskNewsLimits
from app.store.content import stories
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from app.store.runs.progress import SourceProgress
from workers import asknews
from workers.asknews import AskNewsGroup, Entities
from workers.job import job
from workers.run import Run
from workers.schedule_settings import from_settings


def source(config: Config, entities: tuple[str, ...] | None = None) -> AskNewsStories:
    """The AskNews source for these entities, or the tracked ones. Raises Auth."""
    return AskNewsStories(
        config.asknews_url,
        asknews.polled_entities(config, entities),
        pace=AskNewsLimits(min(config.asknews_page_size, STORIES_PAGE_SIZE)),
        max_pages=config.asknews_max_pages,
    )


class StoriesGroup(AskNewsGroup):
    """Stories about entities."""

    records_stat = "stories_fetched"

    def every_source(self, config: Config) -> Sequence[AskNewsStories]:
        """The AskNews source, without entities."""
        return (AskNewsStories(config.asknews_url),)

    async def write(
        self, connection: Connection, records: Sequence[Story], now: datetime, run_id: UUID
    ) -> WriteCounts:
        return await stories.write(connection, records, now, run_id)

    def row_stats(self, row: SourceProgress) -> dict[str, int]:
        """The stats of a stories poll."""
        return asknews.poll_stats(row) | {
            "stories_fetched": row.counts.records,
            "stories_stored": row.counts.inserted,
            "sentiment_points_stored": row.counts.points,
        }


GROUP = StoriesGroup()


@job(schedules=from_settings("stories"), group=GROUP, disabled_reason=asknews.disabled_reason)
async def poll_stories(run: Run, *, entities: Entities = None) -> None:
    """Poll stories about `entities`, or all TRACKED_ENTITIES if none are given."""
    polled = source(run.config, entities)
    await run.collect([await asknews.with_cursors(run.context, polled, polled.name)])
