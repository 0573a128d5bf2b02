"""Typed rows that sources yield and stores keep: the house shape, whatever the wire looked like."""

from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from app.words import Market, Outcome


@dataclass(frozen=True, slots=True)
class OddsPrice:
    """The decimal odds of one outcome. `line` is the goals line of over/under, else None.

    `active` is false while the site shows the price but takes no bets on it.
    """

    market: Market
    outcome: Outcome
    line: Decimal | None
    price: Decimal
    active: bool = True


@dataclass(frozen=True, slots=True)
class OddsEvent:
    """One football match at one site, with its prices.

    (`platform`, `platform_event_id`) is unique. `sportradar_id` is digits only, and joins sites.
    `kickoff` is UTC. No two prices share (market, line, outcome).
    `complete` is false if some price of it could not be read: what is missing is then not gone.
    """

    platform: str
    platform_event_id: str
    sportradar_id: str | None
    country: str
    competition: str
    competition_id: str | None
    home: str
    away: str
    kickoff: datetime
    prices: tuple[OddsPrice, ...]
    complete: bool = True


@dataclass(frozen=True, slots=True)
class Rejected:
    """A record that could not be read, kept aside with its reason. `data` is it as it came."""

    reason: str
    data: bytes
    record_id: str | None = None


Record = OddsEvent | Rejected
