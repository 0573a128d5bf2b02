"""The job `poll_news`: news about the tracked entities."""

import math
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

from app.core.config import Config
from app.core.records import Article
from app.sources.sites.asknews import AskNewsNews
from app.sources.sites.asknews_limits import AskNewsLimits
from app.store.content import news
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from app.store.runs.progress import SourceProgress
from workers import asknews
from workers.asknews import AskNewsGroup, Entities
from workers.job import job
from workers.run import Run
from workers.schedule_settings import from_settings


def source(config: Config, entities: tuple[str, ...] | None = None) -> AskNewsNews:
    """The AskNews source for these entities, or the tracked ones. Raises Auth."""
    return AskNewsNews(
        config.asknews_url,
        asknews.polled_entities(config, entities),
        pace=AskNewsLimits(config.asknews_page_size),
        max_pages=config.asknews_max_pages,
        hours_back=math.ceil(config.asknews_lookback_hours),
        podcasts=config.asknews_podcasts,
    )


class NewsGroup(AskNewsGroup):
    """Articles about entities."""

    records_stat = "articles_fetched"

    def every_source(self, config: Config) -> Sequence[AskNewsNews]:
        """The AskNews source, without entities."""
        return (AskNewsNews(config.asknews_url),)

    async def write(
        self, connection: Connection, records: Sequence[Article], now: datetime, run_id: UUID
    ) -> WriteCounts:
        return await news.write(connection, records, now, run_id)

    def row_stats(self, row: SourceProgress) -> dict[str, int]:
        """The stats of a news poll."""
        fetched, stored = row.counts.records, row.counts.inserted
        return asknews.poll_stats(row) | {"articles_fetched": fetched, "articles_stored": stored}


GROUP = NewsGroup()


@job(schedules=from_settings("news"), group=GROUP, disabled_reason=asknews.disabled_reason)
async def poll_news(run: Run, *, entities: Entities = None) -> None:
    """Poll news about `entities`, or all TRACKED_ENTITIES if none are given."""
    polled = source(run.config, entities)
    await run.collect([await asknews.with_cursors(run.context, polled, polled.name)])
