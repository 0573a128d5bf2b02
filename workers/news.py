"""The task `poll_news`: news about the tracked entities."""

import math
from typing import Any

from app.core.config import Config
from app.sources.sites.asknews import AskNewsLimits, AskNewsNews
from app.store.content import news
from app.store.runs.progress import SourceProgress
from workers import asknews
from workers.asknews import PollParams
from workers.execute import RunCall, execute
from workers.job import Job


def every_source(config: Config) -> tuple[AskNewsNews]:
    """The AskNews source, without entities."""
    return (AskNewsNews(config.asknews_url),)


def sources(config: Config, params: PollParams) -> tuple[AskNewsNews]:
    """The AskNews source for the entities of `params`, or the tracked ones."""
    return (
        AskNewsNews(
            config.asknews_url,
            asknews.polled_entities(config, params),
            pace=AskNewsLimits(config.asknews_page_size),
            max_pages=config.asknews_max_pages,
            hours_back=math.ceil(config.asknews_lookback_hours),
            podcasts=config.asknews_podcasts,
        ),
    )


def stats(row: SourceProgress) -> dict[str, int]:
    """The stats of a news poll."""
    fetched, stored = row.counts.records, row.counts.inserted
    return asknews.poll_stats(row) | {"articles_fetched": fetched, "articles_stored": stored}


JOB = Job(
    name="poll_news",
    settings="news",
    params=PollParams,
    every_source=every_source,
    sources=sources,
    write=news.write,
    record_key=asknews.record_key,
    records_stat="articles_fetched",
    never_empty=False,
    stats=stats,
    disabled_reason=asknews.disabled_reason,
    login=asknews.login,
    prepare=asknews.prepare,
    on_partition_done=asknews.move_cursor,
)


async def poll_news(ctx: dict[str, Any], run_id: str | None = None, **params: Any) -> None:
    """Execute one run; without `run_id`, a manual run with these parameters."""
    await execute(ctx, RunCall(JOB.name, run_id, params), JOB.plan)
