"""Opaque pagination cursors: the sort key of a page's last row, in URL-safe base64."""

import base64
import json
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

from app.web.api import problems
from app.web.api.schemas.base import EARLIEST, LATEST

MAX_NUMBER = 2**63 - 1
Row = TypeVar("Row", bound=Mapping[str, Any])


def encode(*values: datetime | UUID | int | str) -> str:
    """Return the cursor of the rows that follow the row with these sort values."""
    encodable = [value if isinstance(value, int) else str(value) for value in values]
    return base64.urlsafe_b64encode(json.dumps(encodable).encode()).decode().rstrip("=")


def page_of(rows: list[Row], limit: int, *keys: str) -> tuple[list[Row], str | None]:
    """Return the first `limit` rows, and the cursor of the next page: None if these are all.

    `keys`: the columns that the rows are sorted by.
    """
    page = rows[:limit]
    return page, encode(*(page[-1][key] for key in keys)) if len(rows) > limit else None


def decode_instant_and_id(cursor: str | None) -> tuple[datetime, UUID] | None:
    """Return the instant and the id it holds. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    with _refusing_faults():
        at, run_id = _decode(cursor)
        return _instant(at), UUID(run_id)


def decode_instant_and_number(cursor: str | None) -> tuple[datetime, int] | None:
    """Return the instant and the number it holds. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    with _refusing_faults():
        at, number = _decode(cursor)
        return _instant(at), _number(number)


def decode_number(cursor: str | None) -> int | None:
    """Return the number that the cursor holds. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    with _refusing_faults():
        (value,) = _decode(cursor)
        return _number(value)


def decode_match(cursor: str | None) -> tuple[datetime, datetime, datetime, str] | None:
    """Return range, kick-off and key of a match. Raises Problem (422) if it is invalid."""
    if cursor is None:
        return None
    with _refusing_faults():
        since, until, kickoff, key = _decode(cursor)
        return _instant(since), _instant(until), _instant(kickoff), _text(key)


@contextmanager
def _refusing_faults() -> Generator[None]:
    try:
        yield
    except (ValueError, TypeError, AttributeError):
        raise problems.of_field("cursor", "is not the next_cursor of an earlier page") from None


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
