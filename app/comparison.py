"""The same match at several sites: best prices, margins, and which prices are too old to believe.

Pure: rows and `now` in, values out.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import groupby

from app.words import Market, Outcome

OUTCOMES: Mapping[Market, tuple[Outcome, ...]] = {
    Market.MATCH_RESULT: (Outcome.HOME, Outcome.DRAW, Outcome.AWAY),
    Market.DOUBLE_CHANCE: (Outcome.HOME_DRAW, Outcome.HOME_AWAY, Outcome.DRAW_AWAY),
    Market.BOTH_TEAMS_TO_SCORE: (Outcome.YES, Outcome.NO),
    Market.OVER_UNDER: (Outcome.OVER, Outcome.UNDER),
}
# So many of a market's outcomes win: two of the three double chances do.
WINNERS: Mapping[Market, int] = {Market.DOUBLE_CHANCE: 2}
MARKETS = tuple(OUTCOMES)


@dataclass(frozen=True, slots=True)
class Offer:
    """One price of one outcome at one site, as it was last known.

    `match` is the same for all sites that have the match. `seen_at`: when the price was last on
    the site's board; `changed_at`: when it last moved.
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
    outcome: Outcome
    price: Decimal
    active: bool
    seen_at: datetime
    changed_at: datetime


@dataclass(frozen=True, slots=True)
class Quote:
    """What a site pays for an outcome. Only what is `current` can be had."""

    platform: str
    price: Decimal
    active: bool
    stale: bool
    seen_at: datetime
    changed_at: datetime

    @property
    def current(self) -> bool:
        """Is it on offer, as far as anybody knows?"""
        return self.active and not self.stale


@dataclass(frozen=True, slots=True)
class Pick:
    """An outcome with what each site pays. `best` is the highest price that can be had."""

    outcome: Outcome
    quotes: Mapping[str, Quote]
    best: Quote | None


@dataclass(frozen=True, slots=True)
class Row:
    """A market of a match (with its line). Margins are shares: 0.05 is five per cent.

    `margins`: of each site that offers all outcomes; `margin`: of the best prices together, which
    is below nought where backing all outcomes would surely win.
    """

    market: Market
    line: Decimal | None
    picks: tuple[Pick, ...]
    margins: Mapping[str, Decimal]
    margin: Decimal | None


@dataclass(frozen=True, slots=True)
class Match:
    """One match, named as the first site has it, with its markets."""

    key: str
    country: str
    competition: str
    home: str
    away: str
    kickoff: datetime
    platforms: tuple[str, ...]
    rows: tuple[Row, ...]


def margin(market: Market, prices: Sequence[Decimal]) -> Decimal | None:
    """The share that is kept of the stakes, from the prices of all outcomes; None if one lacks."""
    if len(prices) != len(OUTCOMES[market]):
        return None
    return sum((1 / price for price in prices), Decimal(0)) / WINNERS.get(market, 1) - 1


def compared(offers: Iterable[Offer], now: datetime, fresh: timedelta) -> list[Match]:
    """Put the offers side by side, by kick-off. What was not seen for longer than `fresh` is stale.

    If a site lists a match twice, the listing seen last counts.
    """
    matches: dict[str, list[Offer]] = {}
    for offer in offers:
        matches.setdefault(offer.match, []).append(offer)
    found = [_match(key, each, now - fresh) for key, each in matches.items()]
    return sorted(found, key=lambda match: (match.kickoff, match.key))


def _match(key: str, offers: Sequence[Offer], since: datetime) -> Match:
    ordered = sorted(offers, key=_place)
    rows = [
        _row(market, line, list(each), since)
        for (market, line), each in groupby(ordered, key=lambda offer: (offer.market, offer.line))
    ]
    newest = max(offers, key=lambda offer: (offer.seen_at, offer.platform))
    return Match(
        key=key,
        country=newest.country,
        competition=newest.competition,
        home=newest.home,
        away=newest.away,
        kickoff=newest.kickoff,
        platforms=tuple(sorted({offer.platform for offer in offers})),
        rows=tuple(rows),
    )


def _place(offer: Offer) -> tuple[int, Decimal]:
    return (MARKETS.index(offer.market), Decimal(-1) if offer.line is None else offer.line)


def _row(market: Market, line: Decimal | None, offers: Sequence[Offer], since: datetime) -> Row:
    picks = [
        _pick(outcome, [offer for offer in offers if offer.outcome is outcome], since)
        for outcome in OUTCOMES[market]
    ]
    margins: dict[str, Decimal] = {}
    for platform in sorted({offer.platform for offer in offers}):
        quotes = [pick.quotes[platform] for pick in picks if platform in pick.quotes]
        own = margin(market, [quote.price for quote in quotes if quote.current])
        if own is not None:
            margins[platform] = own
    best = margin(market, [pick.best.price for pick in picks if pick.best is not None])
    return Row(market, line, tuple(picks), margins, best)


def _pick(outcome: Outcome, offers: Sequence[Offer], since: datetime) -> Pick:
    quotes: dict[str, Quote] = {}
    for o in sorted(offers, key=lambda offer: offer.seen_at):
        stale = o.seen_at < since
        quotes[o.platform] = Quote(o.platform, o.price, o.active, stale, o.seen_at, o.changed_at)
    current = [quote for quote in quotes.values() if quote.current]
    best = max(current, key=lambda quote: (quote.price, quote.platform), default=None)
    return Pick(outcome, quotes, best)
