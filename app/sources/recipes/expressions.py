"""Validation of the expressions in a recipe: JMESPath and regular expressions; for CSS and XPath
see `selectors`.

Expressions are untrusted input. Their length and depth are limited when a recipe is loaded, and
they are evaluated in a separate process (`sandbox`), because none of these languages limits what an
expression costs.
"""

import re
import warnings
from collections.abc import Iterator
from difflib import get_close_matches
from typing import Annotated, Any, cast

import jmespath
from jmespath.exceptions import JMESPathError
from pydantic import Field

from app.sources.recipes.exact_jmespath import ExactFunctions

MAX_LENGTH = 500  # characters
MAX_DEPTH = 20  # levels of nested brackets

ExpressionText = Annotated[str, Field(min_length=1, max_length=MAX_LENGTH)]

_OPENING, _CLOSING = "([{", ")]}"


def check_jmespath(text: str) -> None:
    """Check a JMESPath expression. Raises ValueError with the reason."""
    check_depth(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # deprecated literals are errors
            parsed = cast("dict[str, Any]", jmespath.compile(text).parsed)
    except PendingDeprecationWarning:
        raise ValueError(
            "has a literal that is not valid JSON; write strings as 'like this'"
        ) from None
    except (JMESPathError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(
            f"is not valid JMESPath: {first_line(error)}; put special keys in double quotes"
        ) from None
    except RecursionError:
        raise ValueError("is nested too deeply; simplify it") from None
    for name, count in _calls(parsed):
        _check_call(name, count)


def _calls(node: dict[str, Any]) -> Iterator[tuple[str, int]]:
    """Yield the name of each function that an expression calls, and how many arguments it gets."""
    members = cast("list[Any]", node.get("children", ()))
    children = [cast("dict[str, Any]", member) for member in members if isinstance(member, dict)]
    if node.get("type") == "function_expression":
        yield str(node["value"]), len(children)
    for child in children:
        yield from _calls(child)


def _check_call(name: str, count: int) -> None:
    known = cast("dict[str, Any]", ExactFunctions.FUNCTION_TABLE)
    if name not in known:
        near = get_close_matches(name, known, 1)
        fix = f"did you mean {near[0]}()?" if near else f"known: {', '.join(sorted(known))}"
        raise ValueError(f"calls the unknown function {name}(); {fix}")
    parameters = known[name]["signature"]
    is_variadic = bool(parameters) and bool(parameters[-1].get("variadic"))
    if count != len(parameters) and not (is_variadic and count > len(parameters)):
        least = "at least " if is_variadic else ""
        raise ValueError(
            f"calls {name}() with {count} arguments; it takes {least}{len(parameters)}"
        )


def check_regex(text: str) -> None:
    """Check a regular expression. Raises ValueError with the reason."""
    check_depth(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # patterns whose meaning will change are errors
            re.compile(text)
    except (Warning, re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"is not a valid regular expression: {first_line(error)}; escape special characters"
        ) from None


def first_line(error: Exception) -> str:
    """Return the first line of a message, printable, at most 120 characters."""
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else " " for c in lines[0])[:120]


def check_depth(text: str) -> None:
    """Raise ValueError if brackets are nested more than MAX_DEPTH deep."""
    depth = deepest = 0
    for character in text:
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        deepest = max(deepest, depth)
    if deepest > MAX_DEPTH:
        raise ValueError(f"is nested more than {MAX_DEPTH} deep; simplify it")
