"""Opaque pagination cursors: the sort key of a page's last row, in URL-safe base64."""

import base64
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeVar
from uuid import UUID

import msgspec

from app.web.api import problems
from app.web.api.schemas.base import EARLIEST, LATEST

Number = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
Instant = Annotated[datetime, msgspec.Meta(tz=True)]
Text = Annotated[str, msgspec.Meta(pattern="^[^\0]*$")]

Row = TypeVar("Row", bound=Mapping[str, Any])


def encode(*values: datetime | UUID | int | str) -> str:
    """Return the cursor of the rows that follow the row with these sort values."""
    return base64.urlsafe_b64encode(msgspec.json.encode(values)).decode().rstrip("=")


def page_of(rows: list[Row], limit: int, *keys: str) -> tuple[list[Row], str | None]:
    """Return the first `limit` rows, and the cursor of the next page: None if these are all.

    `keys`: the columns that the rows are sorted by.
    """
    page = rows[:limit]
    return page, encode(*(page[-1][key] for key in keys)) if len(rows) > limit else None


def decode(cursor: str | None, *kinds: Any) -> Any:
    """Return the values of a cursor as a tuple of these types; None if there is no cursor.

    Raises Problem (422) if it is invalid.
    """
    if cursor is None:
        return None
    try:
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, b"-_", validate=True)
        values = msgspec.json.decode(text, type=tuple[kinds])
        if all(EARLIEST <= at <= LATEST for at in values if isinstance(at, datetime)):
            return values
    except (ValueError, msgspec.MsgspecError):
        pass
    raise problems.of_field("cursor", "is not the next_cursor of an earlier page")


def decode_number(cursor: str | None) -> int | None:
    """Return the only value of a cursor, a number; None if there is none. Raises Problem (422)."""
    place = decode(cursor, Number)
    return None if place is None else place[0]
