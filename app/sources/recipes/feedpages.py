"""Feed pages: RSS, Atom and JSON Feed entries, queried with JMESPath."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from app.core.errors import Schema
from app.core.records import Rejected
from app.sources.feeds import interval as pace
from app.sources.feeds import reading as feeds
from app.sources.recipes.enums import FieldType
from app.sources.recipes.jsonpages import ListPlace, explode, is_true, search
from app.sources.recipes.model import FEED_COLUMNS, Recipe, RecipeColumn

_COLUMN_TYPES = {
    "published": FieldType.DATETIME,
    "updated": FieldType.DATETIME,
    "categories": FieldType.LIST,
    "enclosures": FieldType.JSON,
    "image": FieldType.JSON,
}


class FeedPage:
    """A parsed feed. `base` is its URL."""

    def __init__(self, recipe: Recipe, body: bytes, url: str, headers: Mapping[str, str]) -> None:
        self.base = url
        self._recipe = recipe
        self._feed = feeds.read(body, headers, url)
        self._entries = [_with_iso_dates(entry) for entry in self._feed.entries]
        fields = recipe.extract.fields or self.columns()
        self._paths = {name: field.path for name, field in fields.items()}

    @staticmethod
    def columns() -> dict[str, RecipeColumn]:
        """Return the columns of a recipe without `extract.fields`: all standard feed columns."""
        return {
            name: RecipeColumn(path=name, type=_COLUMN_TYPES.get(name, FieldType.STRING))
            for name in FEED_COLUMNS
        }

    def records(self) -> list[Any]:
        """Return the entries, or what `extract.records` finds in the list of entries.

        Raises Schema if it does not find a list.
        """
        expression = self._recipe.extract.records
        if expression is None:
            return self._entries
        found = search(expression, self._entries)
        if not isinstance(found, list):
            raise Schema("extract.records does not find a list of entries")
        return cast("list[Any]", found)

    def list_place(self) -> ListPlace:
        """Return that the list is there: a document without one is not a feed."""
        return ListPlace()

    def explode(self, record: Any) -> list[Any]:
        """Return one row for each member that `extract.explode` finds in `record`."""
        return explode(self._recipe.extract.explode or "", record)

    def value(self, row: Any, field: str) -> Any:
        """Return the value that the field's path finds in an entry."""
        return search(self._paths[field], row)

    def as_bytes(self, row: Any) -> bytes:
        """Return the entry as bytes, for storing it as a rejected row."""
        return msgspec.json.encode(row)

    def search(self, expression: str) -> Any:
        """Return what `expression` finds in the list of entries."""
        return search(expression, self._entries)

    def holds(self, expression: str) -> bool:
        """Return whether `expression` finds a value that JMESPath counts as true."""
        return is_true(self.search(expression))

    def rejected(self) -> tuple[Rejected, ...]:
        """Return the entries that could not be read."""
        return self._feed.rejected

    @property
    def malformed(self) -> str | None:
        """What is wrong with the feed as a whole, if it could still be read."""
        return self._feed.malformed

    @property
    def cut_off(self) -> bool:
        """Whether the document ends before the feed does."""
        return self._feed.cut_off

    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None:
        """Return the seconds from `now` after which the feed is worth requesting again."""
        return pace.poll_interval(self._feed, headers, now).total_seconds()


def _with_iso_dates(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in entry.items()
    }
