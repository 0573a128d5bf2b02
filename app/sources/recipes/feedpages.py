"""Feed pages: RSS, Atom and JSON Feed entries, queried with JMESPath."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

from app.core.errors import Schema
from app.core.records import Rejected
from app.sources.feeds import interval as pace
from app.sources.feeds import reading as feeds
from app.sources.recipes.enums import FieldType
from app.sources.recipes.jsonpages import QueriedPage
from app.sources.recipes.model import FEED_COLUMNS, Recipe, RecipeColumn
from app.sources.recipes.parsed_page import ListPlace

_COLUMN_TYPES = {
    "published": FieldType.DATETIME,
    "updated": FieldType.DATETIME,
    "categories": FieldType.LIST,
    "enclosures": FieldType.JSON,
    "image": FieldType.JSON,
}


class FeedPage(QueriedPage):
    """A parsed feed; its document is the list of its entries."""

    def __init__(self, recipe: Recipe, body: bytes, url: str, headers: Mapping[str, str]) -> None:
        self._feed = feeds.read(body, headers, url)
        self.malformed, self.cut_off = self._feed.malformed, self._feed.cut_off
        entries = [_with_iso_dates(entry) for entry in self._feed.entries]
        super().__init__(recipe, entries, url, recipe.extract.fields or self.columns())

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
        found = self._found()
        if not isinstance(found, list):
            raise Schema("extract.records does not find a list of entries")
        return cast("list[Any]", found)

    def list_place(self) -> ListPlace:
        """Return that the list is there: a document without one is not a feed."""
        return ListPlace()

    def rejected(self) -> tuple[Rejected, ...]:
        return self._feed.rejected

    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None:
        return pace.poll_interval(self._feed, headers, now).total_seconds()


def _with_iso_dates(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in entry.items()
    }
