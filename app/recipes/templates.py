"""The one templating there is: `{name}` in a text is filled by the value of that name."""

import re
from collections.abc import Mapping
from typing import Any, TypeVar, cast
from urllib.parse import quote

_NAME = re.compile(r"\{([a-z_][a-z0-9_]*)\}")
Value = TypeVar("Value")


def names(text: str) -> frozenset[str]:
    """The names that stand in braces in `text`."""
    return frozenset(_NAME.findall(text))


def filled(text: str, values: Mapping[str, str]) -> str:
    """`text` with each `{name}` filled in; a name without a value stays as it is."""
    return _NAME.sub(lambda found: values.get(found[1], found[0]), text)


def filled_url(text: str, values: Mapping[str, str]) -> str:
    """As `filled`, with the values percent-encoded: they can leave neither their place nor host."""
    return filled(text, {name: quote(value, safe="") for name, value in values.items()})


def filled_in(value: Any, values: Mapping[str, str]) -> Any:
    """As `filled`, for every text in a JSON value."""
    if isinstance(value, str):
        return filled(value, values)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value)
        return {key: filled_in(member, values) for key, member in members.items()}
    if isinstance(value, list):
        return [filled_in(member, values) for member in cast("list[Any]", value)]
    return value


def texts(where: tuple[str | int, ...], value: Any) -> dict[tuple[str | int, ...], str]:
    """Every text in a JSON value, by where it stands."""
    if isinstance(value, str):
        return {where: value}
    told: dict[tuple[str | int, ...], str] = {}
    if isinstance(value, dict):
        for key, member in cast("dict[str, Any]", value).items():
            told |= texts((*where, key), member)
    elif isinstance(value, list):
        for number, member in enumerate(cast("list[Any]", value)):
            told |= texts((*where, number), member)
    return told
