"""What the odds sites share: an answer looked at once, and prices, lines and instants read exactly.

A price or line is read from the JSON text itself, string or number, never through a float.
Decided here for all three sites:

- "not on offer" (empty, "-", null, absent, or a price of 1 or less) is no price, and no fault;
- a price that is no number is left out and the rest of its event is kept; beside the event comes
  one Rejected with the reasons, so that it is seen;
- an event without id, teams or kick-off is Rejected and the rest of its page is kept;
- lines are normalised, so that 3 and 3.0 are one line and 2.50 is 2.5; prices stay as written.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import msgspec

from app.errors import ApiError, Blocked, Failure, Schema
from app.messages import Raw
from app.records import OddsEvent, OddsPrice, Record, Rejected
from app.words import Market, Outcome

T = TypeVar("T")
Pick = tuple[Market, Outcome]

UNREADABLE = (ValueError, OverflowError, RecursionError)
"""What reading foreign JSON can raise: msgspec's errors are ValueErrors."""

NOTHING = msgspec.Raw(b"null")

_BLANK = b"\xef\xbb\xbf \t\r\n"
_NOT_ON_OFFER = frozenset({b"", b"-", b"null"})
_PRICE = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")
_LINE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_HIGHEST_PRICE = 1_000_000
_FAULTS_TOLD = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(2000, 2100)
_SHORTEST_INSTANT = len("2026-09-05T14:00")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_id = msgspec.json.Decoder(str | int)


class Prices:
    """The prices of one event, one per (market, line, outcome): of two, the first is kept."""

    def __init__(self) -> None:
        self._kept: dict[tuple[Pick, Decimal | None], OddsPrice] = {}
        self.faults: list[str] = []

    def add(self, pick: Pick, line: Decimal | None, quote: bytes, active: bool = True) -> None:
        """Take the JSON text of one price; nothing if not on offer, a fault if no number."""
        try:
            price = _offered(pick, line, quote, active)
        except ValueError as error:
            self.fault(" ".join(pick), error)
            return
        if price is not None:
            self._kept.setdefault((pick, line), price)

    def fault(self, where: str, what: Exception) -> None:
        """Note what could not be read, without giving up the event."""
        self.faults.append(f"{where}: {what}")

    def kept(self) -> tuple[OddsPrice, ...]:
        """All prices, in the site's order."""
        return tuple(self._kept.values())

    def reason(self) -> str:
        """The faults in one line; beyond the first few only how many there are."""
        told = self.faults[:_FAULTS_TOLD]
        more = len(self.faults) - len(told)
        return "; ".join([*told, f"and {more} more"] if more else told)


def decode(raw: Raw, shape: msgspec.json.Decoder[T]) -> T:
    """Read an answer by its envelope.

    Raises Blocked for a web page or an empty 202, ApiError (ask again) for any other empty answer,
    Schema if it is not JSON of that shape.
    """
    body = raw.body.lstrip(_BLANK)
    if not body:
        raise _silence(raw)
    if body.startswith(b"<"):
        raise Blocked("a web page came where data was due", status=raw.status, url=raw.url)
    return decode_part(raw, body, shape)


def decode_part(raw: Raw, part: bytes | msgspec.Raw, shape: msgspec.json.Decoder[T]) -> T:
    """Read a part of an answer. Raises Schema if it is not JSON of that shape."""
    try:
        return shape.decode(part)
    except UNREADABLE as error:
        message = f"not the shape it should have: {error}"
        raise Schema(message, status=raw.status, url=raw.url) from error


def _silence(raw: Raw) -> Failure:
    if raw.status == 202:  # noqa: PLR2004 - "accepted" and nothing else is how a firewall stalls us
        return Blocked("202 with an empty body", status=raw.status, url=raw.url)
    return ApiError("an empty body", status=raw.status, url=raw.url, retry=True)


