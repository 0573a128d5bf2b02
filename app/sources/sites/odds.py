"""Decoding shared by the odds sites: responses, prices, lines and kick-off times.

A price or line is read from the JSON text itself, string or number, never through a float.
Rules for all three sites:

- A price that is not offered (empty, "-", null, absent, or 1 or less) is omitted without a fault,
  unless it is suspended: a site may blank a price while it takes no bets on it.
- An invalid price is omitted and the rest of its event is kept; one Rejected with the reasons is
  returned next to the event.
- An event without id, teams or kick-off is Rejected and the rest of its page is kept.
- Lines are normalised: 3 and 3.0 are equal, and 2.50 is 2.5. Prices are unchanged.
"""

import re
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TypeVar

import msgspec

from app.core.enums import Market, MarketOutcome
from app.core.errors import ApiError, Blocked, Failure, Schema
from app.core.messages import RawPage
from app.core.records import OddsEvent, OddsPrice, Record, Rejected

T = TypeVar("T")
Pick = tuple[Market, MarketOutcome]

DECODE_ERRORS = (ValueError, OverflowError, RecursionError)
"""What decoding untrusted JSON can raise; msgspec's errors are ValueErrors."""

JSON_NULL = msgspec.Raw(b"null")

_BLANK = b"\xef\xbb\xbf \t\r\n"
_NOT_OFFERED = frozenset({b"", b"-", b"null"})
_PRICE = re.compile(r"-?[0-9]{1,9}(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,2})?")
_LINE = re.compile(r"[0-9]{1,3}(\.[0-9]{1,6})?")
_HIGHEST_PRICE = 1_000_000
_MAX_FAULTS = 5
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_YEARS = range(2000, 2100)
_MIN_LENGTH = len("2026-09-05T14:00")

_members = msgspec.json.Decoder(dict[str, msgspec.Raw])
_id = msgspec.json.Decoder(str | int)


class Prices:
    """The prices of one event, one per (market, line, outcome): the first of duplicates is kept.

    `faults`: what could not be read.
    """

    def __init__(self) -> None:
        self._kept: dict[tuple[Pick, Decimal | None], OddsPrice] = {}
        self.faults: list[str] = []

    def add(self, pick: Pick, line: Decimal | None, quote: bytes, active: bool = True) -> None:
        """Add the price in the JSON text `quote`, unless not offered; record a fault if invalid."""
        try:
            price = _price(pick, line, quote, active)
        except ValueError as error:
            self.add_fault(" ".join(pick), error)
            return
        kept = self._kept.get((pick, line))
        if price is not None and (kept is None or kept.price is None):
            self._kept[pick, line] = price

    def add_fault(self, where: str, what: Exception) -> None:
        """Record what could not be read; the event is kept."""
        self.faults.append(f"{where}: {what}")

    def as_tuple(self) -> tuple[OddsPrice, ...]:
        """Return all prices in the order of the site."""
        return tuple(self._kept.values())

    def reason(self) -> str:
        """Return the faults on one line; after the first few only their number."""
        listed = self.faults[:_MAX_FAULTS]
        more = len(self.faults) - len(listed)
        return "; ".join([*listed, f"and {more} more"] if more else listed)


def decode(raw: RawPage, shape: msgspec.json.Decoder[T]) -> T:
    """Return the response body decoded with `shape`.

    Raises Blocked for an HTML page or an empty 202, a retryable ApiError for any other empty body,
    and Schema if it is not JSON of that shape.
    """
    body = raw.body.lstrip(_BLANK)
    if not body:
        raise _empty_body(raw)
    if body.startswith(b"<"):
        raise Blocked.of(raw, "the response is an HTML page instead of JSON")
    return decode_part(raw, body, shape)


def decode_part(raw: RawPage, part: bytes | msgspec.Raw, shape: msgspec.json.Decoder[T]) -> T:
    """Return part of a response decoded with `shape`. Raises Schema if it does not match."""
    try:
        return shape.decode(part)
    except DECODE_ERRORS as error:
        raise Schema.of(raw, f"unexpected response format: {error}") from error


def _empty_body(raw: RawPage) -> Failure:
    if raw.status == 202:  # noqa: PLR2004 - how a bot firewall stalls clients
        return Blocked.of(raw, "202 with an empty body")
    return ApiError.of(raw, "an empty body", retry=True)


