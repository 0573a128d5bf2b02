"""SportyBet: pre-match football odds, from the paginated list of upcoming events.

Facts about the site:
- An error is HTTP 200 with a `bizCode` other than 10000.
- `option=2` is the full list; `option=1` returns only ten events per tournament.
- `todayGames=true` may return no data around midnight, so all 30 days are requested.
- Pages are split by tournament and have 40 to 100 events, so a short page is not the last.
- The list moves up while its pages are read: in one public walk `totalNum` was 977 on page 1 and
  972 on page 10. The greatest total counts, and what one walk lacks is only doubted.
- A market can occur twice. The stale one has `status` 1 while its outcomes stay active.
- A market or an event with `banned` true is not offered.
- `eventId` contains the Sportradar id; `sourceId` may have a prefix and is not read.
- No token is required. The `_t` parameter of its own pages only defeats caches and is not sent.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import MappingProxyType

import msgspec

from app.core.enums import Market, MarketOutcome
from app.core.errors import ApiError, Incomplete, Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, Record
from app.sources.base import ListingEnd
from app.sources.sites import odds
from app.sources.sites.odds import JSON_NULL

NAME = "sportybet"
LIMITS = HostLimits(rate=2, burst=4, concurrency=2)
PAGE_SIZE = 100
MAX_PAGES = 100
MAX_PAGES_WITHOUT_NEW_EVENTS = 2

_OK = 10000
_HEADERS = MappingProxyType(
    {"accept-language": "en", "clientid": "web", "operid": "2", "platform": "web"}
)
_OVER_UNDER = "18"
_PICKS: Mapping[str, Mapping[str, odds.Pick]] = {
    "1": {
        "1": (Market.MATCH_RESULT, MarketOutcome.HOME),
        "2": (Market.MATCH_RESULT, MarketOutcome.DRAW),
        "3": (Market.MATCH_RESULT, MarketOutcome.AWAY),
    },
    _OVER_UNDER: {
        "12": (Market.OVER_UNDER, MarketOutcome.OVER),
        "13": (Market.OVER_UNDER, MarketOutcome.UNDER),
    },
    "10": {
        "9": (Market.DOUBLE_CHANCE, MarketOutcome.HOME_DRAW),
        "10": (Market.DOUBLE_CHANCE, MarketOutcome.HOME_AWAY),
        "11": (Market.DOUBLE_CHANCE, MarketOutcome.DRAW_AWAY),
    },
    "29": {
        "74": (Market.BOTH_TEAMS_TO_SCORE, MarketOutcome.YES),
        "76": (Market.BOTH_TEAMS_TO_SCORE, MarketOutcome.NO),
    },
}


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    """Base of response parts; fields that are not stored are skipped."""


class _Outcome(_Wire):
    id: str | int | None = None
    odds: msgspec.Raw = JSON_NULL
    is_active: int | bool | None = 1


class _Market(_Wire):
    id: str | int | None = None
    specifier: str | None = None
    status: int | None = 0
    banned: bool | None = False
    outcomes: list[_Outcome | None] | None = None


class _Named(_Wire):
    id: str | None = None
    name: str | None = None


class _Category(_Wire):
    name: str | None = None
    tournament: _Named | None = None


class _Sport(_Wire):
    category: _Category | None = None


class _Event(_Wire):
    event_id: str
    estimate_start_time: int
    home_team_name: str
    away_team_name: str
    sport: _Sport | None = None
    banned: bool | None = False
    markets: list[_Market | None] | None = None


class _Tournament(_Wire):
    id: str | None = None
    name: str | None = None
    category_name: str | None = None
    events: list[msgspec.Raw] | None = None


class _Data(_Wire):
    total_num: int | None = None
    tournaments: list[_Tournament] | None = None
    event_id: str | None = None


class _Envelope(_Wire):
    biz_code: int
    message: str | None = None
    inner_msg: str | None = None
    data: msgspec.Raw = JSON_NULL


class _Page(msgspec.Struct):
    tournaments: list[_Tournament]
    total: int | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_data = msgspec.json.Decoder(_Data | list[_Tournament] | None)
_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class SportyBet:
    """One partition with all football events. `base_url` ends in `/factsCenter`."""

    name: str = field(default=NAME, init=False)
    base_url: str
    limits: HostLimits = LIMITS

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Return the only partition. Requests nothing."""
        yield from ()
        return (Partition("football"),)

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd | Incomplete]:  # noqa: ARG002
        """Request pages until all reported events were seen, or two pages in a row had nothing new.

        Returns the greatest number of events that the site reported; Incomplete if it reported
        none, and after MAX_PAGES pages. Raises like `parse`.
        """
        seen: set[str | bytes] = set()
        total, number, pages_without_new = None, 0, 0
        while pages_without_new < MAX_PAGES_WITHOUT_NEW_EVENTS and number < MAX_PAGES:
            number += 1
            page = _page((yield self._request(number)))
            new = {_key(event) for each in page.tournaments for event in each.events or ()} - seen
            seen |= new
            pages_without_new = 0 if new else pages_without_new + 1
            total = max(total or 0, page.total) if page.total is not None else total
            if len(seen) == total:  # a total that is exceeded counts something else
                break
        if total is None:
            return Incomplete("the site did not say how many events there are")
        return ListingEnd("the total, or two pages without a new event", total)

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the events of a list page, a tournament list (`pcEvents`) or a single event.

        Raises ApiError if the envelope reports an error, Blocked, or Schema.
        """
        return [
            record
            for each in _page(raw).tournaments
            for record in odds.records(each.events or (), "eventId", partial(_read, each))
        ]

    def _request(self, number: int) -> SourceRequest:
        return SourceRequest(
            f"{self.base_url}/pcUpcomingEvents",
            params=(
                ("sportId", "sr:sport:1"),
                ("marketId", ",".join(_PICKS)),
                ("pageSize", str(PAGE_SIZE)),
                ("pageNum", str(number)),
                ("option", "2"),
                ("todayGames", "false"),
                ("timeline", "720"),
            ),
            headers=_HEADERS,
            accept="*/*",
        )


def _page(raw: RawPage) -> _Page:
    envelope = odds.decode(raw, _envelope)
    if envelope.biz_code != _OK:
        message = envelope.inner_msg or envelope.message or "no message"
        raise ApiError.of(raw, f"bizCode {envelope.biz_code}: {message}")
    data = odds.decode_part(raw, envelope.data, _data)
    if isinstance(data, _Data) and data.event_id is not None:
        return _Page([_Tournament(events=[envelope.data])])
    if isinstance(data, _Data) and (data.tournaments is not None or data.total_num is not None):
        return _Page(data.tournaments or [], data.total_num)
    if data is not None and not isinstance(data, _Data):
        return _Page(data)
    if raw.page > 1:  # past the end there may be no data; the first page must have some
        return _Page([])
    raise Schema.of(raw, "the response contains neither events nor their number")


def _key(event: msgspec.Raw) -> str | bytes:
    return odds.record_id(event, "eventId") or bytes(event)


def _read(tournament: _Tournament, raw: msgspec.Raw, prices: odds.Prices) -> OddsEvent:
    event = _event.decode(raw)
    category = (event.sport and event.sport.category) or _Category()
    inner = category.tournament or _Named()
    markets = filter(None, event.markets or ())
    offered = [m for m in markets if not (m.banned or event.banned)]
    for line, market in _markets(offered, prices):
        _add(market, line, prices)
    return OddsEvent(
        platform=NAME,
        platform_event_id=odds.required_text(event.event_id, "eventId"),
        sportradar_id=_sportradar(event.event_id),
        country=odds.clean_text(category.name or tournament.category_name),
        competition=odds.clean_text(inner.name or tournament.name),
        competition_id=odds.clean_text(inner.id or tournament.id) or None,
        home=odds.required_text(event.home_team_name, "home team"),
        away=odds.required_text(event.away_team_name, "away team"),
        kickoff=odds.kickoff_from_ms(event.estimate_start_time),
        prices=prices.as_tuple(),
    )


def _sportradar(event_id: str) -> str | None:
    return odds.sportradar_id(event_id) if event_id.startswith("sr:match:") else None


def _markets(
    markets: Iterable[_Market], prices: odds.Prices
) -> Iterable[tuple[Decimal | None, _Market]]:
    """Return one market per kind and line; of two, the open one."""
    by_kind_and_line: dict[tuple[str, Decimal | None], _Market] = {}
    for market in markets:
        kind = str(market.id)
        if kind not in _PICKS:
            continue
        try:
            key = (kind, _line(market) if kind == _OVER_UNDER else None)
        except ValueError as error:
            prices.add_fault(Market.OVER_UNDER, error)
            continue
        if key not in by_kind_and_line or (by_kind_and_line[key].status and not market.status):
            by_kind_and_line[key] = market
    return ((line, market) for (_, line), market in by_kind_and_line.items())


def _line(market: _Market) -> Decimal:
    for part in (market.specifier or "").split("|"):
        label, _, value = part.partition("=")
        line = odds.parse_line(value.encode()) if label == "total" else None
        if line is not None:
            return line
    raise ValueError(f"no line in {market.specifier!r}")


def _add(market: _Market, line: Decimal | None, prices: odds.Prices) -> None:
    picks = _PICKS[str(market.id)]
    for outcome in filter(None, market.outcomes or ()):
        pick = picks.get(str(outcome.id))
        if pick is not None:
            active = not market.status and outcome.is_active in (1, None)
            prices.add(pick, line, bytes(outcome.odds), active)
