"""HTML pages, queried with CSS selectors and XPath."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from functools import lru_cache
from typing import Any, cast

from w3lib.encoding import html_to_unicode

from app.core.errors import Schema
from app.core.printable import clean_text
from app.core.records import Rejected
from app.sources.feeds import encoding
from app.sources.recipes import fields, selectors
from app.sources.recipes.enums import FieldType
from app.sources.recipes.jsonpages import ExpressionMismatch
from app.sources.recipes.markup import etree, html, is_element
from app.sources.recipes.model import Recipe, RecipeColumn
from app.sources.recipes.parsed_page import ListPlace, ParsedPage
from app.sources.recipes.selectors import NAMESPACES, as_xpath

MAX_BLOCKS = 3_000  # elements of a page whose paths are noted
MAX_STEPS = 12  # steps of a path, from the element upwards

_BLOCKS = ("ul", "ol", "dl", "table", "div", "section", "main", "article")
_BLOCK = re.compile(
    r"<!--.*?(?:-->|\Z)|<(script|style|title|textarea)\b.*?(?:</\1|\Z)"
    rf"|<(/?)({'|'.join(_BLOCKS)})\b[^<>]*>",  # without `<`: read once, however many are open
    re.IGNORECASE | re.DOTALL,
)
_DOCUMENT = re.compile(r"<(?:html|body)\b", re.IGNORECASE)
_DOCUMENT_END = re.compile(r"</(?:html|body)\s*>", re.IGNORECASE)
_TAG_AT_END = re.compile(r"<[a-z/!][^<>]*\Z", re.IGNORECASE)
_LIST_TAGS = frozenset({"ul", "ol", "dl", "table", "tbody"})


class HtmlPage(ParsedPage):
    """A parsed HTML document. `base` is the URL that its links are resolved against."""

    def __init__(self, recipe: Recipe, body: bytes, url: str, headers: Mapping[str, str]) -> None:
        self._extract = recipe.extract
        text = _decoded(body, headers.get("content-type"))
        self._root = _parsed(text)
        self.base = _base_url(self._root, url)
        self.malformed = _cut_off(text)
        self.cut_off = self.malformed is not None

    def records(self) -> list[Any]:
        """Return the elements that `extract.records` selects, without one that is cut off."""
        return self._records()[0]

    def _records(self) -> tuple[list[Any], list[Any]]:
        """Return the elements that `extract.records` selects, and those of them cut off."""
        found = _elements(self._extract.records or "", self._root)
        last = _open_at_end(self._root) if self.cut_off else set[Any]()
        return [one for one in found if one not in last], [one for one in found if one in last]

    def list_place(self) -> ListPlace:
        """Return the element that holds the rows; without rows, whether it is known to be there.

        It is what `extract.container` selects, or else the part of `extract.records` before the
        last child. A page without rows has the paths of all its elements, so that it can be
        recognised by the container of an earlier page.
        """
        records = self.records()
        if records:
            return ListPlace(container=_container_path(records))
        rows = self._extract.records or ""
        container = self._extract.container or selectors.parent_of_rows(rows)
        found = [] if container is None else _elements(container, self._root)
        if found and (self._extract.container or all(_may_be_empty_list(one) for one in found)):
            return ListPlace()
        absent = "no row, and no element that is known to hold the rows"
        if self._extract.container is None:
            absent = f"{absent}; set extract.container"
        return ListPlace(absent=absent, blocks=_block_paths(self._root))

    def explode(self, record: Any) -> list[Any]:
        """Return the elements that `extract.explode` selects in a record."""
        return _elements(self._extract.explode or "", record)

    def value(self, row: Any, field: str) -> Any:
        """Return the text of the first match of a field in a row; of all matches for a list.

        None if nothing matches.
        """
        spec: RecipeColumn = self._extract.fields[field]
        values = select(spec.path, row)
        if spec.type is FieldType.URL:  # several blanks in a URL are several blanks
            return next((v if isinstance(v, str) else _text(v) for v in values if _text(v)), None)
        if spec.type is FieldType.LIST:
            texts = [text for value in values if (text := _text(value))]
            return texts or None
        return next((text for value in values if (text := _text(value))), None)

    def as_bytes(self, row: Any) -> bytes:
        """Return the row as bytes, for storing it as a rejected row."""
        if not is_element(row):
            return str(row).encode()
        return cast("bytes", etree.tostring(row, encoding="utf-8", method="html"))

    def search(self, expression: str) -> Any:
        """Return the text of the first match of `expression` in the page, or None."""
        return next((t for v in select(expression, self._root) if (t := _text(v))), None)

    def holds(self, expression: str) -> bool:
        """Return whether `expression` selects anything, or is a condition that is true."""
        return any(value not in (False, "") for value in select(expression, self._root))

    def rejected(self) -> tuple[Rejected, ...]:
        """Return the record in which a page is cut off: its values may be parts of values."""
        cut_off = self._records()[1] if self.cut_off else ()
        return tuple(Rejected("the page is cut off here", self.as_bytes(one)) for one in cut_off)


def parse_html(body: bytes, content_type: str | None) -> Any:
    """Return the root element. Fetches nothing and expands no entities. Raises Schema."""
    return _parsed(_decoded(body, content_type))


def _decoded(body: bytes, content_type: str | None) -> str:
    _, text = html_to_unicode(content_type, body, auto_detect_fun=encoding.detect_html)
    text = clean_text(text).lstrip("\ufeff")
    if not text.strip():
        raise Schema("the page is empty")
    return text


def _cut_off(text: str) -> str | None:
    """Return what shows that a document ends before its elements do, or None.

    HTML lets `</body>` and `</html>` be left out, but no end tag of a block; where a later element
    is closed, browsers close the block too.
    """
    if not _DOCUMENT.search(text) or _DOCUMENT_END.search(text):
        return None
    if _TAG_AT_END.search(text):
        return "it ends in the middle of a tag"
    opened = Counter[str]()
    for _, end, name in _BLOCK.findall(text):
        opened[name.lower()] += -1 if end else 1
    still_open = next((name for name in _BLOCKS if opened[name] > 0), None)
    return None if still_open is None else f"it ends in an open <{still_open}>"


def _open_at_end(root: Any) -> set[Any]:
    """Return the last element of a document, and the elements that it is in."""
    last = root
    while len(last):
        last = last[-1]
    return {last, *last.iterancestors()}


def _parsed(text: str) -> Any:
    parser = html.HTMLParser(
        recover=True,
        no_network=True,
        huge_tree=False,
        remove_comments=True,
        remove_pis=True,
        encoding="utf-8",
    )
    try:
        root: Any = etree.fromstring(text.encode(), parser)
    except (etree.LxmlError, ValueError) as error:
        raise Schema(f"the page is not valid HTML: {error}") from None
    if root is None:
        raise Schema("the page is not valid HTML: it contains no element")
    # Past its depth limit the parser drops the rest of the page and only logs it.
    if any("depth" in str(entry.message).lower() for entry in parser.error_log):
        raise Schema("the page is nested too deeply to be read in full")
    return root


def select(expression: str, element: Any) -> list[Any]:
    """Return everything that `expression` selects in `element`.

    Raises ExpressionMismatch if it cannot be evaluated there.
    """
    try:
        found = _compiled(expression)(element)
    except (etree.XPathError, TypeError, ValueError) as error:
        raise ExpressionMismatch(f"{expression}: {str(error)[:200]}") from None
    return cast("list[Any]", found) if isinstance(found, list) else [found]


@lru_cache(maxsize=1_024)
def _compiled(expression: str) -> Any:
    return etree.XPath(as_xpath(expression), namespaces=NAMESPACES, smart_strings=False)


def _elements(expression: str, element: Any) -> list[Any]:
    found = select(expression, element)
    not_element = next((value for value in found if not is_element(value)), None)
    if not_element is not None:
        raise Schema(f"{expression} selects text where elements are required")
    return found


def _container_path(records: list[Any]) -> str | None:
    """Return the path of the parent of the first record, if it is more than a bare wrapper."""
    parent = records[0].getparent()
    if parent is None or parent.tag in ("html", "body"):
        return None
    named = parent.get("id") or parent.get("class") or parent.tag in _LIST_TAGS
    return _path(parent) if named else None


def _may_be_empty_list(element: Any) -> bool:
    """Return whether an element without rows is a list, or holds no text that may be an error."""
    return element.tag in _LIST_TAGS or not any(part.strip() for part in _text_parts(element))


def _block_paths(root: Any) -> list[str]:
    """Return the paths of the elements that may be an empty list."""
    paths: dict[str, None] = {}
    for element in root.iter():
        if len(paths) == MAX_BLOCKS:
            break
        if is_element(element) and _may_be_empty_list(element):
            paths[_path(element)] = None
    return list(paths)


def _path(element: Any) -> str:
    steps = [element, *element.iterancestors()]
    return "/".join(_step(step) for step in reversed(steps[:MAX_STEPS]))


def _step(element: Any) -> str:
    classes = ".".join(sorted((element.get("class") or "").split()))
    return f"{element.tag}#{element.get('id') or ''}.{classes}"[:200]


# Elements that part words, as the lines and cells of a page do; those that hold no text.
_PARTING = frozenset(
    re.findall(
        r"\w+",
        "address article aside blockquote br caption dd details div dl dt fieldset figcaption"
        " figure footer form h1 h2 h3 h4 h5 h6 header hr li main nav ol option p pre section"
        " summary table tbody td tfoot th thead tr ul",
    )
)
_WITHOUT_TEXT = frozenset({"script", "style", "template"})


def text_of(element: Any) -> str:
    """Return the text of an element as a reader sees it, with blanks collapsed.

    Line breaks, blocks and cells part words; scripts and styles inside it are no text.
    """
    return " ".join("".join(_text_parts(element)).split())


def _text_parts(element: Any) -> Iterator[str]:
    yield element.text or ""
    for child in element:
        parting = " " if child.tag in _PARTING else ""
        yield parting
        if child.tag not in _WITHOUT_TEXT:
            yield from _text_parts(child)
        yield parting
        yield child.tail or ""


def _text(value: Any) -> str:
    if is_element(value):
        return text_of(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool):
        return "true" if value else "false"
    return " ".join(str(value).split())


def _base_url(root: Any, url: str) -> str:
    href = next((t for v in select("//base/@href", root) if (t := _text(v))), None)
    try:
        return url if href is None else fields.absolute_url(href, url)
    except ValueError:
        return url
