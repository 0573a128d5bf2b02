"""Opaque pagination cursors: the sort key of a page's last row, in URL-safe base64."""

import base64
import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from app.web.api import problems
from app.web.api.schemas.base import EARLIEST, LATEST

MAX_NUMBER = 2**63 - 1


def encode(*values: datetime | UUID | int | str) -> str:
    """Return the cursor of the rows that follow the row with these sort values."""
    encodable = [value if isinstance(value, int) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(encodable).encode()).decode().rstrip("=")


def decode_instant_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Return the instant and the id it holds. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    try:
        at, run_id = _decode(cursor)
        return _instant(at), UUID(run_id)
    except (ValueError, TypeError, AttributeError):
        raise _invalid_cursor() from None


def decode_instant_and_number(cursor: str | None) -> tuple[datetime, int] | None:
    """Return the instant and the number it holds. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    try:
        at, number = _decode(cursor)
        return _instant(at), _number(number)
    except (ValueError, TypeError):
        raise _invalid_cursor() from None


def decode_number(cursor: str | None) -> int | None:
    """Return the number that the cursor holds. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    try:
        (value,) = _decode(cursor)
        return _number(value)
    except (ValueError, TypeError):
        raise _invalid_cursor() from None


def decode_match(cursor: str | None) -> tuple[datetime, datetime, datetime, str] | None:
    """Return range, kick-off and key of a match. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    try:
        since, until, kickoff, key = _decode(cursor)
        return _instant(since), _instant(until), _instant(kickoff), _text(key)
    except (ValueError, TypeError):
        raise _invalid_cursor() from None


def _decode(cursor: str) -> Sequence[Any]:
    padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
    return json.loads(base64.b64decode(padded, b"-_", validate=True))


def _instant(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None or not EARLIEST <= at <= LATEST:
        raise ValueError(text)
    return at


def _text(value: object) -> str:
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError(value)
    return value


def _number(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= MAX_NUMBER:
        raise ValueError(value)
    return value


def _invalid_cursor() -> problems.Problem:
    return problems.of_field("cursor", "is not the next_cursor of an earlier page")
