"""Up to where a source has been read, as its requests say it. Pure."""

import math
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from app.recipes.model import Incremental
from app.records import Item

_MILLI = 1000


def since(incremental: Incremental, cursor: str | None) -> str | None:
    """What a request carries: what was read to, less the overlap, or where to start."""
    if cursor is None:
        return incremental.start
    instant = _instant(cursor)
    if instant is None or incremental.format == "plain":
        return cursor
    at = instant - incremental.overlap
    match incremental.format:
        case "date":
            return at.date().isoformat()
        case "unix":
            return str(int(at.timestamp()))
        case "unix_ms":
            return str(int(at.timestamp() * _MILLI))
        case _:
            return at.isoformat(timespec="seconds").replace("+00:00", "Z")


def furthest(incremental: Incremental, items: Iterable[Item], before: str | None) -> str | None:
    """The greatest value that the field has had; `before` is the one so far."""
    best = before
    for item in items:
        value = _text(item.data.get(incremental.field or ""))
        if value is not None and (best is None or order(value) > order(best)):
            best = value
    return best


def _text(value: Any) -> str | None:
    if value is None or isinstance(value, bool | list | dict):
        return None
    return str(value)


def order(value: str) -> tuple[int, float, str]:
    """Numbers by their value, then instants, then texts."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if math.isfinite(number):
        return 0, number, ""
    instant = _instant(value)
    return (1, instant.timestamp(), "") if instant else (2, 0.0, value)


def _instant(text: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
