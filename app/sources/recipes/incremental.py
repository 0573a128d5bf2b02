"""Incremental cursors: the value sent with a request, and the newest value read. Pure."""

from collections.abc import Iterable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from app.core.records import Item
from app.sources.dates import from_epoch
from app.sources.recipes.model import Incremental

_MILLISECONDS = 1000


def since_value(incremental: Incremental, cursor: str | None) -> str | None:
    """Return the value to send: the cursor minus the overlap, or `incremental.start` at first.

    A cursor that is not a timestamp is returned unchanged.
    """
    if cursor is None:
        return incremental.start
    instant = _instant(incremental, cursor)
    if instant is None or incremental.format == "plain":
        return cursor
    at = instant - incremental.overlap
    match incremental.format:
        case "date":
            return at.date().isoformat()
        case "unix":
            return str(int(at.timestamp()))
        case "unix_ms":
            return str(int(at.timestamp() * _MILLISECONDS))
        case _:
            return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def latest_cursor(
    incremental: Incremental, items: Iterable[Item], before: str | None, now: datetime
) -> str | None:
    """Return the greatest value of the cursor field in `items`, or `before` if that is greater.

    An instant after `now` does not count: the next run would request nothing that is before it.
    """
    best = before
    for item in items:
        value = _as_cursor(item.data.get(incremental.field or ""))
        instant = None if value is None else _instant(incremental, value)
        if value is None or (instant is not None and instant > now):
            continue
        if best is None or sort_key(value) > sort_key(best):
            best = value
    return best


def _as_cursor(value: Any) -> str | None:
    if value is None or isinstance(value, bool | list | dict):
        return None
    return str(value)


def sort_key(value: str) -> tuple[int, Decimal | float, str]:
    """Return a sort key: numbers by value, then timestamps, then other strings."""
    number = _as_number(value)
    if number is not None:
        return 0, number, ""
    instant = _parse_datetime(value)
    return (1, instant.timestamp(), "") if instant else (2, 0.0, value)


def _instant(incremental: Incremental, value: str) -> datetime | None:
    """Return the instant that a cursor is; None if it is none. A number is one in Unix time."""
    number = _as_number(value)
    if number is None:
        return _parse_datetime(value)
    if incremental.format not in ("unix", "unix_ms"):
        return None
    try:
        return from_epoch(number / _MILLISECONDS if incremental.format == "unix_ms" else number)
    except (ArithmeticError, ValueError):
        return None


def _as_number(text: str) -> Decimal | None:
    try:
        number = Decimal(text)
    except ArithmeticError:
        return None
    return number if number.is_finite() else None


def _parse_datetime(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
