"""The gate: a document that is not well-formed XML, or brings a DTD of its own, goes no further.

It is the parser that says so, not a search for words. What passes is a tree.
"""

import re
from html import unescape
from html.entities import html5
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from app.errors import Schema, TooLarge
from app.feeds.feed import Bounds

_BLANK = "\ufeff \t\r\n"
_MOST_COMMENTS = 20  # before a page's first tag
_DECLARATION = re.compile(r"<\?xml\s[^>]{0,300}\?>")
_HTML = re.compile(r"<(?:!doctype\s+html|html|head|body)\b", re.IGNORECASE)
_OFFERED = re.compile(r"<link\b[^>]{0,500}>", re.IGNORECASE)
_TYPE = re.compile(r"application/(rss|atom|feed)\+(xml|json)", re.IGNORECASE)
_HREF = re.compile(r"""href\s*=\s*["']?([^"'\s>]{1,300})""", re.IGNORECASE)


class NotWellFormed(Exception):
    """The document is no XML. Says where, and why."""


def opened(text: str) -> str:
    """The document without what may stand before it. Raises Schema for a page made for people."""
    text = text.lstrip(_BLANK)
    declaration = _DECLARATION.match(text)
    text = text[declaration.end() :].lstrip(_BLANK) if declaration else text
    if _HTML.match(text, _past_comments(text)):
        raise Schema(f"this is an HTML page, not a feed{_offer(text)}")
    return text


def _past_comments(text: str) -> int:
    at = 0
    for _ in range(_MOST_COMMENTS):
        end = text.find("-->", at) if text.startswith("<!--", at) else -1
        if end < 0:
            break
        at = end + len("-->")
        while at < len(text) and text[at] in _BLANK:
            at += 1
    return at


def _offer(text: str) -> str:
    for link in _OFFERED.finditer(text[:200_000]):
        href = _HREF.search(link[0])
        if href and _TYPE.search(link[0]):
            return f"; it offers the feed {unescape(href[1])}"
    return ""


def parsed(text: str, bounds: Bounds) -> Element:
    """The document's tree; names are `{namespace}name`.

    Raises NotWellFormed, Schema for one that declares a DTD of its own, and TooLarge for one that
    is nested too deep.
    """
    return _Building(bounds).built(text)


class _Building:
    """One tree while it grows."""

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

    def built(self, text: str) -> Element:
        try:
            self._parser.Parse(text.encode("utf-8"), True)
        except expat.ExpatError as error:
            where = f"line {error.lineno}, column {error.offset + 1}"
            raise NotWellFormed(f"{expat.ErrorString(error.code)}, {where}") from None
        except UnicodeEncodeError:
            raise NotWellFormed("half a surrogate pair") from None
        return self._tree.close()

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > self._bounds.depth:
            raise TooLarge(f"the feed is nested deeper than {self._bounds.depth} elements")
        self._tree.start(_named(name), {_named(key): value for key, value in attributes.items()})

    def _end(self, name: str) -> None:
        self._depth -= 1
        self._tree.end(_named(name))

    def _doctype(self, name: str, system: str | None, public: str | None, own: bool) -> None:
        del name, system, public
        if own:
            raise Schema("the feed declares a DTD of its own, which is refused unread")

    def _skipped(self, name: str, parameter: bool) -> None:
        # The DTDs of old that a feed may point at (never fetched) declare HTML's entities.
        meant = None if parameter else html5.get(f"{name};")
        if meant is None:
            raise NotWellFormed(f"the entity {name} is not known")
        self._tree.data(meant)


def _named(name: str) -> str:
    return f"{{{name}" if "}" in name else name
