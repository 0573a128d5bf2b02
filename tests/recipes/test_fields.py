"""What a page has becomes what a column holds, or the row is refused with the reason."""

from typing import Any

import pytest

from app.sources.recipes.fields import convert
from app.sources.recipes.model import RecipeColumn

BASE = "https://site.test/a/b.html"


def of(value: Any, kind: str, **more: Any) -> Any:
    return convert(value, RecipeColumn.model_validate({"path": "x", "type": kind} | more), BASE)


@pytest.mark.parametrize(
    ("kind", "value", "more", "expected"),
    [
        ("string", 5, {}, "5"),
        ("string", True, {}, "true"),
        ("string", "  ", {}, None),
        ("string", "a\0b\ud800", {}, "ab\ufffd"),
        ("integer", "1,234", {}, 1234),
        ("integer", 5.0, {}, 5),
        ("integer", "\u22123", {}, -3),
        ("number", "1 234.5", {}, 1234.5),
        ("decimal", 19.1, {}, "19.1"),
        ("decimal", "1.234,50", {"decimal": ","}, "1234.50"),
        ("decimal", "Price: 1,053.74 €", {"match": "[0-9.,]+"}, "1053.74"),
        ("decimal", "none", {"match": "[0-9.,]+"}, None),
        ("boolean", "Yes", {}, True),
        ("boolean", 0, {}, False),
        ("datetime", "2026-09-05T14:00:00+02:00", {}, "2026-09-05T12:00:00Z"),
        ("datetime", "2026-09-05 14:00", {"timezone": "Europe/Berlin"}, "2026-09-05T12:00:00Z"),
        ("datetime", "Sat, 05 Sep 2026 12:00:00 GMT", {}, "2026-09-05T12:00:00Z"),
        ("datetime", 1788609600, {}, "2026-09-05T12:00:00Z"),
        ("datetime", 1788609600000, {}, "2026-09-05T12:00:00Z"),
        ("datetime", "05/09/2026 12h", {"format": "%d/%m/%Y %Hh"}, "2026-09-05T12:00:00Z"),
        ("date", "2026-09-05", {}, "2026-09-05"),
        ("date", "2026-09-05T23:30:00-05:00", {}, "2026-09-05"),
        ("url", "../c", {}, "https://site.test/c"),
        ("list", ["a", 1], {}, ["a", 1]),
        ("list", "a", {}, ["a"]),
        ("json", {"a": [1.5, None]}, {}, {"a": [1.5, None]}),
    ],
)
def test_a_value_is_read(kind: str, value: Any, more: dict[str, Any], expected: Any) -> None:
    assert of(value, kind, **more) == expected


@pytest.mark.parametrize(
    ("kind", "value", "more"),
    [
        ("string", ["a"], {}),
        ("integer", "5.5", {}),
        ("integer", True, {}),
        ("number", "1e999", {}),
        ("number", float("nan"), {}),
        ("decimal", "51,77", {}),
        ("decimal", "1.2.3", {}),
        ("decimal", "1" * 200, {}),
        ("boolean", "maybe", {}),
        ("datetime", "yesterday", {}),
        ("datetime", 10**18, {}),
        ("datetime", True, {}),
        ("date", "31.13.2026", {}),
        ("url", "mailto:ada@site.test", {}),
        ("url", "http://[", {}),
    ],
)
def test_a_value_that_is_something_else_is_refused(
    kind: str, value: Any, more: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"is not|cannot"):
        of(value, kind, **more)
