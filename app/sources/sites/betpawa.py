"""BetPawa: pre-match football odds, all events from one query, 100 per page.

Facts about the site:
- v3 returns 404 since August 2026 and v4 is live; both formats are read, whatever the version.
- Without `accept: application/json`, v4 returns protobuf. The brand must match the domain.
- About one response in ten is an empty 200, which is retried.
- More than 100 events per page are refused. Past the end the inner list is empty, or the only
  answer is an empty object.
- `view.marketTypes` takes ids; the old names silently return no markets.
- The price's `handicap` is the line, else the row's total (v4) or formatted handicap (v3).
  `row.handicap` is four times the line, and so is one of the others that equals it.
- v4 has `suspended` only when true; v3 always has it, names the odds `price`, and contains nulls.
- `name` may end in " (n)" for neutral ground; team names are read from the participants.
- Pages are sorted by kick-off. A match that starts between two requests shifts the list, so that
  one event is skipped until the next run.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Literal, cast

import msgspec

from app.core.enums import Market, MarketOutcome
from app.core.errors import Incomplete, Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, Record
from app.sources.base import ListingEnd
from app.sources.sites import odds
from app.sources.sites.odds import JSON_NULL
from app.sources.stated_errors import stated_error

NAME = "betpawa"
LIMITS = HostLimits(rate=2, burst=4, concurrency=2)
PAGE_SIZE = 100
MAX_PAGES = 60

_FOOTBALL = "2"
_OVER_UNDER = "5000"
_PICKS: Mapping[str, Mapping[str, odds.Pick]] = {
    "3743": {
        "3744": (Market.MATCH_RESULT, MarketOutcome.HOME),
        "3745": (Market.MATCH_RESULT, MarketOutcome.DRAW),
        "3746": (Market.MATCH_RESULT, MarketOutcome.AWAY),
    },
    _OVER_UNDER: {
        "5001": (Market.OVER_UNDER, MarketOutcome.OVER),
        "5002": (Market.OVER_UNDER, MarketOutcome.UNDER),
    },
    "3795": {
        "3796": (Market.BOTH_TEAMS_TO_SCORE, MarketOutcome.YES),
        "3797": (Market.BOTH_TEAMS_TO_SCORE, MarketOutcome.NO),
    },
    "4693": {
        "4694": (Market.DOUBLE_CHANCE, MarketOutcome.HOME_DRAW),
        "4695": (Market.DOUBLE_CHANCE, MarketOutcome.DRAW_AWAY),
        "4696": (Market.DOUBLE_CHANCE, MarketOutcome.HOME_AWAY),
    },
}


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    """Base of response parts; fields that are not stored are skipped."""


class _Price(_Wire):
    type_id: str | int | None = None
    odds: msgspec.Raw = JSON_NULL
    price: msgspec.Raw = JSON_NULL
    handicap: msgspec.Raw = JSON_NULL
    suspended: bool | None = False


class _Specifier(_Wire):
    total: msgspec.Raw = JSON_NULL


class _Row(_Wire):
    handicap: msgspec.Raw = JSON_NULL
    formatted_handicap: msgspec.Raw = JSON_NULL
    specifier: _Specifier | None = None
    prices: list[_Price | None] | None = None


class _MarketType(_Wire):
    id: str | int | None = None


class _Market(_Wire):
    market_type: _MarketType | None = None
    row: list[_Row | None] | None = None


class _Named(_Wire):
    id: str | int | None = None
    name: str | None = None


class _Widget(_Wire):
    id: str | int | None = None
    type: str | None = None


class _Participant(_Wire):
    name: str | None = None
    position: str | int | None = None


class _Event(_Wire):
    id: str | int
    start_time: str
    participants: list[_Participant | None]
    widgets: list[_Widget | None] | None = None
    region: _Named | None = None
    competition: _Named | None = None
    markets: list[_Market | None] | None = None


class _Answer(_Wire):
    responses: list[msgspec.Raw] | None = None


class _Page(_Wire):
    responses: list[msgspec.Raw] | None = None
    id: str | int | None = None


_page = msgspec.json.Decoder(_Page)
_answer = msgspec.json.Decoder(_Answer)
_any_page = msgspec.json.Decoder(dict[str, Any])
_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class BetPawa:
    """One partition with all football events. `base_url` ends in `/sportsbook`."""

    name: str = field(default=NAME, init=False)
    base_url: str
    version: Literal["v3", "v4"] = "v4"
    brand: str = "betpawa-nigeria"
    limits: HostLimits = LIMITS

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return the only partition. Requests nothing."""
        yield from ()
        return (Partition("football"),)

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:  # noqa: ARG002
        """Request pages until the list of one is empty. The site reports no total.

        Returns Incomplete if a page repeats events of a full page before, which means that the list
        moved, and after MAX_PAGES pages. Raises like `parse`.
        """
        skip, before = 0, frozenset[str | None]()
        for number in range(MAX_PAGES):
            events = _events((yield self._request(skip)))
            if not events:
                return ListingEnd("an empty list")
            ids = frozenset(odds.record_id(event, "id") for event in events)
            if len(before) >= PAGE_SIZE and ids & before - {None}:
                return Incomplete(f"page {number + 1} repeats page {number}: the list moved")
            skip, before = skip + len(events), ids
        return Incomplete(f"more than {MAX_PAGES} pages")

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the events of a list page or single-event response of v3 or v4.

        Raises ApiError, Blocked or Schema.
        """
        return odds.records(_events(raw), "id", _read)

    def _request(self, skip: int) -> SourceRequest:
        return SourceRequest(
            f"{self.base_url}/{self.version}/events/lists/by-queries",
            params=(("q", _query(skip)),),
            headers={"x-pawa-brand": self.brand, "devicetype": "web", "x-pawa-language": "en"},
            accept="application/json",
            retry_empty=True,
        )


def _query(skip: int) -> str:
    query: dict[str, Any] = {
        "query": {"eventType": "UPCOMING", "categories": [_FOOTBALL], "zones": {}, "hasOdds": True},
        "view": {"marketTypes": list(_PICKS)},
        "skip": skip,
        "take": PAGE_SIZE,
        "sort": {"startTime": "ASC"},
    }
    return msgspec.json.encode({"queries": [query]}).decode()


def _events(raw: RawPage) -> list[msgspec.Raw]:
    page = odds.decode(raw, _page)
    if page.responses is not None and all(map(_is_list, page.responses)):
        answers = [odds.decode_part(raw, answer, _answer) for answer in page.responses]
        events = [event for answer in answers for event in answer.responses or ()]
        if not events:
            _check_no_error(raw)
        return events
    if page.id is None:
        raise Schema.of(raw, "the response contains neither a page nor an event")
    return [msgspec.Raw(raw.body)]


def _check_no_error(raw: RawPage) -> None:
    """Raise Schema if a page without events states an error: it is not the end of the list."""
    page = odds.decode(raw, _any_page)
    answers = cast("Sequence[object]", page["responses"])
    for stated in (stated_error(part, None) for part in (page, *answers)):
        if stated is not None:
            raise Schema.of(raw, stated)


def _is_list(answer: msgspec.Raw) -> bool:
    """Return whether an answer is a list of events, or the empty object past the end of one."""
    try:
        members = _members.decode(answer)
    except msgspec.DecodeError:
        return False
    return not members or "responses" in members


def _read(raw: msgspec.Raw, prices: odds.Prices) -> OddsEvent:
    event = _event.decode(raw)
    region, competition = event.region or _Named(), event.competition or _Named()
    for market in filter(None, event.markets or ()):
        _add_market(market, prices)
    return OddsEvent(
        platform=NAME,
        platform_event_id=odds.required_text(event.id, "id"),
        sportradar_id=_sportradar(filter(None, event.widgets or ())),
        country=odds.clean_text(region.name),
        competition=odds.clean_text(competition.name),
        competition_id=odds.clean_text(competition.id) or None,
        home=_team(event, "1"),
        away=_team(event, "2"),
        kickoff=odds.parse_kickoff(event.start_time),
        prices=prices.as_tuple(),
    )


def _sportradar(widgets: Iterable[_Widget]) -> str | None:
    ids = (odds.sportradar_id(widget.id) for widget in widgets if widget.type == "SPORTRADAR")
    return next((found for found in ids if found), None)


def _team(event: _Event, position: str) -> str:
    names = (
        each.name for each in filter(None, event.participants) if str(each.position) == position
    )
    return odds.required_text(next(names, None), f"participant at position {position}")


def _add_market(market: _Market, prices: odds.Prices) -> None:
    kind = str(market.market_type.id) if market.market_type else ""
    picks = _PICKS.get(kind)
    if picks is None:
        return
    for row in filter(None, market.row or ()):
        for price in filter(None, row.prices or ()):
            pick = picks.get(str(price.type_id))
            if pick is not None:
                _add_price(pick, row, price, prices)


def _add_price(pick: odds.Pick, row: _Row, price: _Price, prices: odds.Prices) -> None:
    try:
        line = _line(row, price) if pick[0] is Market.OVER_UNDER else None
    except ValueError as error:
        prices.add_fault(" ".join(pick), error)
        return
    quote = bytes(price.odds)
    quote = bytes(price.price) if quote == b"null" else quote
    prices.add(pick, line, quote, not price.suspended)


def _line(row: _Row, price: _Price) -> Decimal:
    fourfold = odds.parse_line(bytes(row.handicap))
    total = JSON_NULL if row.specifier is None else row.specifier.total
    for given in (price.handicap, total, row.formatted_handicap):
        line = odds.parse_line(bytes(given))
        if line is not None:
            return odds.normalised(line / 4) if line == fourfold else line
    raise ValueError("no line")