def records(
    events: Iterable[msgspec.Raw],
    id_field: str,
    read: Callable[[msgspec.Raw, Prices], OddsEvent],
) -> list[Record]:
    """Read events one by one with `read`; what cannot be read becomes Rejected."""
    out: list[Record] = []
    for raw in events:
        prices = Prices()
        try:
            event = read(raw, prices)
        except UNREADABLE as error:
            out.append(Rejected(str(error), bytes(raw), record_id(raw, id_field)))
            continue
        out.append(replace(event, complete=False) if prices.faults else event)
        if prices.faults:
            out.append(Rejected(prices.reason(), bytes(raw), record_id(raw, id_field)))
    return out


def record_id(event: msgspec.Raw, field: str) -> str | None:
    """The id in that field of an event, which may be odd in every other way."""
    try:
        return text(_id.decode(_members.decode(event)[field])) or None
    except (*UNREADABLE, KeyError):
        return None


@lru_cache(maxsize=8192)
def price_of(quote: bytes) -> Decimal | None:
    """Decimal odds from their JSON text, a string or a number; None if not on offer.

    Raises ValueError if it is no number, or none that odds can be.
    """
    bare = quote.strip(b'" \t')
    if bare in _NOT_ON_OFFER:
        return None
    value = Decimal(_matching(_PRICE, bare, "price"))
    if value >= _HIGHEST_PRICE:
        raise ValueError(f"price {_shown(bare)} is out of range")
    return value if value > 1 else None


# Round after round a board says the same: its prices are values, made once and handed out again.
@lru_cache(maxsize=32_768)
def _offered(pick: Pick, line: Decimal | None, quote: bytes, active: bool) -> OddsPrice | None:
    price = price_of(quote)
    return None if price is None else OddsPrice(*pick, line, price, active)


@lru_cache(maxsize=1024)
def line_of(quote: bytes) -> Decimal | None:
    """A goals line from its text, normalised; None if there is none.

    Raises ValueError if it is no number from 0 up.
    """
    bare = quote.strip(b'" \t')
    if bare in _NOT_ON_OFFER:
        return None
    value = Decimal(_matching(_LINE, bare, "line"))
    whole = value.to_integral_value()
    return whole if value == whole else value.normalize()


def _matching(pattern: re.Pattern[str], bare: bytes, what: str) -> str:
    found = bare.decode("ascii", "replace")
    if not pattern.fullmatch(found):
        raise ValueError(f"{what} {_shown(bare)} is no number")
    return found


def _shown(bare: bytes) -> str:
    return repr(bare[:40].decode("ascii", "backslashreplace"))


def text(value: str | int | None) -> str:
    """A name or id on one line, without the NULs that Postgres refuses; "" for None."""
    return "" if value is None else " ".join(str(value).replace("\0", " ").split())


def needed(value: str | int | None, what: str) -> str:
    """The same, of what an event cannot do without. Raises ValueError if blank."""
    found = text(value)
    if not found:
        raise ValueError(f"no {what}")
    return found


def sportradar(value: str | int | None) -> str | None:
    """The digits of a Sportradar id, with or without `sr:match:`; None if it is none."""
    digits = text(value).removeprefix("sr:match:").lstrip("0")
    return digits if digits.isascii() and digits.isdigit() else None


def instant(written: str) -> datetime:
    """An ISO 8601 instant; without a zone it is UTC. Raises ValueError if it is no kick-off."""
    if len(written) < _SHORTEST_INSTANT:
        raise ValueError(f"kick-off {written!r} is no instant")
    read = datetime.fromisoformat(written)
    return _plausible(read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC))


def instant_ms(milliseconds: int) -> datetime:
    """An instant in milliseconds since 1970. Raises ValueError or OverflowError if no kick-off."""
    return _plausible(_EPOCH + timedelta(milliseconds=milliseconds))


def _plausible(kickoff: datetime) -> datetime:
    if kickoff.year not in _YEARS:
        raise ValueError(f"kick-off in the year {kickoff.year}")
    return kickoff
