"""Validation and translation of the selectors of HTML recipes: CSS and XPath.

Imported by what reads or checks an HTML recipe only: lxml and parsel take 8 MB.
"""

import re

import cssselect
from cssselect.parser import CombinedSelector, Element
from parsel.csstranslator import HTMLTranslator

from app.sources.recipes.expressions import check_depth, first_line
from app.sources.recipes.markup import etree

NAMESPACES = {"re": "http://exslt.org/regular-expressions"}

# A path whose last step has conditions, and one more step.
_XPATH_CHILD = re.compile(
    r"((?:.*/)?[\w*-]+(?:\[[^\[\]]*\])+)//?(?:child::)?[\w*-]+(?:\[[^\[\]]*\])*"
)
_XPATH = ("/", "./", "../", "(", "@")


def is_xpath(text: str) -> bool:
    """Return whether an HTML expression is XPath: it begins with `/`, `./`, `../`, `(` or `@`."""
    return text.startswith(_XPATH)


def as_xpath(text: str) -> str:
    """Return an HTML expression as XPath. Raises ValueError if it is not valid CSS."""
    if is_xpath(text):
        return text
    try:
        return HTMLTranslator().css_to_xpath(text)
    except (cssselect.SelectorError, ValueError, RecursionError) as error:
        raise ValueError(f"is not valid CSS: {first_line(error)}; correct the selector") from None


def parent_of_rows(records: str) -> str | None:
    """Return the XPath of the element that holds the rows which `records` selects, if it says so.

    It is what stands before the last child: `ul.jobs` in `ul.jobs > li`. An element that has
    neither an id, a class nor another condition may stand in any page: then None.
    """
    if is_xpath(records):
        found = _XPATH_CHILD.fullmatch(records)
        return found[1] if found and _is_xpath_valid(found[1]) else None
    selectors = cssselect.parse(records)
    tree = selectors[0].parsed_tree
    if len(selectors) > 1 or not isinstance(tree, CombinedSelector):
        return None
    parent = tree.selector
    nearest = parent.subselector if isinstance(parent, CombinedSelector) else parent
    if tree.combinator not in (" ", ">") or isinstance(nearest, Element):
        return None
    return HTMLTranslator().selector_to_xpath(
        cssselect.Selector(parent), prefix="./descendant-or-self::"
    )


def _is_xpath_valid(text: str) -> bool:
    try:
        etree.XPath(text, namespaces=NAMESPACES)
    except (etree.XPathError, ValueError):
        return False
    return True


def check_selector(text: str) -> None:
    """Check a CSS or XPath expression. Raises ValueError with the reason."""
    check_depth(text)
    xpath = as_xpath(text)
    try:
        etree.XPath(xpath, namespaces=NAMESPACES)
    except (etree.XPathError, ValueError) as error:
        raise ValueError(
            f"is not valid XPath: {first_line(error)}; correct the expression"
        ) from None
