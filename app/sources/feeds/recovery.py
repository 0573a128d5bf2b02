"""Reading of feeds that are not well-formed, entry by entry: an error stays within its entry.

Each entry is parsed strictly on its own. Only an entry that is not well-formed itself is read with
the lenient feedparser, which is recorded in its faults.
"""

import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any, cast
from xml.etree.ElementTree import Element

import feedparser  # pyright: ignore[reportMissingTypeStubs] - it has none

from app.core.errors import Schema, TooLarge
from app.core.records import Rejected
from app.sources.feeds import dates, xml_parser
from app.sources.feeds.feed import Bounds, Entry, Feed, new_entry
from app.sources.feeds.tree import distinct, plain_text, resolve_url, xml_base
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
_ROOT = re.compile(r"<((?:[\w-]{1,40}:)?(?:rss|feed|RDF))((?:\s[^<>]{0,8000})?)>", re.IGNORECASE)
_CHANNEL = re.compile(r"<channel(?:\s[^<>]{0,2000})?>", re.IGNORECASE)
# What an entry has from the feed around it: its language and its author.
_INHERITED = re.compile(
    r"<((?:dc:)?language|managingEditor|(?:itunes:|atom:)?author|dc:creator)(?:\s[^<>]{0,300})?>"
    r".{0,2000}?</\1\s*>",
    re.IGNORECASE | re.DOTALL,
)
_MAX_INHERITED = 20
_DTD = re.compile(r"<!(?:ENTITY|DOCTYPE[^>]{0,2000}\[)", re.IGNORECASE)
# Tags of entries, and the sections in which text that looks like a tag is not one.
_MARKS = re.compile(
    r"<!\[CDATA\[|<!--|<(/?)((?:[\w-]{1,40}:)?(?:item|entry))(?=[\s/>])", re.IGNORECASE
)
_CLOSERS = {"<![CDATA[": "]]>", "<!--": "-->"}
_REFERENCE = re.compile("&#(?:x([0-9a-f]{1,9})|([0-9]{1,9}));?", re.IGNORECASE)
_MOST = 0x10FFFF
_SURROGATES = range(0xD800, 0xE000)
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


@dataclass(frozen=True, slots=True)
class _Shape:
    """The document around its entries.

    `start`: the root tag. `head`: the text before the first entry. `channel`: the tag of the
    channel, if there is one. `inherited`: the elements of the feed that its entries inherit.
    """

    name: str
    start: str
    head: str
    channel: str | None
    inherited: str = ""

    def around(self, piece: str) -> str:
        inner = self.inherited + piece
        if self.channel is not None:
            end = self.channel[1 : len("<channel")]
            inner = f"{self.channel}{inner}</{end}>"
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
    text = _REFERENCE.sub(_as_character, text)
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
    channel = _CHANNEL.search(text, start, first)
    shape = _Shape(root[1], _root_tag(root), text[start:first], channel and channel[0])
    if channel is not None and not _is_well_formed(shape, ""):
        shape = replace(shape, channel="<channel>")
    whole = _head(shape, url, reader)
    shape = _with_inherited(shape)
    lenient_budget = iter(range(bounds.malformed_entries))
    results = [_entry(text[a:b], shape, (url, reader), lenient_budget) for a, b in pieces]
    return replace(
        whole,
        entries=tuple(e for e in results if not isinstance(e, Rejected)),
        rejected=(*(e for e in results if isinstance(e, Rejected)), *rejected),
        malformed=f"broken XML: {why}",
        cut_off=_is_cut_off(text, root),
    )


def _is_cut_off(text: str, root: re.Match[str]) -> bool:
    """Return whether the document ends before its root element does."""
    return re.search(rf"</{re.escape(root[1])}\s*>", text[root.end() :], re.IGNORECASE) is None


def _as_character(reference: re.Match[str]) -> str:
    """Return a reference as it is, or U+FFFD if it refers to no character, as browsers do."""
    code = int(reference[1], 16) if reference[1] else int(reference[2])
    exists = code <= _MOST and code not in _SURROGATES and not _CONTROLS.match(chr(code))
    return reference[0] if exists else "\ufffd"


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


def _is_well_formed(shape: _Shape, piece: str) -> bool:
    try:
        xml_parser.parse_xml(shape.around(piece), Bounds())
    except NotWellFormed:
        return False
    return True


