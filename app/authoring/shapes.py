"""What sample values are: the type of a column, and which columns tell rows apart. Pure."""

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from itertools import permutations
from typing import Any

from app.recipes.words import FieldType

_URL = re.compile(r"https?://\S+", re.IGNORECASE)
_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_INSTANT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d.*")
_DECIMAL = re.compile(r"-?\d{1,15}\.\d{1,10}")
_MOST = 0.7
_TIMES = re.compile(r"(^|_)(time|timestamp|date|at|on|updated|created|published|modified)$")
_SECONDS, _MILLIS = (10**9, 2 * 10**9), (10**12, 2 * 10**12)  # from 2001 to 2033
_ADDRESSES = ("url", "link", "href", "image", "uri")
_KEYS = ("id", "uuid", "guid", "key", "code", "slug", "sku", "url", "link", "href")


def type_of(values: Iterable[Any], name: str = "") -> FieldType:
    """The narrowest type that all of these values are; of none at all, text.

    `name`: of the column; one that is called like an address may hold parts of addresses.
    """
    given = [value for value in values if value not in (None, "")]
    if given and name.endswith(_ADDRESSES) and all(_is_address(value) for value in given):
        return FieldType.URL
    if given and _TIMES.search(name) and all(_is_epoch(value) for value in given):
        return FieldType.DATETIME
    kinds = {_kind(value) for value in given}
    if len(kinds) == 1:
        return kinds.pop()
    if kinds == {FieldType.INTEGER, FieldType.NUMBER}:
        return FieldType.NUMBER
    if kinds & {FieldType.JSON, FieldType.LIST}:
        return FieldType.JSON
    return FieldType.STRING


def _is_epoch(value: Any) -> bool:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and any(low < value < high for low, high in (_SECONDS, _MILLIS))


def _is_address(value: Any) -> bool:
    return isinstance(value, str) and value.startswith(("http://", "https://", "/"))


def _kind(value: Any) -> FieldType:
    match value:
        case bool():
            return FieldType.BOOLEAN
        case int():
            return FieldType.INTEGER
        case float():
            return FieldType.NUMBER
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


def key_of(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """The columns that tell the rows apart: one if that does, else two, else all there are."""
    names = sorted(rows[0] if rows else (), key=_rank)
    named = next((name for name in names if _is_called_key(name) and _tells(rows, name)), None)
    if named is not None:
        return [named]
    plain = [name for name in names if all(isinstance(row.get(name), str | int) for row in rows)]
    pairs = (
        [*dict.fromkeys(pair)]
        for pair in [*zip(plain, plain, strict=True), *permutations(plain, 2)]
    )
    return next((pair for pair in pairs if _unique(rows, pair)), (plain or names)[:10])


def _is_called_key(name: str) -> bool:
    return _rank(name) < _rank("")


def _tells(rows: Sequence[Mapping[str, Any]], name: str) -> bool:
    """Whether most rows have it, each another. A row or two that lack it are refused later."""
    given = [str(row[name]) for row in rows if isinstance(row.get(name), str | int)]
    return len(given) >= len(rows) * _MOST and all(given) and len(set(given)) == len(given)


def _rank(name: str) -> tuple[int, int]:
    """Columns that are called like keys go first."""
    if name in _KEYS:
        return 0, _KEYS.index(name)
    return (1, 0) if name.endswith(("_id", "_uuid", "_key")) else (2, 0)


def _unique(rows: Sequence[Mapping[str, Any]], names: Sequence[str]) -> bool:
    keys = {tuple(str(row[name]) for name in names) for row in rows}
    return len(keys) == len(rows) and all(all(key) for key in keys)


def column(text: str, taken: Iterable[str] = ()) -> str:
    """A column's name made of any text, unlike those that are taken."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text)
    name = re.sub(r"[^a-z0-9]+", "_", words.lower()).strip("_")[:50] or "field"
    name = name if name[0].isalpha() else f"f_{name}"
    known, number, made = set(taken), 2, name
    while made in known:
        made, number = f"{name}_{number}", number + 1
    return made
