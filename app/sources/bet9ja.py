"""Bet9ja: football before kick-off, one request per group (competition) of the catalogue.

Learnt of the site:
- An error comes as HTTP 200 with `R` "E", for "not found" and "slow down" alike: ask again.
- The catalogue is a tree of sport, country, group; each group says how many events it has.
- A group's events come as a list, or as an object keyed by slot.
- Odds are strings; "", "-" and "1" mean not on offer. A line may have only one side.
- Keys are compared whole: S_1X21_, S_1X22_ and S_1X22TOU@ are other markets than S_1X2_.
- STARTDATE is UTC without saying so (the same match on three sites agrees); STARTDATEUTC, where it
  comes, says so.
- `DS` holds the only team names and is split at the first " - ": a home team with " - " in its own
  name would be cut wrong, and nothing in the answer could tell.
- Requests must be at least 25 ms apart or the site answers 403: no bursts, so that the rate of four
  a second keeps them 250 ms apart.
"""

from collections.abc import Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from urllib.parse import urlsplit

import msgspec

from app.errors import ApiError, Schema
from app.messages import Limits, Partition, Raw, Request
from app.records import OddsEvent, Record
from app.sources import odds
from app.sources.odds import NOTHING
from app.words import Market, Outcome

NAME = "bet9ja"
LIMITS = Limits(rate=4, burst=1, concurrency=4)

_FOOTBALL = "1"
_OK = ("OK", "D")
_PICKS: Mapping[str, odds.Pick] = {
    "S_1X2_1": (Market.MATCH_RESULT, Outcome.HOME),
    "S_1X2_X": (Market.MATCH_RESULT, Outcome.DRAW),
    "S_1X2_2": (Market.MATCH_RESULT, Outcome.AWAY),
    "S_GGNG_Y": (Market.BOTH_TEAMS_TO_SCORE, Outcome.YES),
    "S_GGNG_N": (Market.BOTH_TEAMS_TO_SCORE, Outcome.NO),
    "S_DC_1X": (Market.DOUBLE_CHANCE, Outcome.HOME_DRAW),
    "S_DC_12": (Market.DOUBLE_CHANCE, Outcome.HOME_AWAY),
    "S_DC_X2": (Market.DOUBLE_CHANCE, Outcome.DRAW_AWAY),
}
_LINED = "S_OU@"
_SIDES: Mapping[str, odds.Pick] = {
    "O": (Market.OVER_UNDER, Outcome.OVER),
    "U": (Market.OVER_UNDER, Outcome.UNDER),
}


class _Wire(msgspec.Struct, gc=False, rename="upper"):
    """A part of an answer: only what is stored, everything else is skipped."""


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
    d: msgspec.Raw = NOTHING


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
    """A partition per football group. `base_url` ends in `/PalimpsestAjax`."""

    name: str = field(default=NAME, init=False)
    base_url: str
    limits: Limits = LIMITS

    def partitions(self) -> Generator[Request, Raw, Sequence[Partition]]:
        """Read the catalogue: a partition per football group that has, or may have, events.

        Raises ApiError, Blocked, or Schema also if there is no football at all.
        """
        raw = yield self._request("GetSports", ("DISP", "0"))
        parts = [Partition(key, _count(group)) for key, group in _groups(raw).items()]
        return tuple(part for part in parts if part.expected != 0)

    def pages(self, part: Partition) -> Generator[Request, Raw, int | None]:
        """Ask once for the group's events. Returns the catalogue's count. Raises as `parse`."""
        group = ("GROUPID", part.key)
        rest = (("DISP", "0"), ("GROUPMARKETID", "1"), ("matches", "true"))
        _events((yield self._request("GetEventsInGroupV2", group, *rest)))
        return part.expected

    def parse(self, raw: Raw) -> Iterable[Record]:
        """Read a group's events or a single event.

        Raises ApiError if the envelope says so, Blocked, or Schema.
        """
        return odds.records(_events(raw), "ID", _read)

    def _request(self, call: str, *params: tuple[str, str]) -> Request:
        site = urlsplit(self.base_url)
        return Request(
            f"{self.base_url}/{call}",
            params=params,
            headers={"referer": f"{site.scheme}://{site.netloc}/"},
        )


def _opened(raw: Raw) -> msgspec.Raw:
    envelope = odds.decode(raw, _envelope)
    if envelope.r not in _OK:
        message = f"R is {envelope.r!r}: not found, or asked too fast"
        raise ApiError(message, status=raw.status, url=raw.url, retry=True)
    return envelope.d


def _groups(raw: Raw) -> dict[str, _Group | None]:
    """All football groups by id; empty branches of the tree come as lists."""
    tree = odds.decode_part(raw, _opened(raw), _tree)
    football = odds.decode_part(raw, tree.pal.get(_FOOTBALL, NOTHING), _sport)
    countries = football.sg if isinstance(football.sg, dict) else {}
    groups: dict[str, _Group | None] = {}
    for country in countries.values():
        if country is not None and isinstance(country.g, dict):
            groups |= country.g
    if not groups:
        raise Schema("no football in the catalogue", status=raw.status, url=raw.url)
    return groups


def _count(group: _Group | None) -> int | None:
    written = "" if group is None else str(group.num)
    return int(written) if written.isascii() and written.isdigit() else None


def _events(raw: Raw) -> list[msgspec.Raw]:
    body = _opened(raw)
    data = odds.decode_part(raw, body, _data)
    if isinstance(data, _Data) and data.e is not msgspec.UNSET:
        return _listed(data.e)
    if isinstance(data, _Data) and data.id is not None:
        return [body]
    if data == []:  # an empty object, as the site writes it
        return []
    raise Schema("neither events nor an event", status=raw.status, url=raw.url)


def _listed(slots: list[msgspec.Raw] | dict[str, msgspec.Raw] | None) -> list[msgspec.Raw]:
    return list(slots.values()) if isinstance(slots, dict) else slots or []


def _read(raw: msgspec.Raw, prices: odds.Prices) -> OddsEvent:
    event = _event.decode(raw)
    home, _, away = odds.text(event.ds).partition(" - ")
    for key, quote in event.o.items() if isinstance(event.o, dict) else ():
        _add(key, bytes(quote), prices)
    return OddsEvent(
        platform=NAME,
        platform_event_id=odds.needed(event.id, "ID"),
        sportradar_id=odds.sportradar(event.extid),
        country=odds.text(event.sg),
        competition=odds.text(event.gn),
        competition_id=odds.text(event.gid) or None,
        home=odds.needed(home, f"home team in {event.ds!r}"),
        away=odds.needed(away, f"away team in {event.ds!r}"),
        kickoff=_kickoff(event),
        prices=prices.kept(),
    )


def _kickoff(event: _Event) -> datetime:
    written = event.startdateutc or event.startdate
    if not written:
        raise ValueError("no STARTDATE")
    return odds.instant(written)


def _add(key: str, quote: bytes, prices: odds.Prices) -> None:
    pick, line = _PICKS.get(key), None
    if key.startswith(_LINED):
        pick, line = _lined(key, prices)
    if pick is not None:
        prices.add(pick, line, quote)


def _lined(key: str, prices: odds.Prices) -> tuple[odds.Pick | None, Decimal | None]:
    written, _, side = key.removeprefix(_LINED).partition("_")
    pick = _SIDES.get(side)
    try:
        line = odds.line_of(written.encode())
    except ValueError as error:
        prices.fault(key, error)
        return None, None
    return (pick if line is not None else None), line
