"""What the pages of every format have in common: records, and the values in them."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Protocol

import msgspec

from app.core.records import Rejected


class ListPlace(msgspec.Struct, frozen=True):
    """Where the list of a page is.

    `absent`: why it was not found, if it was not. `single`: one object stands in its place.
    `container`: the path of the element that holds the rows of an HTML page; `blocks`: the paths of
    all elements of one without rows.
    """

    absent: str | None = None
    single: bool = False
    container: str | None = None
    blocks: list[str] = []


class ParsedPage(Protocol):
    """A parsed page of one format.

    `base`: the URL that relative URLs are resolved against. `malformed`: what is wrong with the
    page as a whole, if it could still be read. `cut_off`: it ends before its list does.
    """

    base: str
    malformed: str | None = None
    cut_off: bool = False

    def records(self) -> list[Any]:
        """Return the records that `extract.records` finds."""
        ...

    def list_place(self) -> ListPlace:
        """Return where the list is, or that it was not found."""
        ...

    def explode(self, record: Any) -> list[Any]:
        """Return one row for each member that `extract.explode` finds in a record."""
        ...

    def value(self, row: Any, field: str) -> Any:
        """Return the value that the field's path finds in a row."""
        ...

    def as_bytes(self, row: Any) -> bytes:
        """Return the row as bytes, for storing it as a rejected row."""
        ...

    def search(self, expression: str) -> Any:
        """Return what `expression` finds in the whole page."""
        ...

    def holds(self, expression: str) -> bool:
        """Return whether `expression` finds anything, or what counts as true."""
        ...

    def rejected(self) -> Sequence[Rejected]:
        """Return the records that could not be read."""
        return ()

    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None:
        """Return the seconds from `now` after which a feed is worth requesting again."""
        del headers, now
        return None
