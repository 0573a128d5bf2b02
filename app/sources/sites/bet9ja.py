"""Bet9ja: pre-match football odds, one request per group (competition) of the catalogue.

Facts about the site:
- An error is HTTP 200 with `R` "E", both for "not found" and for rate limiting; it is retried.
- The catalogue is a tree of sport, country, group; each group has its number of events.
- The events of a group are a list, or an object keyed by slot.
- Odds are strings; "", "-" and "1" mean not offered. A line may have only one side.
- Half lines of goals are `S_OU@`, whole and quarter lines `S_OUA@`.
- Keys are compared in full: S_1X21_, S_1X22_ and S_1X22TOU@ are not the market S_1X2_.
- STARTDATE is UTC without an offset (the same match agrees on three sites); STARTDATEUTC, where
  present, has one.
- `DS` holds the only team names and is split at the first " - ". A home team with " - " in its name
  would be split wrongly, which the response gives no way to detect.
- Requests less than 25 ms apart are answered with 403. Without bursts, the rate of four per second
  keeps them 250 ms apart.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from app.core.enums import Market, MarketOutcome
from app.core.errors import ApiError, Schema
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import OddsEvent, Record
from app.sources.base import ListingEnd
from app.sources.sites import odds
from app.sources.sites.odds import JSON_NULL

NAME = "bet9ja"
LIMITS = HostLimits(rate=4, burst=1, concurrency=4)

_FOOTBALL = "1"
_OK = ("OK", "D")
_PICKS: Mapping[str, odds.Pick] = {
    "S_1X2_1": (Market.MATCH_RESULT, MarketOutcome.HOME),
    "S_1X2_X": (Market.MATCH_RESULT, MarketOutcome.DRAW),
    "S_1X2_2": (Market.MATCH_RESULT, MarketOutcome.AWAY),
    "S_GGNG_Y": (Market.BOTH_TEAMS_TO_SCORE, MarketOutcome.YES),
    "S_GGNG_N": (Market.BOTH_TEAMS_TO_SCORE, MarketOutcome.NO),
    "S_DC_1X": (Market.DOUBLE_CHANCE, MarketOutcome.HOME_DRAW),
    "S_DC_12": (Market.DOUBLE_CHANCE, MarketOutcome.HOME_AWAY),
    "S_DC_X2": (Market.DOUBLE_CHANCE, MarketOutcome.DRAW_AWAY),
}
_OVER_UNDER_PREFIXES = ("S_OU@", "S_OUA@")
_OVER_UNDER_PICKS: Mapping[str, odds.Pick] = {
    "O": (Market.OVER_UNDER, MarketOutcome.OVER),
    "U": (Market.OVER_UNDER, MarketOutcome.UNDER),
}


class _Wire(msgspec.Struct, gc=False, rename="upper"):
    """Base of response parts; fields that are not stored are skipped."""


class _Group(_Wire):
    num: int | str | None = None


class _Country(_Wire):
    g: dict[str, _Group | None] | list[msgspec.Raw] | None = None


class _Sport(_Wire):
    sg: dict[str, _Country | None] | list[msgspec.Raw] | None = None


class _Tree(_Wire):
    pal: dict[str, msgspec.Raw]


class _Envelope(_Wire):
    r: str
    d: msgspec.Raw = JSON_NULL


class _Data(_Wire):
    e: list[msgspec.Raw] | dict[str, msgspec.Raw] | msgspec.UnsetType | None = msgspec.UNSET
    id: int | str | None = None


class _Event(_Wire):
    id: int | str
    ds: str
    startdate: str | None = None
    startdateutc: str | None = None
    extid: str | int | None = None
    gid: int | str | None = None
    gn: str | None = None
    sg: str | None = None
    o: dict[str, msgspec.Raw] | list[msgspec.Raw] | None = None


_envelope = msgspec.json.Decoder(_Envelope)
_tree = msgspec.json.Decoder(_Tree)
_sport = msgspec.json.Decoder(_Sport)
_data = msgspec.json.Decoder(_Data | list[msgspec.Raw] | None)
_event = msgspec.json.Decoder(_Event)


@dataclass(frozen=True, slots=True)
class Bet9ja:
    """One partition per football group. `base_url` ends in `/PalimpsestAjax`."""

    name: str = field(default=NAME, init=False)
    base_url: str
    limits: HostLimits = LIMITS

    def partitions(self) -> Generator[SourceRequest, RawPage, Sequence[Partition]]:
        """Request the catalogue; return a partition for each football group that may have events.

        Raises ApiError, Blocked, and Schema, also if the catalogue has no football.
        """
        raw = yield self._request("GetSports", ("DISP", "0"))
        parts = [Partition(key, _count(group)) for key, group in _groups(raw).items()]
        return tuple(part for part in parts if part.expected != 0)

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        """Request the events of the group. Returns the catalogue's count. Raises like `parse`."""
        group = ("GROUPID", part.key)
        options = (("DISP", "0"), ("GROUPMARKETID", "1"), ("matches", "true"))
        _events((yield self._request("GetEventsInGroupV2", group, *options)))
        return ListingEnd("the only page", part.expected)

    def parse(self, raw: RawPage) -> Iterable[Record]:
        """Return the events of a group response or a single-event response.

        Raises ApiError if the envelope reports an error, Blocked, or Schema.
        """
        return odds.records(_events(raw), "ID", _read)

    def _request(self, call: str, *params: tuple[str, str]) -> SourceRequest:
        site = urlsplit(self.base_url)
        return SourceRequest(
            f"{self.base_url}/{call}",
            params=params,
            headers={"referer": f"{site.scheme}://{site.netloc}/"},
        )


