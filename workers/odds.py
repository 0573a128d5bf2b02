"""The task `scrape_all_platforms`: the odds of all platforms."""

from collections.abc import Sequence
from typing import Annotated, Any

from pydantic import AfterValidator

from app.core.config import PLATFORMS, Config
from app.core.records import OddsEvent, Record
from app.sources.base import Source
from app.sources.sites.bet9ja import Bet9ja
from app.sources.sites.betpawa import BetPawa
from app.sources.sites.sportybet import SportyBet
from app.store.content import listings, odds
from workers.execute import RunCall, execute
from workers.job import Job, Params


def _known(platforms: Sequence[str] | None) -> Sequence[str] | None:
    unknown = sorted(set(platforms or ()) - set(PLATFORMS))
    if unknown:
        raise ValueError(f"unknown {', '.join(unknown)}; known: {', '.join(PLATFORMS)}")
    return platforms


class OddsParams(Params):
    """Parameters of a scrape. `platforms`: those to scrape; all ODDS_PLATFORMS if not given."""

    platforms: Annotated[tuple[str, ...] | None, AfterValidator(_known)] = None


def every_source(config: Config) -> tuple[Source, ...]:
    """All platforms, enabled or not: a manual run may scrape any."""
    return (
        SportyBet(config.sportybet_url),
        BetPawa(config.betpawa_url, config.betpawa_version, config.betpawa_brand),
        Bet9ja(config.bet9ja_url),
    )


def sources(config: Config, params: OddsParams) -> tuple[Source, ...]:
    """The platforms of `params`, or the enabled ones."""
    wanted = params.platforms or config.odds_platforms
    return tuple(source for source in every_source(config) if source.name in wanted)


def _key(record: Record) -> str:
    return record.platform_event_id if isinstance(record, OddsEvent) else ""


JOB = Job(
    name="scrape_all_platforms",
    settings="scrape",
    params=OddsParams,
    every_source=every_source,
    sources=sources,
    write=odds.write,
    record_key=_key,
    records_stat="events_scraped",
    never_empty=True,
    listing_tracker=listings,
)


async def scrape_all_platforms(
    ctx: dict[str, Any], run_id: str | None = None, **params: Any
) -> None:
    """Execute one run; without `run_id`, a manual run with these parameters."""
    await execute(ctx, RunCall(JOB.name, run_id, params), JOB.plan)
