"""Placeholder templates: `{name}` in a string is replaced by the value of that name."""

import re
from collections.abc import Mapping
from typing import Any, cast
from urllib.parse import quote

_NAME = re.compile(r"\{([a-z_][a-z0-9_]*)\}")


def placeholder_names(text: str) -> frozenset[str]:
    return frozenset(_NAME.findall(text))


def fill(text: str, values: Mapping[str, str]) -> str:
    """Return `text` with each `{name}` replaced; a name without a value is left unchanged."""
    return _NAME.sub(lambda match: values.get(match[1], match[0]), text)


def fill_url(text: str, values: Mapping[str, str]) -> str:
    """As `fill`, with percent-encoded values, so that none changes the structure of the URL."""
    return fill(text, {name: quote(value, safe="") for name, value in values.items()})


def fill_json(value: Any, values: Mapping[str, str]) -> Any:
    """As `fill`, for every string in a JSON value."""
    if isinstance(value, str):
        return fill(value, values)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: fill_json(member, values) for key, member in members.items()}
    if isinstance(value, list):
        return [fill_json(member, values) for member in cast("list[Any]", value)]
    return value


def strings_by_path(where: tuple[str | int, ...], value: Any) -> dict[tuple[str | int, ...], str]:
    """Return every string in a JSON value, keyed by its path; `where` is the path of `value`."""
    if isinstance(value, str):
        return {where: value}
    strings: dict[tuple[str | int, ...], str] = {}
    if isinstance(value, dict):
        for key, member in cast("dict[str, Any]", value).items():
            strings |= strings_by_path((*where, key), member)
    elif isinstance(value, list):
        for number, member in enumerate(cast("list[Any]", value)):
            strings |= strings_by_path((*where, number), member)
    return strings