def _envelope_data(raw: RawPage) -> msgspec.Raw:
    envelope = odds.decode(raw, _envelope)
    if envelope.r not in _OK:
        raise ApiError.of(raw, f"R is {envelope.r!r}: not found, or rate limited", retry=True)
    return envelope.d


def _groups(raw: RawPage) -> dict[str, _Group | None]:
    """Return all football groups by id; empty branches of the tree are lists."""
    tree = odds.decode_part(raw, _envelope_data(raw), _tree)
    football = odds.decode_part(raw, tree.pal.get(_FOOTBALL, JSON_NULL), _sport)
    countries = football.sg if isinstance(football.sg, dict) else {}
    groups: dict[str, _Group | None] = {}
    for country in countries.values():
        if country is not None and isinstance(country.g, dict):
            groups |= country.g
    if not groups:
        raise Schema.of(raw, "no football in the catalogue")
    return groups


def _count(group: _Group | None) -> int | None:
    count = "" if group is None else str(group.num)
    return int(count) if count.isascii() and count.isdigit() else None


def _events(raw: RawPage) -> list[msgspec.Raw]:
    body = _envelope_data(raw)
    data = odds.decode_part(raw, body, _data)
    if isinstance(data, _Data) and data.e is not msgspec.UNSET:
        return _as_list(data.e)
    if isinstance(data, _Data) and data.id is not None:
        return [body]
    if data == []:  # the site serializes an empty object as a list
        return []
    raise Schema.of(raw, "the response contains neither events nor an event")


def _as_list(slots: list[msgspec.Raw] | dict[str, msgspec.Raw] | None) -> list[msgspec.Raw]:
    return list(slots.values()) if isinstance(slots, dict) else slots or []


def _read(raw: msgspec.Raw, prices: odds.Prices) -> OddsEvent:
    event = _event.decode(raw)
    home, _, away = odds.clean_text(event.ds).partition(" - ")
    for key, quote in event.o.items() if isinstance(event.o, dict) else ():
        _add(key, bytes(quote), prices)
    return OddsEvent(
        platform=NAME,
        platform_event_id=odds.required_text(event.id, "ID"),
        sportradar_id=odds.sportradar_id(event.extid),
        country=odds.clean_text(event.sg),
        competition=odds.clean_text(event.gn),
        competition_id=odds.clean_text(event.gid) or None,
        home=odds.required_text(home, f"home team in {event.ds!r}"),
        away=odds.required_text(away, f"away team in {event.ds!r}"),
        kickoff=_kickoff(event),
        prices=prices.as_tuple(),
    )


def _kickoff(event: _Event) -> datetime:
    text = event.startdateutc or event.startdate
    if not text:
        raise ValueError("no STARTDATE")
    return odds.parse_kickoff(text)


def _add(key: str, quote: bytes, prices: odds.Prices) -> None:
    pick, line = _PICKS.get(key), None
    if key.startswith(_OVER_UNDER_PREFIXES):
        pick, line = _over_under(key, prices)
    if pick is not None:
        prices.add(pick, line, quote)


def _over_under(key: str, prices: odds.Prices) -> tuple[odds.Pick | None, Decimal | None]:
    line_text, _, side = key.partition("@")[2].partition("_")
    pick = _OVER_UNDER_PICKS.get(side)
    try:
        line = odds.parse_line(line_text.encode())
    except ValueError as error:
        prices.add_fault(key, error)
        return None, None
    return (pick if line is not None else None), line
