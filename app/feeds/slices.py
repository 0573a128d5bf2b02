"""A feed that is not well-formed, taken apart: what is broken in one entry leaves the others whole.

Each entry is read strictly by itself. Only one that is broken itself is given to feedparser, which
reads anything; that entry says so in its faults.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast
from xml.etree.ElementTree import Element

import feedparser  # pyright: ignore[reportMissingTypeStubs] - it has none

from app.errors import Schema, TooLarge
from app.feeds import dates, gate
from app.feeds.feed import Bounds, Entry, Feed, entry
from app.feeds.gate import NotWellFormed
from app.feeds.tree import joined
from app.records import Rejected

Reader = Callable[[Element, str], Feed]

# What feeds use without declaring it.
_PREFIXES = {
    "content": "http://purl.org/rss/1.0/modules/content/",
    "dc": "http://purl.org/dc/elements/1.1/",
    "dcterms": "http://purl.org/dc/terms/",
    "sy": "http://purl.org/rss/1.0/modules/syndication/",
    "slash": "http://purl.org/rss/1.0/modules/slash/",
    "wfw": "http://wellformedweb.org/CommentAPI/",
    "atom": "http://www.w3.org/2005/Atom",
    "media": "http://search.yahoo.com/mrss/",
    "itunes": "http://www.itunes.com/dtds/podcast-1.0.dtd",
    "georss": "http://www.georss.org/georss",
    "geo": "http://www.w3.org/2003/01/geo/wgs84_pos#",
    "thr": "http://purl.org/syndication/thread/1.0",
    "feedburner": "http://rssnamespace.org/feedburner/ext/1.0",
    "podcast": "https://podcastindex.org/namespace/1.0",
    "rdf": "http://www.w3.org/1999/02/22-rdf-syntax-ns#",
    "xlink": "http://www.w3.org/1999/xlink",
    "georss10": "http://www.georss.org/georss/10",
}
_ROOT = re.compile(r"<((?:[\w-]{1,40}:)?(?:rss|feed|RDF))((?:\s[^<>]{0,8000})?)>")
_DTD = re.compile(r"<!(?:ENTITY|DOCTYPE[^>]{0,2000}\[)", re.IGNORECASE)
# What may hold a tag that is none, the borders of entries, and the channel's end.
_MARKS = re.compile(r"<!\[CDATA\[|<!--|<(/?)((?:[\w-]{1,40}:)?(?:item|entry))(?=[\s/>])")
_CLOSERS = {"<![CDATA[": "]]>", "<!--": "-->"}
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Shape:
    """The document around its entries. `head`: what stands before the first of them."""

    name: str
    start: str
    head: str
    wrapped: bool

    def around(self, piece: str) -> str:
        inner = f"<channel>{piece}</channel>" if self.wrapped else piece
        # A DTD to point at, never fetched, lets HTML's entities be known for what they are.
        return f'<!DOCTYPE feed SYSTEM "none">{self.start}{inner}</{self.name}>'


def read(text: str, url: str, reader: Reader, why: str, bounds: Bounds) -> Feed:
    """The feed, entry by entry; `why` it is not well-formed. Raises Schema and TooLarge."""
    if len(text) > bounds.malformed_size:
        raise TooLarge(f"the feed is not well-formed ({why}), and too long to be mended")
    root = _ROOT.search(text)
    if root is None:
        raise Schema(f"this is no feed: it is not well-formed ({why}), and nothing in it says rss")
    if _DTD.search(text, 0, root.start()):
        raise Schema("the feed declares a DTD of its own, which is refused unread")
    pieces, rejected = _pieces(text, root.end(), why)
    if len(pieces) > bounds.entries:
        raise TooLarge(f"the feed has {len(pieces)} entries; at most {bounds.entries} are read")
    start = root.end()
    first = pieces[0][0] if pieces else len(text)
    wrapped = re.search(r"<channel[\s>]", text[start:first]) is not None
    shape = _Shape(root[1], _declaring(root), text[start:first], wrapped)
    whole = _head(shape, url, reader)
    patience = iter(range(bounds.malformed_entries))
    read_ = [_entry(text[a:b], shape, (url, reader), patience) for a, b in pieces]
    return replace(
        whole,
        entries=tuple(e for e in read_ if not isinstance(e, Rejected)),
        rejected=(*(e for e in read_ if isinstance(e, Rejected)), *rejected),
        malformed=f"broken XML: {why}",
    )


def _pieces(text: str, start: int, why: str) -> tuple[list[tuple[int, int]], list[Rejected]]:
    """From where to where each entry goes, and what is left of one that is cut off."""
    found, begun = list[tuple[int, int]](), None
    for mark in _marks(text, start):
        closing, at = mark[1], mark.start()
        if closing and begun is not None:
            end = text.find(">", at)
            found.append((begun, end + 1 or len(text)))
            begun = None
        elif closing or begun is not None:
            raise Schema(f"the feed is not well-formed ({why}): its entries cannot be told apart")
        else:
            begun = at
    if begun is None:
        return found, []
    return found, [Rejected(f"cut off: {why}", text[begun:].encode("utf-8", "replace"))]


def _marks(text: str, start: int) -> Iterator[re.Match[str]]:
    while (mark := _MARKS.search(text, start)) is not None:
        closer = _CLOSERS.get(mark[0])
        if closer is None:
            yield mark
            start = mark.end()
            continue
        end = text.find(closer, mark.end())
        if end < 0:
            return  # what it would have closed is cut off
        start = end + len(closer)


def _declaring(root: re.Match[str]) -> str:
    used = dict(_PREFIXES)
    for declared in re.findall(r"xmlns:([\w-]+)\s*=", root[2]):
        used.pop(declared, None)
    more = "".join(f' xmlns:{prefix}="{space}"' for prefix, space in used.items())
    return f"<{root[1]}{root[2].rstrip('/')}{more}>"


def _strictly(shape: _Shape, piece: str, url: str, reader: Reader) -> Feed:
    return reader(gate.parsed(shape.around(piece), Bounds()), url)


def _head(shape: _Shape, url: str, reader: Reader) -> Feed:
    head = shape.head
    if shape.wrapped:
        head = head[head.index(">", head.index("<channel")) + 1 :].partition("</channel>")[0]
    try:
        return _strictly(shape, head, url, reader)
    except NotWellFormed:
        pass
    try:
        return _strictly(shape, "", url, reader)
    except NotWellFormed as error:
        raise Schema(f"the feed's own tag {shape.name!r} is broken: {error}") from None


def _entry(
    piece: str, shape: _Shape, how: tuple[str, Reader], patience: Iterator[int]
) -> Entry | Rejected:
    url, reader = how
    try:
        read_ = _strictly(shape, piece, url, reader).entries
    except NotWellFormed as error:
        why = str(error).partition(",")[0]
        if next(patience, None) is None:
            return _rejected(f"broken XML: {why}", piece)
        return _leniently(piece, shape, url, why)
    return read_[0] if len(read_) == 1 else _rejected("an entry where none should be", piece)


def _rejected(reason: str, piece: str) -> Rejected:
    return Rejected(reason, piece.encode("utf-8", "replace"))


def _leniently(piece: str, shape: _Shape, url: str, why: str) -> Entry | Rejected:
    document = shape.around(_CONTROLS.sub("", piece)).partition(">")[2].encode("utf-8", "replace")
    # Always from a file of bytes: given bytes or text, it would take them for a file or an address.
    told = cast("Any", feedparser).parse(
        io.BytesIO(document),
        sanitize_html=False,
        resolve_relative_uris=False,
        response_headers={"content-type": "application/xml; charset=utf-8"},
    )
    found = cast("list[dict[str, Any]]", told.entries)
    if len(found) != 1:
        return _rejected(f"broken XML: {why}", piece)
    # A dictionary of its own kind, whose `get` gives one field for another.
    return _of_feedparser(
        dict(found[0].items()), url, f"broken XML ({why}), read as well as could be"
    )


def _of_feedparser(told: dict[str, Any], url: str, fault: str) -> Entry:
    faults = [fault]
    link = joined(url, told.get("link"))
    if told.get("guidislink") and not str(told.get("id")).startswith(("http://", "https://")):
        link = None
    contents = cast("list[dict[str, Any]]", told.get("content") or [])
    content = next((c.get("value") for c in contents if c.get("value")), None)
    made = entry(
        faults,
        id=told.get("id") or link,
        url=link,
        title=" ".join(str(told.get("title") or "").split()) or None,
        summary=told.get("summary") or None,
        content=content,
        author=told.get("author") or None,
        comments=told.get("comments"),
    )
    if made["summary"] == content:
        made["summary"] = None  # feedparser gives the one for the other
    tags = cast("list[dict[str, Any]]", told.get("tags") or [])
    made["categories"] = [t["term"] for t in tags if t.get("term")]
    for field in ("published", "updated"):
        written = told.get(field)
        if written:
            made[field], doubt = dates.read(str(written), field)
            faults += [doubt] if doubt else []
    return made
