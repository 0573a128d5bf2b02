"""The job `scrape_all_platforms`: the odds of all platforms."""

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated
from uuid import UUID

from pydantic import AfterValidator

from app.core.config import Config
from app.core.records import OddsEvent, Record
from app.core.setting_types import PLATFORMS
from app.sources.base import Source
from app.sources.sites.bet9ja import Bet9ja
from app.sources.sites.betpawa import BetPawa
from app.sources.sites.sportybet import SportyBet
from app.store.content import listings, odds
from app.store.content.write_counts import WriteCounts
from app.store.db import Connection
from workers.job import job
from workers.run import Run
from workers.schedule_settings import from_settings
from workers.source_group import SourceGroup


def _known(platforms: Sequence[str] | None) -> Sequence[str] | None:
    unknown = sorted(set(platforms or ()) - set(PLATFORMS))
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(PLATFORMS)}")
    return platforms


Platforms = Annotated[tuple[str, ...] | None, AfterValidator(_known)]


def every_source(config: Config) -> tuple[Source, ...]:
    """All platforms, enabled or not: a manual run may scrape any."""
    return (
        SportyBet(config.sportybet_url),
        BetPawa(config.betpawa_url, config.betpawa_version, config.betpawa_brand),
        Bet9ja(config.bet9ja_url),
    )


class OddsGroup(SourceGroup):
    """The platforms: their matches and prices go to the tables of odds."""

    records_stat = "events_scraped"
    never_empty = True
    listing_tracker = listings

    def every_source(self, config: Config) -> Sequence[Source]:
        """All platforms."""
        return every_source(config)

    def record_key(self, record: Record) -> str:
        """The event's id at its platform."""
        return record.platform_event_id if isinstance(record, OddsEvent) else ""

    async def write(
        self, connection: Connection, records: Sequence[OddsEvent], now: datetime, run_id: UUID
    ) -> WriteCounts:
        return await odds.write(connection, records, now, run_id)


GROUP = OddsGroup()


@job(schedules=from_settings("scrape"), group=GROUP)
async def scrape_all_platforms(run: Run, *, platforms: Platforms = None) -> None:
    """Scrape `platforms`, or all ODDS_PLATFORMS if none are given."""
    wanted = platforms or run.config.odds_platforms
    await run.collect([source for source in every_source(run.config) if source.name in wanted])
