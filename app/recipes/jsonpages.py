"""A page of JSON, asked by JMESPath."""

import re
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from typing import Any, cast

import jmespath
import msgspec
from jmespath.exceptions import JMESPathError

from app.errors import Schema
from app.recipes.model import Recipe
from app.records import Rejected

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*(?:\.[A-Za-z_][A-Za-z0-9_]*|\[-?[0-9]{1,6}\])*")
_STEP = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)|\[(-?[0-9]+)\]")
MEMBER = "item"  # what the exploded member of a record is called among the record's own keys


class JsonPage:
    """A JSON document that is open. `base` is its address."""

    def __init__(self, recipe: Recipe, body: bytes, url: str) -> None:
        self.base = url
        self._recipe = recipe
        self._document = decoded(body)
        self._paths = {name: f.path for name, f in recipe.extract.fields.items()}

    def records(self, first: bool) -> list[Any]:
        """The records, as `extract.records` says. Nothing there is a fault on the first page."""
        expression = self._recipe.extract.records
        value = self._document if expression is None else searched(expression, self._document)
        if value is None and not first:
            return []
        if isinstance(value, dict):
            return [value]
        if not isinstance(value, list):
            raise Schema(f"extract.records finds {_what(value)} where there should be a list")
        return cast("list[Any]", value)

    def exploded(self, record: Any) -> list[Any]:
        """A row for each member that `extract.explode` finds: the record, with the member in it."""
        return exploded(self._recipe.extract.explode or "", record)

    def found(self, row: Any, field: str) -> Any:
        """What stands in a row where the field says."""
        return searched(self._paths[field], row)

    def shown(self, row: Any) -> bytes:
        """The row as it is kept aside."""
        return msgspec.json.encode(row)

    def told(self, expression: str) -> Any:
        """What stands in the whole page."""
        return searched(expression, self._document)

    def refused(self) -> tuple[Rejected, ...]:
        """None but what its rows are."""
        return ()

    def interval(self, headers: Mapping[str, str], now: datetime) -> float | None:
        """Not known of an API."""
        del headers, now
        return None


def decoded(body: bytes) -> Any:
    """The document. Raises Schema if it is none."""
    try:
        return msgspec.json.decode(body.removeprefix(b"\xef\xbb\xbf"))
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Schema(f"this is no JSON: {error}") from None


def searched(expression: str, value: Any) -> Any:
    """What a JMESPath finds. Raises ValueError, which says why it cannot look."""
    keys = _keys(expression)
    if keys is not None:
        for key in keys:
            value = _member(value, key)
        return value
    try:
        return jmespath.search(expression, value)
    except JMESPathError as error:
        first = str(error).strip().splitlines()[0][:200]
        raise Unfound(f"{expression}: {first}") from None


def _member(value: Any, key: str | int) -> Any:
    if isinstance(key, str):
        return cast("dict[str, Any]", value).get(key) if isinstance(value, dict) else None
    members = cast("list[Any]", value) if isinstance(value, list) else []
    return members[key] if -len(members) <= key < len(members) else None


@lru_cache(maxsize=1_024)
def _keys(expression: str) -> tuple[str | int, ...] | None:
    """The steps of a path of nothing but keys and indices: most are, and need no interpreter."""
    if not _PLAIN.fullmatch(expression):
        return None
    steps = _STEP.findall(expression)
    return tuple(key or int(index) for key, index in steps)


def exploded(expression: str, record: Any) -> list[Any]:
    """A copy of the record for each member found, which is its `item`. Raises ValueError."""
    found = searched(expression, record)
    if found is None:
        return []
    members = cast("list[Any]", found) if isinstance(found, list) else [found]
    whole = cast("dict[str, Any]", record) if isinstance(record, dict) else {}
    return [{**whole, MEMBER: member} for member in members]


class Unfound(Schema, ValueError):
    """An expression does not go with what it looks at. In a field, that row alone is at fault."""


def _what(value: Any) -> str:
    return "nothing" if value is None else f"a {type(value).__name__}"
