"""Compares the prices of a match across sites: best prices, margins and stale prices. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby
from uuid import UUID

from app.core.enums import Market, MarketOutcome

OUTCOMES: Mapping[Market, tuple[MarketOutcome, ...]] = {
    Market.MATCH_RESULT: (MarketOutcome.HOME, MarketOutcome.DRAW, MarketOutcome.AWAY),
    Market.DOUBLE_CHANCE: (
        MarketOutcome.HOME_DRAW,
        MarketOutcome.HOME_AWAY,
        MarketOutcome.DRAW_AWAY,
    ),
    Market.BOTH_TEAMS_TO_SCORE: (MarketOutcome.YES, MarketOutcome.NO),
    Market.OVER_UNDER: (MarketOutcome.OVER, MarketOutcome.UNDER),
}
# How many outcomes of a market win, if not one: two of the three double chances.
WINNING_OUTCOMES: Mapping[Market, int] = {Market.DOUBLE_CHANCE: 2}
MARKETS = tuple(OUTCOMES)
MIN_LIKENESS = 0.5  # share of common words from which two names are those of one team
_WORD = re.compile(r"\w+")


@dataclass(frozen=True, slots=True)
class OddsOffer:
    """The last known price of one outcome at one site.

    `match` is the same for all sites that have the match. `seen_at`: when the site last listed the
    price, in the run `seen_run_id`; `changed_at`: when it last changed, in the run `run_id`.
    """

    match: str
    platform: str
    country: str
    competition: str
    home: str
    away: str
    kickoff: datetime
    market: Market
    line: Decimal | None
    outcome: MarketOutcome
    price: Decimal
    active: bool
    seen_at: datetime
    changed_at: datetime
    run_id: UUID | None = None
    seen_run_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class Quote:
    """The price of an outcome at a site. `stale`: not seen recently enough.

    `run_id`: the run that last changed it; `seen_run_id`: the run that last saw it.
    """

    platform: str
    price: Decimal
    active: bool
    stale: bool
    seen_at: datetime
    changed_at: datetime
    run_id: UUID | None = None
    seen_run_id: UUID | None = None

    @property
    def current(self) -> bool:
        """Whether the price is active and not stale."""
        return self.active and not self.stale


@dataclass(frozen=True, slots=True)
class OutcomeQuotes:
    """An outcome with its quotes by site. `best` is the highest current quote, if there is one."""

    outcome: MarketOutcome
    quotes: Mapping[str, Quote]
    best: Quote | None


@dataclass(frozen=True, slots=True)
class MarketComparison:
    """A market of a match, with its line. Margins are shares: 0.05 is five per cent.

    `margins`: by site, for sites with current prices of all outcomes. `margin`: of the best prices;
    below zero if betting on all outcomes is sure to win.
    """

    market: Market
    line: Decimal | None
    picks: tuple[OutcomeQuotes, ...]
    margins: Mapping[str, Decimal]
    margin: Decimal | None


@dataclass(frozen=True, slots=True)
class Match:
    """One match with its markets. Names are those of the first site.

    `swapped`: sites that have home and away the other way round, which are not compared.
    """

    key: str
    country: str
    competition: str
    home: str
    away: str
    kickoff: datetime
    platforms: tuple[str, ...]
    rows: tuple[MarketComparison, ...]
    swapped: tuple[str, ...] = ()


def margin(market: Market, prices: Sequence[Decimal]) -> Decimal | None:
    """Return the bookmaker's margin as a share of stakes; None unless all outcomes have a price."""
    if len(prices) != len(OUTCOMES[market]):
        return None
    return sum((1 / price for price in prices), Decimal(0)) / WINNING_OUTCOMES.get(market, 1) - 1


