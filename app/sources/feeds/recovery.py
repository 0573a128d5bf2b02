"""Reading of feeds that are not well-formed, entry by entry: an error stays within its entry.

Each entry is parsed strictly on its own. Only an entry that is not well-formed itself is read with
the lenient feedparser, which is recorded in its faults.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, cast
from xml.etree.ElementTree import Element

import feedparser  # pyright: ignore[reportMissingTypeStubs] - it has none

from app.core.errors import Schema, TooLarge
from app.core.records import Rejected
from app.sources.feeds import dates, xml_parser
from app.sources.feeds.feed import Bounds, Entry, Feed, new_entry
from app.sources.feeds.tree import resolve_url
from app.sources.feeds.xml_parser import NotWellFormed

RootReader = Callable[[Element, str], Feed]

# Prefixes that feeds use without declaring them.
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
# Tags of entries, and the sections in which text that looks like a tag is not one.
_MARKS = re.compile(r"<!\[CDATA\[|<!--|<(/?)((?:[\w-]{1,40}:)?(?:item|entry))(?=[\s/>])")
_CLOSERS = {"<![CDATA[": "]]>", "<!--": "-->"}
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Shape:
    """The document around its entries.

    `start`: the root tag. `head`: the text before the first entry. `wrapped`: whether there is a
    channel.
    """

    name: str
    start: str
    head: str
    wrapped: bool

    def around(self, piece: str) -> str:
        inner = f"<channel>{piece}</channel>" if self.wrapped else piece
        # With a reference to a DTD, which is never fetched, expat reports HTML entities as skipped.
        return f'<!DOCTYPE feed SYSTEM "none">{self.start}{inner}</{self.name}>'


def read_malformed(text: str, url: str, reader: RootReader, why: str, bounds: Bounds) -> Feed:
    """Return the feed, read entry by entry; `why` is the reason that it is not well-formed.

    Raises Schema if its entries cannot be separated, and TooLarge if it exceeds `bounds`.
    """
    if len(text) > bounds.malformed_size:
        raise TooLarge(
            f"the feed is not well-formed ({why}), and too long to be read entry by entry"
        )
    root = _ROOT.search(text)
    if root is None:
        raise Schema(
            f"the document is not a feed: not well-formed ({why}), and without a feed element"
        )
    if _DTD.search(text, 0, root.start()):
        raise Schema("the feed declares a DTD of its own, which is not allowed")
    pieces, rejected = _split_entries(text, root.end(), why)
    if len(pieces) > bounds.entries:
        raise TooLarge(f"the feed has {len(pieces)} entries; at most {bounds.entries} are read")
    start = root.end()
    first = pieces[0][0] if pieces else len(text)
    wrapped = re.search(r"<channel[\s>]", text[start:first]) is not None
    shape = _Shape(root[1], _root_tag(root), text[start:first], wrapped)
    whole = _head(shape, url, reader)
    lenient_budget = iter(range(bounds.malformed_entries))
    results = [_entry(text[a:b], shape, (url, reader), lenient_budget) for a, b in pieces]
    return replace(
        whole,
        entries=tuple(e for e in results if not isinstance(e, Rejected)),
        rejected=(*(e for e in results if isinstance(e, Rejected)), *rejected),
        malformed=f"broken XML: {why}",
    )


def _split_entries(text: str, start: int, why: str) -> tuple[list[tuple[int, int]], list[Rejected]]:
    """Return the start and end of each entry, and a Rejected for an entry that is cut off."""
    found, entry_start = list[tuple[int, int]](), None
    for mark in _marks(text, start):
        closing, at = mark[1], mark.start()
        if closing and entry_start is not None:
            end = text.find(">", at)
            found.append((entry_start, end + 1 or len(text)))
            entry_start = None
        elif closing or entry_start is not None:
            raise Schema(f"the feed is not well-formed ({why}): its entries cannot be separated")
        else:
            entry_start = at
    if entry_start is None:
        return found, []
    return found, [Rejected(f"cut off: {why}", text[entry_start:].encode("utf-8", "replace"))]


def _marks(text: str, start: int) -> Iterator[re.Match[str]]:
    while (mark := _MARKS.search(text, start)) is not None:
        closer = _CLOSERS.get(mark[0])
        if closer is None:
            yield mark
            start = mark.end()
            continue
        end = text.find(closer, mark.end())
        if end < 0:
            return  # the section is cut off
        start = end + len(closer)


def _root_tag(root: re.Match[str]) -> str:
    used = dict(_PREFIXES)
    for declared in re.findall(r"xmlns:([\w-]+)\s*=", root[2]):
        used.pop(declared, None)
    more = "".join(f' xmlns:{prefix}="{space}"' for prefix, space in used.items())
    return f"<{root[1]}{root[2].rstrip('/')}{more}>"


def _read_strictly(shape: _Shape, piece: str, url: str, reader: RootReader) -> Feed:
    return reader(xml_parser.parse_xml(shape.around(piece), Bounds()), url)


def _head(shape: _Shape, url: str, reader: RootReader) -> Feed:
    head = shape.head
    if shape.wrapped:
        head = head[head.index(">", head.index("<channel")) + 1 :].partition("</channel>")[0]
    try:
        return _read_strictly(shape, head, url, reader)
    except NotWellFormed:
        pass
    try:
        return _read_strictly(shape, "", url, reader)
    except NotWellFormed as error:
        raise Schema(f"the root element {shape.name!r} is not well-formed: {error}") from None


def _entry(
    piece: str, shape: _Shape, context: tuple[str, RootReader], lenient_budget: Iterator[int]
) -> Entry | Rejected:
    url, reader = context
    try:
        results = _read_strictly(shape, piece, url, reader).entries
    except NotWellFormed as error:
        why = str(error).partition(",")[0]
        if next(lenient_budget, None) is None:
            return _rejected(f"broken XML: {why}", piece)
        return _read_leniently(piece, shape, url, why)
    return results[0] if len(results) == 1 else _rejected("an entry in an unexpected place", piece)


def _rejected(reason: str, piece: str) -> Rejected:
    return Rejected(reason, piece.encode("utf-8", "replace"))


def _read_leniently(piece: str, shape: _Shape, url: str, why: str) -> Entry | Rejected:
    document = shape.around(_CONTROLS.sub("", piece)).partition(">")[2].encode("utf-8", "replace")
    # As a file object: feedparser would treat bytes or text as a file name or URL.
    parsed = cast("Any", feedparser).parse(
        io.BytesIO(document),
        sanitize_html=False,
        resolve_relative_uris=False,
        response_headers={"content-type": "application/xml; charset=utf-8"},
    )
    found = cast("list[dict[str, Any]]", parsed.entries)
    if len(found) != 1:
        return _rejected(f"broken XML: {why}", piece)
    # As a plain dict: the `get` of FeedParserDict substitutes other fields.
    return _from_feedparser(dict(found[0].items()), url, f"broken XML ({why}), read leniently")


def _from_feedparser(fields: dict[str, Any], url: str, fault: str) -> Entry:
    faults = [fault]
    link = resolve_url(url, fields.get("link"))
    if fields.get("guidislink") and not str(fields.get("id")).startswith(("http://", "https://")):
        link = None
    contents = cast("list[dict[str, Any]]", fields.get("content") or [])
    content = next((c.get("value") for c in contents if c.get("value")), None)
    made = new_entry(
        faults,
        id=fields.get("id") or link,
        url=link,
        title=" ".join(str(fields.get("title") or "").split()) or None,
        summary=fields.get("summary") or None,
        content=content,
        author=fields.get("author") or None,
        comments=fields.get("comments"),
    )
    if made["summary"] == content:
        made["summary"] = None  # feedparser fills a missing summary with the content
    tags = cast("list[dict[str, Any]]", fields.get("tags") or [])
    made["categories"] = [t["term"] for t in tags if t.get("term")]
    for field in ("published", "updated"):
        written = fields.get(field)
        if written:
            made[field], date_fault = dates.parse_date(str(written), field)
            faults += [date_fault] if date_fault else []
    return made
