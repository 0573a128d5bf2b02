"""docs/sources.md is true: its recipes read the pages it shows, and it names every key."""

import re
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import pytest

from app.sources.recipes.enums import FieldType
from app.sources.recipes.load import load
from app.sources.recipes.model import FEED_COLUMNS, json_schema
from app.sources.recipes.reading import RecipeReader

PAGE = Path(__file__).parents[2] / "docs" / "sources.md"
TEXT = PAGE.read_text("utf-8")
BLOCKS: list[tuple[str, str]] = re.findall(r"```(\w+)\n(.*?)```", TEXT, re.DOTALL)
WORKED = [(page, recipe) for (_, page), (kind, recipe) in pairwise(BLOCKS) if kind == "toml"]
REFERENCE = TEXT.partition("## Reference")[2]


@pytest.mark.parametrize(("page", "text"), WORKED)
def test_each_worked_recipe_reads_the_page_before_it(page: str, text: str) -> None:
    recipe = load(text)

    found = RecipeReader(recipe).read(
        page.encode(), url="https://town.example/x", now=datetime(2026, 9, 5, tzinfo=UTC)
    )

    assert (len(found.rows), found.rejected) == (1, [])
    result = {name for name, value in found.rows[0].data.items() if value is not None}
    assert result >= (set(recipe.extract.fields) or {"id", "url", "title", "updated"})
    assert len(text.splitlines()) < 50


def test_there_are_a_json_api_a_feed_and_a_list_in_a_page() -> None:
    assert [load(text).kind.value for _, text in WORKED] == ["json", "feed", "html"]


def keys() -> list[tuple[str, str]]:
    """Every key of every block, as its JSON Schema has it."""
    schema = json_schema()
    blocks = {"Recipe": schema, **schema["$defs"]}
    return [
        (block, name)
        for block, result in blocks.items()
        for name in cast("dict[str, Any]", result.get("properties", {}))
    ]


@pytest.mark.parametrize(("block", "name"), keys())
def test_every_key_stands_in_the_reference(block: str, name: str) -> None:
    assert f"`{name}`" in REFERENCE, f"{block}.{name} is explained nowhere"


@pytest.mark.parametrize("word", [*FieldType, *FEED_COLUMNS])
def test_every_type_and_every_column_of_a_feed_is_named(word: str) -> None:
    assert f"`{word}`" in TEXT


def test_the_reference_names_no_key_that_is_none() -> None:
    known = {name for _, name in keys()}
    rows = [line for line in REFERENCE.splitlines() if re.match(r"\| `\w+` \| (?!keys)", line)]
    named = {line.split("`")[1] for line in rows}

    types = {"bearer", "header", "query", "basic", "oauth2"}
    paging = {"none", "page", "offset", "cursor", "next", "link_header"}
    assert named - known - types - paging == set()