def compare(offers: Iterable[OddsOffer], now: datetime, max_age: timedelta) -> list[Match]:
    """Return the matches with their prices side by side, in order of kick-off.

    Prices not seen for longer than `max_age` are stale. If a site lists a match twice, the listing
    seen last counts.
    """
    matches: dict[str, list[OddsOffer]] = {}
    for offer in offers:
        matches.setdefault(offer.match, []).append(offer)
    found = [_match(key, each, now - max_age) for key, each in matches.items()]
    return sorted(found, key=lambda match: (match.kickoff, match.key))


def _match(key: str, offers: Sequence[OddsOffer], since: datetime) -> Match:
    swapped = swapped_platforms(offers)
    ordered = sorted((o for o in offers if o.platform not in swapped), key=_market_order)
    rows = [
        _row(market, line, list(each), since)
        for (market, line), each in groupby(ordered, key=lambda offer: (offer.market, offer.line))
    ]
    newest = max(ordered, key=lambda offer: (offer.seen_at, offer.platform))
    return Match(
        key=key,
        country=newest.country,
        competition=newest.competition,
        home=newest.home,
        away=newest.away,
        kickoff=newest.kickoff,
        platforms=tuple(sorted({offer.platform for offer in offers})),
        rows=tuple(rows),
        swapped=swapped,
    )


def swapped_platforms(offers: Sequence[OddsOffer]) -> tuple[str, ...]:
    """Return the sites that have the teams of a match the other way round than most sites have.

    Of two sites that disagree, the first in the alphabet is taken to be right.
    """
    teams = {offer.platform: (offer.home, offer.away) for offer in offers}
    platforms = sorted(teams)
    first = teams[platforms[0]]
    reverse = [each for each in platforms if _is_swapped(first, teams[each])]
    if len(reverse) * 2 > len(platforms):
        reverse = [each for each in platforms if each not in reverse]
    return tuple(reverse)


def _is_swapped(one: tuple[str, str], other: tuple[str, str]) -> bool:
    straight = [_likeness(a, b) for a, b in zip(one, other, strict=True)]
    crossed = [_likeness(a, b) for a, b in zip(one, reversed(other), strict=True)]
    return min(crossed) >= MIN_LIKENESS and sum(crossed) > sum(straight)


def _likeness(one: str, other: str) -> float:
    """Return the share of words, from 0 to 1, that the shorter of two team names has in common."""
    words = [set(_WORD.findall(name.casefold())) for name in (one, other)]
    fewest = min(map(len, words))
    return len(words[0] & words[1]) / fewest if fewest else 0.0


def _market_order(offer: OddsOffer) -> tuple[int, Decimal]:
    return (MARKETS.index(offer.market), Decimal(-1) if offer.line is None else offer.line)


def _row(
    market: Market, line: Decimal | None, offers: Sequence[OddsOffer], since: datetime
) -> MarketComparison:
    picks = [
        _pick(outcome, [offer for offer in offers if offer.outcome is outcome], since)
        for outcome in OUTCOMES[market]
    ]
    margins: dict[str, Decimal] = {}
    for platform in sorted({offer.platform for offer in offers}):
        quotes = [pick.quotes[platform] for pick in picks if platform in pick.quotes]
        share = margin(market, [quote.price for quote in quotes if quote.current])
        if share is not None:
            margins[platform] = share
    best = margin(market, [pick.best.price for pick in picks if pick.best is not None])
    return MarketComparison(market, line, tuple(picks), margins, best)


def _pick(outcome: MarketOutcome, offers: Sequence[OddsOffer], since: datetime) -> OutcomeQuotes:
    quotes: dict[str, Quote] = {}
    for o in sorted(offers, key=lambda offer: offer.seen_at):
        stale = o.seen_at < since
        quotes[o.platform] = Quote(
            o.platform, o.price, o.active, stale, o.seen_at, o.changed_at, o.run_id, o.seen_run_id
        )
    current = [quote for quote in quotes.values() if quote.current]
    best = max(current, key=lambda quote: (quote.price, quote.platform), default=None)
    return OutcomeQuotes(outcome, quotes, best)