def records(
    events: Iterable[msgspec.Raw], id_field: str, read: Callable[[msgspec.Raw, Prices], OddsEvent]
) -> list[Record]:
    """Return the events read one by one with `read`; an unreadable event becomes Rejected.

    An event with price faults is returned as incomplete, followed by a Rejected with the faults.
    """
    out: list[Record] = []
    for raw in events:
        prices = Prices()
        try:
            event = read(raw, prices)
        except DECODE_ERRORS as error:
            out.append(Rejected(str(error), bytes(raw), record_id(raw, id_field)))
            continue
        out.append(replace(event, complete=False) if prices.faults else event)
        if prices.faults:
            out.append(Rejected(prices.reason(), bytes(raw), record_id(raw, id_field)))
    return out


def record_id(event: msgspec.Raw, field: str) -> str | None:
    """Return the id in `field` of an event that may be invalid otherwise, or None."""
    try:
        return clean_text(_id.decode(_members.decode(event)[field])) or None
    except (*DECODE_ERRORS, KeyError):
        return None


@lru_cache(maxsize=8192)
def parse_price(quote: bytes) -> Decimal | None:
    """Return decimal odds from their JSON text, a string or a number; None if not offered.

    Raises ValueError if it is not a number or out of range.
    """
    bare = quote.strip(b'" \t')
    if bare in _NOT_OFFERED:
        return None
    value = Decimal(_match(_PRICE, bare, "price"))
    if value >= _HIGHEST_PRICE:
        raise ValueError(f"price {_shown(bare)} is out of range")
    return value if value > 1 else None


# Most prices repeat from run to run; caching the immutable objects avoids building them again.
@lru_cache(maxsize=32_768)
def _price(pick: Pick, line: Decimal | None, quote: bytes, active: bool) -> OddsPrice | None:
    price = parse_price(quote)
    return None if price is None and active else OddsPrice(*pick, line, price, active)


@lru_cache(maxsize=1024)
def parse_line(quote: bytes) -> Decimal | None:
    """Return a goals line from its JSON text, normalised; None if there is none.

    Raises ValueError if it is not a number of at least 0.
    """
    bare = quote.strip(b'" \t')
    if bare in _NOT_OFFERED:
        return None
    return normalised(Decimal(_match(_LINE, bare, "line")))


def normalised(line: Decimal) -> Decimal:
    """Return a line without trailing zeros."""
    integral = line.to_integral_value()
    return integral if line == integral else line.normalize()


def _match(pattern: re.Pattern[str], bare: bytes, what: str) -> str:
    found = bare.decode("ascii", "replace")
    if not pattern.fullmatch(found):
        raise ValueError(f"{what} {_shown(bare)} is not a valid number")
    return found


def _shown(bare: bytes) -> str:
    return repr(bare[:40].decode("ascii", "backslashreplace"))


def clean_text(value: str | int | None) -> str:
    """Return a name or id with blanks collapsed and without NULs; an empty string for None."""
    return "" if value is None else " ".join(str(value).replace("\0", " ").split())


def required_text(value: str | int | None, what: str) -> str:
    """Return `value` as `clean_text` does. Raises ValueError if it is blank; `what` names it
    there."""
    found = clean_text(value)
    if not found:
        raise ValueError(f"no {what}")
    return found


def sportradar_id(value: str | int | None) -> str | None:
    """Return the digits of a Sportradar id, with or without `sr:match:`; None if it is not one."""
    digits = clean_text(value).removeprefix("sr:match:").lstrip("0")
    return digits if digits.isascii() and digits.isdigit() else None


def parse_kickoff(value: str) -> datetime:
    """Return an ISO 8601 kick-off time in UTC, the default zone. Raises ValueError if invalid."""
    if len(value) < _MIN_LENGTH:
        raise ValueError(f"kick-off {value!r} is not a date and time")
    read = datetime.fromisoformat(value)
    return _plausible(read.replace(tzinfo=UTC) if read.tzinfo is None else read.astimezone(UTC))


def kickoff_from_ms(milliseconds: int) -> datetime:
    """Return a kick-off time from Unix milliseconds. Raises ValueError or OverflowError."""
    return _plausible(_EPOCH + timedelta(milliseconds=milliseconds))


def _plausible(kickoff: datetime) -> datetime:
    if kickoff.year not in _YEARS:
        raise ValueError(f"implausible kick-off year {kickoff.year}")
    return kickoff
