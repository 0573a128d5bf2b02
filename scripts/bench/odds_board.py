"""Generated listings of events, and changes to their prices."""

import random
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal

from app.core.enums import Market
from app.core.records import OddsEvent, OddsPrice
from app.odds.comparison import OUTCOMES

PRICES = 20  # of an event
PAGE = 100  # events
PLATFORM = "betpawa"
START = datetime(2026, 9, 5, 12, tzinfo=UTC)
LINES = tuple(Decimal(f"{goals}.5") for goals in range(6))
STEP = Decimal("0.01")


def board(prices: int, seed: int = 1) -> list[OddsEvent]:
    """Return events with twenty prices each."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    return [_event(number, rng) for number in range(prices // PRICES)]


def moved(events: Sequence[OddsEvent], share: float, seed: int) -> list[OddsEvent]:
    """Return the listing with that share of its prices changed, spread over all events."""
    rng = random.Random(seed)  # noqa: S311 - no secret
    count = len(events) * PRICES
    chosen = set(rng.sample(range(count), round(count * share)))
    return [_shifted(event, at * PRICES, chosen) for at, event in enumerate(events)]


def pages(events: Sequence[OddsEvent]) -> Iterator[Sequence[OddsEvent]]:
    """Yield the listing in pages, as a site would send it."""
    return (events[at : at + PAGE] for at in range(0, len(events), PAGE))


def _event(number: int, rng: random.Random) -> OddsEvent:
    picks = [
        (market, outcome, line)
        for market, outcomes in OUTCOMES.items()
        for line in (LINES if market is Market.OVER_UNDER else (None,))
        for outcome in outcomes
    ]
    prices = [OddsPrice(*pick, Decimal(rng.randint(101, 2000)) / 100) for pick in picks]
    return OddsEvent(
        platform=PLATFORM,
        platform_event_id=str(33_000_000 + number),
        sportradar_id=str(70_000_000 + number),
        country="England",
        competition=f"League {number % 40}",
        competition_id=str(number % 40),
        home=f"Home {number}",
        away=f"Away {number}",
        kickoff=START + timedelta(days=30, minutes=15 * (number % 900)),
        prices=tuple(prices),
    )


def _shifted(event: OddsEvent, first: int, chosen: set[int]) -> OddsEvent:
    if chosen.isdisjoint(range(first, first + PRICES)):
        return event
    prices = [
        replace(price, price=(price.price or Decimal(0)) + STEP) if first + at in chosen else price
        for at, price in enumerate(event.prices)
    ]
    return replace(event, prices=tuple(prices))
