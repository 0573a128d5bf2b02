"""Small pages, each read by a recipe of its own."""

from datetime import UTC, datetime
from typing import Any

from app.sources.recipes.model import Recipe
from app.sources.recipes.reading import PageReading, RecipeReader

NOW = datetime(2026, 11, 26, tzinfo=UTC)
AT = "https://site.test/a/list"


def recipe_of(kind: str, records: str | None, fields: dict[str, Any]) -> Recipe:
    """A recipe with these columns; the first is the key."""
    return Recipe.model_validate(
        {
            "name": "shop",
            "kind": kind,
            "url": AT,
            "extract": {"records": records, "fields": fields},
            "store": {"key": next(iter(fields))},
        }
    )


def read_json(body: bytes, **fields: Any) -> PageReading:
    """The reading of a JSON list."""
    return RecipeReader(recipe_of("json", None, fields)).read(body, url=AT, now=NOW)


def read_html(body: bytes | str, content_type: str = "text/html", **fields: Any) -> PageReading:
    """The reading of an HTML page, whose rows are `.row`."""
    raw = body.encode() if isinstance(body, str) else body
    reader = RecipeReader(recipe_of("html", ".row", fields))
    return reader.read(raw, url=AT, headers={"content-type": content_type}, now=NOW)


def text_of(markup: str) -> Any:
    """The text of one row with this markup."""
    reading = read_html(f'<div class="row">{markup}</div>', text="./self::*")
    return reading.rows[0].data["text"]
