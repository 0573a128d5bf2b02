"""SportyBet: football before kick-off, from the paged list of upcoming events.

Learnt of the site:
- An error comes as HTTP 200 with a `bizCode` that is not 10000.
- `option=2` is the full list; `option=1` shows ten events per tournament and loses the rest.
- `todayGames=true` may answer with no data around midnight, so the full 30 days are asked for.
- Pages are cut by tournament: one of 100 holds 40 to 100 events, so short pages are not the last.
- The same market can come twice. The stale one says `status` 1 while its outcomes stay active.
- `eventId` carries the Sportradar id; `sourceId` may carry a prefix and is not read.
- The site wants no token. The `_t` of its own pages only defeats caches and is left out.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from types import MappingProxyType

import msgspec

from app.errors import ApiError, Schema
from app.messages import Limits, Partition, Raw, Request
from app.records import OddsEvent, Record
from app.sources import odds
from app.sources.odds import NOTHING
from app.words import Market, Outcome

NAME = "sportybet"
LIMITS = Limits(rate=2, burst=4, concurrency=2)
PAGE_SIZE = 100
MAX_PAGES = 100
EMPTY_PAGES_AT_THE_END = 2

_OK = 10000
_HEADERS = MappingProxyType(
    {"accept-language": "en", "clientid": "web", "operid": "2", "platform": "web"}
)
_OVER_UNDER = "18"
_PICKS: Mapping[str, Mapping[str, odds.Pick]] = {
    "1": {
        "1": (Market.MATCH_RESULT, Outcome.HOME),
        "2": (Market.MATCH_RESULT, Outcome.DRAW),
        "3": (Market.MATCH_RESULT, Outcome.AWAY),
    },
    _OVER_UNDER: {
        "12": (Market.OVER_UNDER, Outcome.OVER),
        "13": (Market.OVER_UNDER, Outcome.UNDER),
    },
    "10": {
        "9": (Market.DOUBLE_CHANCE, Outcome.HOME_DRAW),
        "10": (Market.DOUBLE_CHANCE, Outcome.HOME_AWAY),
        "11": (Market.DOUBLE_CHANCE, Outcome.DRAW_AWAY),
    },
    "29": {
        "74": (Market.BOTH_TEAMS_TO_SCORE, Outcome.YES),
        "76": (Market.BOTH_TEAMS_TO_SCORE, Outcome.NO),
    },
}


class _Wire(msgspec.Struct, gc=False, rename="camel"):
    """A part of an answer: only what is stored, everything else is skipped."""


class _Outcome(_Wire):
    id: str | int = ""
    odds: msgspec.Raw = NOTHING
    is_active: int | bool = 1


class _Market(_Wire):
    id: str | int = ""
    specifier: str | None = None
    status: int | None = 0
    outcomes: list[_Outcome] | None = None


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
    markets: list[_Market] | None = None


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
    data: msgspec.Raw = NOTHING


class _Page(msgspec.Struct):
    tournaments: list[_Tournament]
    total: int | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_data = msgspec.json.Decoder(_Data | list[_Tournament] | None)
_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class SportyBet:
    """One partition, the whole football board. `base_url` ends in `/factsCenter`."""

    name: str = field(default=NAME, init=False)
    base_url: str
    limits: Limits = LIMITS

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """Everything comes from one list: asks nothing."""
        yield from ()
        return (Partition("football"),)

    def pages(self, part: Partition) -> Generator[Request, Raw, int | None]:  # noqa: ARG002
        """Ask until all events the site counts were seen, or two pages brought nothing new.

        Returns the site's own count. Raises as `parse`.
        """
        seen: set[str | bytes] = set()
        total, number, barren = None, 0, 0
        while barren < EMPTY_PAGES_AT_THE_END and number < MAX_PAGES:
            number += 1
            page = _page((yield self._request(number)))
            fresh = {_key(event) for each in page.tournaments for event in each.events or ()} - seen
            seen |= fresh
            barren = 0 if fresh else barren + 1
            total = total if page.total is None else page.total
            if total is not None and len(seen) >= total:
                break
        return total

    def parse(self, raw: Raw) -> Iterable[Record]:
        """Read a list page, a list by tournament (`pcEvents`) or a single event.

        Raises ApiError if the envelope says so, Blocked, or Schema.
        """
        return [
            record
            for each in _page(raw).tournaments
            for record in odds.records(each.events or (), "eventId", partial(_read, each))
        ]

    def _request(self, number: int) -> Request:
        return Request(
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


def _page(raw: Raw) -> _Page:
    envelope = odds.decode(raw, _envelope)
    if envelope.biz_code != _OK:
        said = envelope.inner_msg or envelope.message or "no message"
        raise ApiError(f"bizCode {envelope.biz_code}: {said}", status=raw.status, url=raw.url)
    data = odds.decode_part(raw, envelope.data, _data)
    if isinstance(data, _Data) and data.event_id is not None:
        return _Page([_Tournament(events=[envelope.data])])
    if isinstance(data, _Data) and (data.tournaments is not None or data.total_num is not None):
        return _Page(data.tournaments or [], data.total_num)
    if data is not None and not isinstance(data, _Data):
        return _Page(data)
    if raw.page > 1:  # past the end there may be no data; a first page must have some
        return _Page([])
    raise Schema("neither events nor their number", status=raw.status, url=raw.url)


def _key(event: msgspec.Raw) -> str | bytes:
    return odds.record_id(event, "eventId") or bytes(event)


def _read(tournament: _Tournament, raw: msgspec.Raw, prices: odds.Prices) -> OddsEvent:
    event = _event.decode(raw)
    category = (event.sport and event.sport.category) or _Category()
    inner = category.tournament or _Named()
    for line, market in _markets(event.markets or (), prices):
        _add(market, line, prices)
    return OddsEvent(
        platform=NAME,
        platform_event_id=odds.needed(event.event_id, "eventId"),
        sportradar_id=_sportradar(event.event_id),
        country=odds.text(category.name or tournament.category_name),
        competition=odds.text(inner.name or tournament.name),
        competition_id=odds.text(inner.id or tournament.id) or None,
        home=odds.needed(event.home_team_name, "home team"),
        away=odds.needed(event.away_team_name, "away team"),
        kickoff=odds.instant_ms(event.estimate_start_time),
        prices=prices.kept(),
    )


def _sportradar(event_id: str) -> str | None:
    return odds.sportradar(event_id) if event_id.startswith("sr:match:") else None


def _markets(
    markets: Iterable[_Market], prices: odds.Prices
) -> Iterable[tuple[Decimal | None, _Market]]:
    """One market per kind and line; where it comes twice, the open one."""
    chosen: dict[tuple[str, Decimal | None], _Market] = {}
    for market in markets:
        kind = str(market.id)
        if kind not in _PICKS:
            continue
        try:
            key = (kind, _line(market) if kind == _OVER_UNDER else None)
        except ValueError as error:
            prices.fault(Market.OVER_UNDER, error)
            continue
        if key not in chosen or (chosen[key].status and not market.status):
            chosen[key] = market
    return ((line, market) for (_, line), market in chosen.items())


def _line(market: _Market) -> Decimal:
    for part in (market.specifier or "").split("|"):
        label, _, value = part.partition("=")
        line = odds.line_of(value.encode()) if label == "total" else None
        if line is not None:
            return line
    raise ValueError(f"no line in {market.specifier!r}")


def _add(market: _Market, line: Decimal | None, prices: odds.Prices) -> None:
    picks = _PICKS[str(market.id)]
    for outcome in market.outcomes or ():
        pick = picks.get(str(outcome.id))
        if pick is not None:
            active = not market.status and outcome.is_active == 1
            prices.add(pick, line, bytes(outcome.odds), active)
