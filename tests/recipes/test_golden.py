"""The example recipes read their saved pages as they did when a person last looked."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Item, Rejected
from app.sources.recipes.load import load
from app.sources.recipes.source import RecipeSource

HERE = Path(__file__).parent
EXAMPLES = sorted((HERE.parents[1] / "sources.example").glob("*.toml"))
NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


def source_of(path: Path) -> RecipeSource:
    return RecipeSource(load(path.read_text("utf-8")))


def page_of(path: Path, url: str) -> RawPage:
    (saved,) = [p for p in (HERE / "pages").glob(f"{path.stem}.*") if ".expected" not in p.suffixes]
    return RawPage(saved.read_bytes(), 200, url, {}, NOON, Partition("all"))


def shown(record: object) -> dict[str, Any]:
    if isinstance(record, Item):
        return {"key": record.key, **record.data}
    assert isinstance(record, Rejected)
    return {"rejected": record.reason, "key": record.record_id}


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_reads_its_saved_page_as_it_did(path: Path) -> None:
    source = source_of(path)
    asking = source.pages(Partition("all"))
    first = next(asking)
    page = page_of(path, first.url)

    found = [shown(record) for record in source.parse(page)]

    expected = HERE / "pages" / f"{path.stem}.expected.json"
    assert found == json.loads(expected.read_text("utf-8"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_under_a_page(path: Path) -> None:
    assert len(path.read_text("utf-8").splitlines()) <= 45


def test_a_list_of_books_is_followed_to_its_next_page() -> None:
    (path,) = [example for example in EXAMPLES if example.stem == "books"]
    asking = source_of(path).pages(Partition("all"))
    first = next(asking)

    following: SourceRequest = asking.send(page_of(path, first.url))

    assert following.url == "https://books.toscrape.com/catalogue/page-2.html"
    assert following.robots
