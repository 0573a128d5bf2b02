"""Strict XML parsing of feeds: refuses documents that are not well-formed or declare a DTD.

The decision is made by the parser, not by searching the text.
"""

import re
from functools import lru_cache
from html import unescape
from html.entities import html5
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from app.core.errors import Schema, TooLarge
from app.sources.feeds.feed import Bounds
from app.sources.feeds.tree import canonical_namespace

_BLANK = "\ufeff \t\r\n"
_MAX_COMMENTS = 20  # before the first tag
_DECLARATION = re.compile(r"<\?xml\s[^>]{0,300}\?>")
_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_FEED_AFTER_DOCTYPE = re.compile(
    r"<!doctype[^<>]{0,500}>\s*(?:<!--.{0,2000}?-->\s*)*<(?:[\w-]{1,40}:)?(?:rss|feed|rdf)\b",
    re.IGNORECASE | re.DOTALL,
)
_LINK = re.compile(r"<link\b[^>]{0,500}>", re.IGNORECASE)
_TYPE = re.compile(r"application/(rss|atom|feed)\+(xml|json)", re.IGNORECASE)
_HREF = re.compile(r"""href\s*=\s*["']?([^"'\s>]{1,300})""", re.IGNORECASE)


class NotWellFormed(Exception):
    """The document is not well-formed XML. The message contains the reason and the position."""


def strip_prolog(text: str) -> str:
    """Return `text` without leading blanks and XML declaration. Raises Schema for an HTML page."""
    text = text.lstrip(_BLANK)
    declaration = _DECLARATION.match(text)
    text = text[declaration.end() :].lstrip(_BLANK) if declaration else text
    start = _skip_comments(text)
    if _HTML.match(text, start) and not _FEED_AFTER_DOCTYPE.match(text, start):
        raise Schema(f"this is an HTML page, not a feed{_feed_link(text)}")
    return text


def _skip_comments(text: str) -> int:
    at = 0
    for _ in range(_MAX_COMMENTS):
        end = text.find("-->", at) if text.startswith("<!--", at) else -1
        if end < 0:
            break
        at = end + len("-->")
        while at < len(text) and text[at] in _BLANK:
            at += 1
    return at


def _feed_link(text: str) -> str:
    for link in _LINK.finditer(text[:200_000]):
        href = _HREF.search(link[0])
        if href and _TYPE.search(link[0]):
            return f"; it links to the feed {unescape(href[1])}"
    return ""


def parse_xml(text: str, bounds: Bounds) -> Element:
    """Return the root element of `text`; names are `{namespace}name`.

    Raises NotWellFormed, Schema if the document declares a DTD of its own, and TooLarge if it is
    nested too deeply.
    """
    return _TreeParser(bounds).parse(text)


class _TreeParser:
    """Builds the tree of one document from expat events."""

    def __init__(self, bounds: Bounds) -> None:
        self._bounds = bounds
        self._depth = 0
        self._tree = TreeBuilder()
        self._parser = expat.ParserCreate("utf-8", "}")
        self._parser.buffer_text = True
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end
        self._parser.CharacterDataHandler = self._tree.data
        self._parser.StartDoctypeDeclHandler = self._doctype
        self._parser.SkippedEntityHandler = self._skipped

    def parse(self, text: str) -> Element:
        try:
            self._parser.Parse(text.encode("utf-8"), True)
        except expat.ExpatError as error:
            where = f"line {error.lineno}, column {error.offset + 1}"
            raise NotWellFormed(f"{expat.ErrorString(error.code)}, {where}") from None
        except UnicodeEncodeError:
            raise NotWellFormed("lone surrogate") from None
        return self._tree.close()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > self._bounds.depth:
            raise TooLarge(f"the feed is nested deeper than {self._bounds.depth} elements")
        self._tree.start(
            _qualified(name), {_qualified(key): value for key, value in attributes.items()}
        )

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._tree.end(_qualified(name))

    def _doctype(self, name: str, system: str | None, public: str | None, own: bool) -> None:
        del name, system, public
        if own:
            raise Schema("the feed declares a DTD of its own, which is not allowed")

    def _skipped(self, name: str, parameter: bool) -> None:
        # Old feeds reference external DTDs, never fetched here, that declare the HTML entities.
        character = None if parameter else html5.get(f"{name};")
        if character is None:
            raise NotWellFormed(f"unknown entity {name}")
        self._tree.data(character)


@lru_cache(maxsize=1_024)
def _qualified(name: str) -> str:
    namespace, end, local = name.rpartition("}")
    return f"{{{canonical_namespace(namespace)}}}{local}" if end else name
