"""A feed, whose entries are asked by JMESPath."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, cast

import msgspec

from app.errors import Schema
from app.feeds import interval as pace
from app.feeds import reading as feeds
from app.recipes.jsonpages import exploded, searched
from app.recipes.model import FEED_COLUMNS, Extracted, Recipe
from app.recipes.words import FieldType
from app.records import Rejected

_TYPES = {
    "published": FieldType.DATETIME,
    "updated": FieldType.DATETIME,
    "categories": FieldType.LIST,
    "enclosures": FieldType.JSON,
    "image": FieldType.JSON,
}


class FeedPage:
    """A feed that is open. `base` is its address."""

    def __init__(self, recipe: Recipe, body: bytes, url: str, headers: Mapping[str, str]) -> None:
        self.base = url
        self._recipe = recipe
        self._feed = feeds.read(body, headers, url)
        self._entries = [_plain(entry) for entry in self._feed.entries]
        fields = recipe.extract.fields or self.columns()
        self._paths = {name: field.path for name, field in fields.items()}

    @staticmethod
    def columns() -> dict[str, Extracted]:
        """What a row has if the recipe does not say: all that feeds have."""
        return {
            name: Extracted(path=name, type=_TYPES.get(name, FieldType.STRING))
            for name in FEED_COLUMNS
        }

    def records(self, first: bool) -> list[Any]:
        """Its entries; those that `extract.records` finds in the list of them, if it says."""
        del first
        expression = self._recipe.extract.records
        if expression is None:
            return self._entries
        found = searched(expression, self._entries)
        if not isinstance(found, list):
            raise Schema("extract.records finds no list of entries")
        return cast("list[Any]", found)

    def exploded(self, record: Any) -> list[Any]:
        """As of JSON."""
        return exploded(self._recipe.extract.explode or "", record)

    def found(self, row: Any, field: str) -> Any:
        """What stands in an entry where the field says."""
        return searched(self._paths[field], row)

    def shown(self, row: Any) -> bytes:
        """The entry as it is kept aside."""
        return msgspec.json.encode(row)

    def told(self, expression: str) -> Any:
        """What stands among the entries."""
        return searched(expression, self._entries)

    def refused(self) -> tuple[Rejected, ...]:
        """Entries that could not be read."""
        return self._feed.rejected

    @property
    def malformed(self) -> str | None:
        """What is wrong with the feed as a whole, if it was read all the same."""
        return self._feed.malformed

    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None:
        """Seconds after which it is worth asking again."""
        return pace.interval(self._feed, headers, now).total_seconds()


def _plain(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value
        for name, value in entry.items()
    }
