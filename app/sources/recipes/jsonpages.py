"""JSON pages, queried with JMESPath. Numbers with a fraction are decimals, exactly as written."""

import json
import re
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

import msgspec
from jmespath.exceptions import JMESPathError

from app.core.errors import Schema
from app.sources import jsontext
from app.sources.feeds import encoding
from app.sources.recipes.exact_jmespath import evaluate
from app.sources.recipes.model import Recipe, RecipeColumn
from app.sources.recipes.parsed_page import ListPlace, ParsedPage
from app.sources.stated_errors import stated_error

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*|\[-?[0-9]{1,6}\])*")
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)|\[(-?[0-9]+)\]")
EXPLODED_KEY = "item"  # the key under which an exploded member is added to its record


class QueriedPage(ParsedPage):
    """A page whose document is queried with JMESPath. `columns`: those of its rows."""

    def __init__(
        self, recipe: Recipe, document: Any, url: str, columns: Mapping[str, RecipeColumn]
    ) -> None:
        self.base = url
        self._recipe = recipe
        self._document = document
        self._paths = {name: column.path for name, column in columns.items()}

    def explode(self, record: Any) -> list[Any]:
        return explode(self._recipe.extract.explode or "", record)

    def value(self, row: Any, field: str) -> Any:
        return search(self._paths[field], row)

    def as_bytes(self, row: Any) -> bytes:
        return encode(row)

    def search(self, expression: str) -> Any:
        return search(expression, self._document)

    def holds(self, expression: str) -> bool:
        return is_true(self.search(expression))

    def _found(self) -> Any:
        expression = self._recipe.extract.records
        return self._document if expression is None else self.search(expression)


class JsonPage(QueriedPage):
    """A JSON document; it is decoded or refused as a whole."""

    def __init__(self, recipe: Recipe, body: bytes, url: str, headers: Mapping[str, str]) -> None:
        super().__init__(recipe, decode(body, headers), url, recipe.extract.fields)

    def records(self) -> list[Any]:
        """Return the records that `extract.records` finds; none if it finds no list."""
        value = self._found()
        if isinstance(value, dict):
            return [value]
        return cast("list[Any]", value) if isinstance(value, list) else []

    def list_place(self) -> ListPlace:
        """Return whether a list, or an object in its place, was found."""
        value = self._found()
        if isinstance(value, dict | list):
            stated = (stated_error(holder, value) for holder in self._holders(value))
            return ListPlace(
                absent=next(filter(None, stated), None), single=isinstance(value, dict)
            )
        return ListPlace(absent=f"extract.records finds {_type_name(value)} instead of a list")

    def _holders(self, found: Any) -> Iterator[Any]:
        """Yield the objects that the list is in, from the document inwards, as far as known."""
        keys = _keys(self._recipe.extract.records or "@") or ()
        holder = self._document
        for key in keys or ("",):
            if holder is not found:
                yield holder
            holder = _member(holder, key)


_decoder = msgspec.json.Decoder(float_hook=jsontext.exact_number)
_encoder = msgspec.json.Encoder(decimal_format="number")


def decode(body: bytes, headers: Mapping[str, str]) -> Any:
    """Return the decoded document. Raises Schema if it is not valid JSON.

    A charset that the headers declare or a byte order mark is used; else it must be UTF-8. As in
    browsers, `NaN` is null. Lone surrogates and unescaped control characters stay in their strings.
    """
    try:
        return _decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError):
        pass
    try:
        return jsontext.parse(encoding.decode_json(body, headers))
    except (ValueError, Schema) as error:  # an integer may have too many digits
        raise Schema(f"the page is not valid JSON: {error}") from None


def encode(value: Any) -> bytes:
    """Return a decoded value as JSON; half a character, which no encoding has, as an escape."""
    try:
        return _encoder.encode(value)
    except UnicodeEncodeError:
        return json.dumps(value, default=str).encode()


def search(expression: str, value: Any) -> Any:
    """Return what a JMESPath finds. Raises ExpressionMismatch if it cannot be evaluated there."""
    keys = _keys(expression)
    if keys is not None:
        for key in keys:
            value = _member(value, key)
        return value
    try:
        return evaluate(expression, value)
    except JMESPathError as error:
        first = str(error).strip().splitlines()[0][:200]
        raise ExpressionMismatch(f"{expression}: {first}") from None


def is_true(value: Any) -> bool:
    """Return whether JMESPath counts a value as true: zero is, null and what is empty are not."""
    return value is not None and value is not False and value not in ("", [], {})


def _member(value: Any, key: str | int) -> Any:
    if isinstance(key, str):
        return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    members = cast("list[Any]", value) if isinstance(value, list) else []
    return members[key] if -len(members) <= key < len(members) else None


@lru_cache(maxsize=1_024)
def _keys(expression: str) -> tuple[str | int, ...] | None:
    """Return the steps of a path made of keys and indices only, else None.

    Most paths are this simple, and walking them is faster than running JMESPath.
    """
    if not _PLAIN.fullmatch(expression):
        return None
    steps = _STEP.findall(expression)
    return tuple(key or int(index) for key, index in steps)


def explode(expression: str, record: Any) -> list[Any]:
    """Return a copy of the record for each member found, with the member added as `item`.

    Raises ExpressionMismatch if the expression cannot be evaluated.
    """
    found = search(expression, record)
    if found is None:
        return []
    members = cast("list[Any]", found) if isinstance(found, list) else [found]
    whole = cast("dict[str, Any]", record) if isinstance(record, dict) else {}
    return [{**whole, EXPLODED_KEY: member} for member in members]


class ExpressionMismatch(Schema, ValueError):
    """An expression cannot be evaluated on the value it is applied to.

    In a field, only that row is rejected.
    """


def _type_name(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
