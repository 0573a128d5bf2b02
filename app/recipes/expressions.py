"""The expressions of a recipe: JMESPath, CSS, XPath, regular expressions. Checked, never run here.

Anybody may write them. They are bounded in length and depth when a recipe is read, and evaluated in
a process of their own (`sandbox`), for none of these languages bounds what an expression costs.
"""

import re
import warnings
from typing import Annotated

import cssselect
import jmespath
from jmespath.exceptions import JMESPathError
from parsel.csstranslator import HTMLTranslator
from pydantic import Field

from app.recipes.markup import etree

LONGEST = 500  # characters
DEEPEST = 20  # brackets within brackets

Text = Annotated[str, Field(min_length=1, max_length=LONGEST)]

_OPENING, _CLOSING = "([{", ")]}"
_XPATH = ("/", "./", "../", "(", "@")


def is_xpath(text: str) -> bool:
    """Whether an expression of an HTML recipe is XPath: it begins with `/`, `./`, `(` or `@`."""
    return text.startswith(_XPATH)


def as_xpath(text: str) -> str:
    """An expression of an HTML recipe as XPath. Raises ValueError if it is no CSS."""
    if is_xpath(text):
        return text
    try:
        return HTMLTranslator().css_to_xpath(text)
    except (cssselect.SelectorError, ValueError, RecursionError) as error:
        raise ValueError(f"is no CSS selector: {_first(error)}; see how CSS is written") from None


def check_jmespath(text: str) -> None:
    """Raises ValueError, which says what is wrong."""
    _shallow(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # a literal of old, which is neither JSON nor text
            jmespath.compile(text)
    except PendingDeprecationWarning:
        raise ValueError("has a literal that is no JSON; write texts as 'like this'") from None
    except (JMESPathError, ValueError, TypeError, IndexError, AttributeError) as error:
        raise ValueError(f"is no JMESPath: {_first(error)}; quote odd keys like this") from None
    except RecursionError:
        raise ValueError("is nested too deeply; write it in fewer steps") from None


def check_selector(text: str) -> None:
    """Raises ValueError, which says what is wrong."""
    _shallow(text)
    xpath = as_xpath(text)
    try:
        etree.XPath(xpath, namespaces=NAMESPACES)
    except (etree.XPathError, ValueError) as error:
        raise ValueError(f"is no XPath: {_first(error)}; see how XPath is written") from None


def check_regex(text: str) -> None:
    """Raises ValueError, which says what is wrong."""
    _shallow(text)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # what will mean something else one day
            re.compile(text)
    except (Warning, re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"is no regular expression: {_first(error)}; escape what is meant"
        ) from None


NAMESPACES = {"re": "http://exslt.org/regular-expressions"}


def _first(error: Exception) -> str:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return "".join(c if c.isprintable() else " " for c in lines[0])[:120]


def _shallow(text: str) -> None:
    depth = deepest = 0
    for character in text:
        if character in _OPENING:
            depth += 1
        elif character in _CLOSING:
            depth -= 1
        deepest = max(deepest, depth)
    if deepest > DEEPEST:
        raise ValueError(f"is nested more than {DEEPEST} deep; write it in fewer steps")
