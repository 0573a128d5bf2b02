"""Inference from sample rows: column types, column names, and the columns of a key. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import permutations
from typing import Any

from app.sources.recipes.enums import FieldType

_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
_DECIMAL = re.compile(r"-?\d{1,15}\.\d{1,10}")
_MIN_SHARE = 0.7  # of the rows that must have a key column
_TIMES = re.compile(r"(^|_)(time|timestamp|date|at|on|updated|created|published|modified)$")
_AMOUNTS = re.compile(
    r"(^|_)(price|amount|cost|fee|tax|total|subtotal|balance|rate|ratio|value|odds?|discount|volume"
    r"|weight|height|width|length|temperature|percent|percentage|average|lat|lon|lng)(_|$)"
)
_NUMERIC = {FieldType.INTEGER, FieldType.NUMBER, FieldType.DECIMAL}
_LONGEST_NUMBER = 17  # significant digits that a double keeps
_SECONDS, _MILLIS = (10**9, 2 * 10**9), (10**12, 2 * 10**12)  # from 2001 to 2033
_ADDRESSES = ("url", "link", "href", "image", "uri")
_KEYS = ("id", "uuid", "guid", "key", "code", "slug", "sku", "url", "link", "href")


def infer_type(values: Iterable[Any], name: str = "") -> FieldType:  # noqa: PLR0911 - one for each rule
    """Return the narrowest type that all values have; STRING if there are none.

    `name`: of the column; one that is named like a URL may hold relative URLs, and one that is
    named like a time may hold Unix timestamps.
    """
    given = [value for value in values if value not in (None, "")]
    if given and name.endswith(_ADDRESSES) and all(_is_address(value) for value in given):
        return FieldType.URL
    if given and _TIMES.search(name) and all(_is_epoch(value) for value in given):
        return FieldType.DATETIME
    kinds = {_kind(value) for value in given}
    if kinds == {FieldType.INTEGER} and _AMOUNTS.search(name):
        return FieldType.NUMBER  # whole on this page; the next may have a fraction
    if FieldType.DECIMAL in kinds and kinds <= _NUMERIC and not any(map(_is_text, given)):
        return FieldType.DECIMAL
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {FieldType.INTEGER, FieldType.NUMBER}:
        return FieldType.NUMBER
    if kinds & {FieldType.JSON, FieldType.LIST}:
        return FieldType.JSON
    return FieldType.STRING


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_epoch(value: Any) -> bool:
    number = isinstance(value, int | float | Decimal) and not isinstance(value, bool)
    return number and any(low < value < high for low, high in (_SECONDS, _MILLIS))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://", "/"))


def _kind(value: Any) -> FieldType:  # noqa: PLR0911 - one for each type
    match value:
        case bool():
            return FieldType.BOOLEAN
        case int():
            return FieldType.INTEGER
        case float():
            return FieldType.NUMBER
        case Decimal():
            is_long = len(value.as_tuple().digits) > _LONGEST_NUMBER
            return FieldType.DECIMAL if is_long else FieldType.NUMBER
        case str():
            return _kind_of_text(value)
        case list():
            return FieldType.LIST
        case _:
            return FieldType.JSON


def _kind_of_text(text: str) -> FieldType:
    if _URL.fullmatch(text):
        return FieldType.URL
    if _DATE.fullmatch(text):
        return FieldType.DATE
    if _INSTANT.fullmatch(text):
        return FieldType.DATETIME if _zoned(text) else FieldType.STRING
    return FieldType.DECIMAL if _DECIMAL.fullmatch(text) else FieldType.STRING


def _zoned(text: str) -> bool:
    try:
        return datetime.fromisoformat(text).tzinfo is not None
    except ValueError:
        return False


def infer_key(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return columns that are unique over the rows: one, else two, else the first ten."""
    names = sorted(rows[0] if rows else (), key=_rank)
    likely = (name for name in names if _rank(name) < _rank(""))
    named = next((name for name in likely if _mostly_unique(rows, name)), None)
    if named is not None:
        return [named]
    scalar = [name for name in names if all(isinstance(row.get(name), str | int) for row in rows)]
    candidates = (
        [*dict.fromkeys(pair)]
        for pair in [*zip(scalar, scalar, strict=True), *permutations(scalar, 2)]
    )
    return next((pair for pair in candidates if _unique(rows, pair)), (scalar or names)[:10])


def _mostly_unique(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether most rows have the column and its values differ; rows without it get rejected."""
    given = [str(row[name]) for row in rows if isinstance(row.get(name), str | int)]
    return len(given) >= len(rows) * _MIN_SHARE and all(given) and len(set(given)) == len(given)


def _rank(name: str) -> tuple[int, int]:
    """Sort key: columns that are named like keys come first."""
    if name in _KEYS:
        return 0, _KEYS.index(name)
    return (1, 0) if name.endswith(("_id", "_uuid", "_key")) else (2, 0)


def _unique(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    keys = {tuple(str(row[name]) for name in names) for row in rows}
    return len(keys) == len(rows) and all(all(key) for key in keys)


def column_name(text: str, taken: Iterable[str] = ()) -> str:
    """Return a column name made from `text` that differs from those in `taken`."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:50] or "field"
    name = name if name[0].isalpha() else f"f_{name}"
    used, number, candidate = set(taken), 2, name
    while candidate in used:
        candidate, number = f"{name}_{number}", number + 1
    return candidate
