"""Where a page ended, as one word that means nothing to whoever carries it."""

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.api import problems
from app.api.shapes import EARLIEST, LATEST

MOST_NUMBER = 2**63 - 1


def after(*values: datetime | UUID | int) -> str:
    """The word for what comes after the row with these values."""
    told = [value if isinstance(value, int) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(told).encode()).decode().rstrip("=")


def instant_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """What `after` was told. Raises Problem for a word that is not one of ours."""
    if cursor is None:
        return None
    try:
        at, run_id = _read(cursor)
        return _instant(at), UUID(run_id)
    except (ValueError, TypeError, AttributeError):
        raise _no_cursor() from None


def instant_and_number(cursor: str | None) -> tuple[datetime, int] | None:
    """As above, with a number."""
    if cursor is None:
        return None
    try:
        at, number = _read(cursor)
        return _instant(at), _number(number)
    except (ValueError, TypeError):
        raise _no_cursor() from None


def number(cursor: str | None) -> int | None:
    """As above, a number alone."""
    if cursor is None:
        return None
    try:
        (value,) = _read(cursor)
        return _number(value)
    except (ValueError, TypeError):
        raise _no_cursor() from None


def _read(cursor: str) -> Sequence[Any]:
    padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
    return json.loads(base64.b64decode(padded, b"-_", validate=True))


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or not EARLIEST <= at <= LATEST:
        raise ValueError(text)
    return at


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MOST_NUMBER:
        raise ValueError(value)
    return value


def _no_cursor() -> problems.Problem:
    return problems.of_field("cursor", "is not the next_cursor of an earlier page")
