"""Incremental cursors: the value sent with a request, and the newest value read. Pure."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from app.core.records import Item
from app.sources.recipes.model import Incremental

_MILLISECONDS = 1000


def since_value(incremental: Incremental, cursor: str | None) -> str | None:
    """Return the value to send: the cursor minus the overlap, or `incremental.start` at first.

    A cursor that is not a timestamp is returned unchanged.
    """
    if cursor is None:
        return incremental.start
    instant = _parse_datetime(cursor)
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
    incremental: Incremental, items: Iterable[Item], before: str | None
) -> str | None:
    """Return the greatest value of the cursor field in `items`, or `before` if that is greater."""
    best = before
    for item in items:
        value = _as_cursor(item.data.get(incremental.field or ""))
        if value is not None and (best is None or sort_key(value) > sort_key(best)):
            best = value
    return best


def _as_cursor(value: Any) -> str | None:
    if value is None or isinstance(value, bool | list | dict):
        return None
    return str(value)


def sort_key(value: str) -> tuple[int, float, str]:
    """Return a sort key: numbers by value, then timestamps, then other strings."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return 0, number, ""
    instant = _parse_datetime(value)
    return (1, instant.timestamp(), "") if instant else (2, 0.0, value)


def _parse_datetime(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
