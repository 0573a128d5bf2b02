"""Whatever somebody writes, and whatever a site says, there is a named fault and no traceback."""

import string
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from app.core.errors import BadRecipe, Failure
from app.core.messages import Partition, RawPage
from app.core.records import Item, Rejected
from app.sources.recipes.load import RecipeFault, load, load_values
from app.sources.recipes.model import Recipe
from app.sources.recipes.source import RecipeSource, handle_sandbox_request

EXAMPLES = {
    path.stem: path.read_text("utf-8")
    for path in sorted((Path(__file__).parents[2] / "sources.example").glob("*.toml"))
}
MORE = ("type", "path", "fields", "max_pages", "key", "each", "json")
KEYS = [*sorted(Recipe.model_fields), *MORE]
NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)
CALM = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=150)

texts = st.sampled_from(
    ["id", "json", "page", "env:X", "15m", "{a}", "https://a.test", "", "\0", "["]
)
scalars = st.one_of(
    texts, st.text(max_size=8), st.integers(), st.floats(), st.booleans(), st.dates()
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(st.sampled_from(KEYS), st.text(max_size=5)), inner, max_size=4),
    ),
    max_leaves=8,
)
expressions = st.text(
    st.sampled_from(string.ascii_lowercase[:4] + ".[]()*@&|?!'\"`:/#>, \\{}0"), max_size=25
)


def judged(text: str) -> Recipe | None:
    """The recipe, or None if its faults are as faults should be."""
    try:
        return load(text)
    except BadRecipe as bad:
        lines = text.count("\n") + len(text.splitlines()) + 1
        return _none_of(bad.faults, lines)


def _none_of(faults: Sequence[object], lines: int = 1) -> None:
    assert faults
    for fault in faults:
        assert isinstance(fault, RecipeFault)
        assert 1 <= fault.line <= lines
        assert fault.problem


@given(st.text(max_size=200))
@CALM
def test_any_text_is_a_recipe_or_has_faults(text: str) -> None:
    judged(text)


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
@CALM
def test_a_recipe_with_some_of_it_changed_is_a_recipe_or_has_faults(name: str, data: Any) -> None:
    text = EXAMPLES[name]
    for _ in range(data.draw(st.integers(1, 4))):
        start = data.draw(st.integers(0, len(text)))
        end = min(len(text), start + data.draw(st.integers(0, 12)))
        text = text[:start] + data.draw(st.text(max_size=6)) + text[end:]

    judged(text)


@given(st.dictionaries(st.sampled_from(KEYS), values, max_size=8))
@CALM
def test_any_values_are_a_recipe_or_have_faults(values: dict[str, Any]) -> None:
    try:
        load_values(values)
    except BadRecipe as bad:
        _none_of(bad.faults)


ROWS = b'{"features": [{"id": 1, "a": [1, {"b": null}], "c": "x"}, 5, null, [], {"id": {"a": 1}}]}'
PAGES = {
    "json": ROWS,
    "html": b"<ul><li id=1><a href=b>c</a></li><li><b>d</b></li></ul>",
}


@pytest.mark.parametrize("kind", ["json", "html"])
@given(st.data())
@CALM
def test_any_expression_is_a_fault_or_reads_a_page(kind: str, data: Any) -> None:
    records, path, match = (data.draw(expressions) for _ in range(3))
    result = {
        "name": "x",
        "kind": kind,
        "url": "https://site.test",
        "extract": {"records": records, "fields": {"id": {"path": path, "match": match or None}}},
        "store": {"key": "id"},
    }
    try:
        recipe = load_values(result)
    except BadRecipe:
        return
    reads(recipe, PAGES[kind])


@given(st.sampled_from(sorted(EXAMPLES)), st.data())
@CALM
def test_any_page_is_rows_or_a_named_failure(name: str, data: Any) -> None:
    saved = next((Path(__file__).parent / "pages").glob(f"{name}.[jxh][!e]*")).read_bytes()
    body = bytearray(saved)
    for _ in range(data.draw(st.integers(0, 8))):
        start = data.draw(st.integers(0, len(body)))
        body[start : start + data.draw(st.integers(0, 20))] = data.draw(st.binary(max_size=8))

    reads(load(EXAMPLES[name]), bytes(body))


def reads(recipe: Recipe, body: bytes) -> None:
    source = RecipeSource(recipe)
    page = RawPage(body, 200, recipe.url, {"content-type": "text/html"}, NOON, Partition("all"))
    try:
        records = list(source.parse(page))
    except Failure:
        return
    apart = source.with_sandbox_result(
        page, handle_sandbox_request(source.sandbox_request(page), {})
    )
    assert list(source.parse(apart)) == records
    keys = [record.key for record in records if isinstance(record, Item)]
    assert all(keys)
    assert len(set(keys)) == len(keys)
    assert all(record.reason for record in records if isinstance(record, Rejected))
