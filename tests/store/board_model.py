"""What the odds tables must say after any sequence of boards, kept naively in memory."""

from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal

from app.core.enums import Market, MarketOutcome
from app.core.records import OddsEvent

Key = tuple[str, Market, Decimal | None, MarketOutcome]
Quote = tuple[Decimal | None, bool]

GONE: Quote = (None, False)


@dataclass
class Kept:
    """One event as it should be known."""

    home: str
    kickoff: datetime
    prices: dict[Key, Quote]
    partition: str | None = None
    absent: bool = False
    withdrawn: bool = False


@dataclass
class Model:
    """Every event by its id, and the boards after each instant at which something was written."""

    events: dict[str, Kept] = field(default_factory=dict[str, Kept])
    after: dict[datetime, dict[Key, Quote]] = field(
        default_factory=dict[datetime, dict[Key, Quote]]
    )
    moved: dict[str, list[datetime]] = field(default_factory=dict[str, list[datetime]])

    def page(self, events: list[OddsEvent], at: datetime) -> None:
        """A page was committed."""
        for event in {e.platform_event_id: e for e in events}.values():
            self._event(event)
        self.after[at] = self.board()

    def _event(self, event: OddsEvent) -> None:
        key = event.platform_event_id
        kept = self.events.setdefault(key, Kept(event.home, event.kickoff, {}))
        if kept.kickoff != event.kickoff:
            self.moved.setdefault(key, []).append(event.kickoff)
        kept.home, kept.kickoff = event.home, event.kickoff
        kept.absent = kept.withdrawn = False
        given: dict[Key, Quote] = {
            (key, p.market, p.line, p.outcome): (p.price, p.active) for p in event.prices
        }
        if event.complete:
            kept.prices = dict.fromkeys(kept.prices, GONE)
        kept.prices |= given

    def listed(self, partition: str, seen: set[str], at: datetime) -> None:
        """A partition was listed from end to end."""
        for key in seen:
            self.events[key].partition = partition
        for key, kept in self.events.items():
            if kept.partition == partition and key not in seen and kept.kickoff > at:
                self._missing(kept)
        self.after[at] = self.board()

    def _missing(self, kept: Kept) -> None:
        if kept.absent:
            kept.withdrawn = True
            kept.prices = dict.fromkeys(kept.prices, GONE)
        kept.absent = True

    def board(self) -> dict[Key, Quote]:
        """What every price is now."""
        return {key: quote for kept in self.events.values() for key, quote in kept.prices.items()}