def _with_inherited(shape: _Shape) -> _Shape:
    found = (match[0] for match in islice(_INHERITED.finditer(shape.head), _MAX_INHERITED))
    return replace(shape, inherited="".join(e for e in found if _is_well_formed(shape, e)))


def _head(shape: _Shape, url: str, reader: RootReader) -> Feed:
    head = shape.head
    if shape.channel is not None:
        channel = _CHANNEL.search(head)
        head = re.split("</channel>", head[channel.end() if channel else 0 :], flags=re.IGNORECASE)[
            0
        ]
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
        return _read_leniently(piece, shape, context, why)
    return results[0] if len(results) == 1 else _rejected("an entry in an unexpected place", piece)


def _rejected(reason: str, piece: str) -> Rejected:
    return Rejected(reason, piece.encode("utf-8", "replace"))


def _read_leniently(
    piece: str, shape: _Shape, context: tuple[str, RootReader], why: str
) -> Entry | Rejected:
    url, reader = context
    document = shape.around(_CONTROLS.sub("", piece)).partition(">")[2].encode("utf-8", "replace")
    try:
        # As a file object: feedparser would treat bytes or text as a file name or URL.
        parsed = cast("Any", feedparser).parse(
            io.BytesIO(document),
            sanitize_html=False,
            resolve_relative_uris=False,
            response_headers={"content-type": "application/xml; charset=utf-8"},
        )
    except Exception as error:  # noqa: BLE001 - any error of the lenient parser is its entry's
        return _rejected(f"broken XML: {why}: {type(error).__name__}: {error}", piece)
    found = cast("list[dict[str, Any]]", parsed.entries)
    if len(found) != 1:
        return _rejected(f"broken XML: {why}", piece)
    name = "entry" if shape.name.lower().endswith("feed") else "item"
    # An entry in this place, for what it has from the feed around it.
    like = _read_strictly(shape, f"<{name}><title>-</title></{name}>", url, reader).entries[0]
    base = xml_base(xml_parser.parse_xml(shape.around(""), Bounds()), url)
    # As a plain dict: the `get` of FeedParserDict substitutes other fields.
    made = _from_feedparser(dict(found[0].items()), base, f"broken XML ({why}), read leniently")
    return made | {key: made[key] or like[key] for key in ("author", "language")}


def _from_feedparser(fields: dict[str, Any], url: str, fault: str) -> Entry:
    link = resolve_url(url, fields.get("feedburner_origlink") or fields.get("link"))
    if fields.get("guidislink") and not str(fields.get("id")).startswith(("http://", "https://")):
        link = None
    contents = _dicts(fields, "content")
    content = next((c.get("value") for c in contents if c.get("value")), None)
    authors = dict.fromkeys(a["name"] for a in _dicts(fields, "authors") if a.get("name"))
    summary = fields.get("summary") or None
    made = new_entry(
        [fault],
        id=fields.get("id") or link,
        url=link,
        title=plain_text(fields.get("title")),
        # feedparser fills a missing summary with the content.
        summary=None if summary == content else summary,
        content=content,
        author=", ".join(authors) or fields.get("author") or None,
        comments=resolve_url(url, fields.get("comments")),
        language=fields.get("language") or None,
        categories=[t["term"] for t in _dicts(fields, "tags") if t.get("term")],
        enclosures=distinct(_enclosures(fields, url)),
        image=_image(fields, url),
    )
    written = {field: fields.get(field) for field in ("published", "updated")}
    dates.set_dates(made, {field: str(text) for field, text in written.items() if text})
    return made


def _dicts(fields: dict[str, Any], name: str) -> list[dict[str, Any]]:
    return [dict(found.items()) for found in cast("list[dict[str, Any]]", fields.get(name) or [])]


def _enclosures(fields: dict[str, Any], url: str) -> Iterator[dict[str, str | None]]:
    files = [f for f in _dicts(fields, "links") if f.get("rel") == "enclosure"]
    for found in (*files, *_dicts(fields, "media_content")):
        address = resolve_url(url, found.get("href") or found.get("url"))
        if address:
            length = found.get("length") or found.get("filesize")
            yield {"url": address, "type": found.get("type"), "length": length}


def _image(fields: dict[str, Any], url: str) -> str | None:
    shown = [f for f in _dicts(fields, "media_content") if f.get("medium") == "image"]
    cover = cast("dict[str, Any]", fields.get("image") or {})
    found = next((f.get("url") for f in (*_dicts(fields, "media_thumbnail"), *shown)), None)
    return resolve_url(url, found or cover.get("href"))
