"""Reading of feeds of any kind from bytes. Slow for large or malformed feeds: use a thread."""

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast
from xml.etree.ElementTree import Element

from app.core.errors import Schema, TooLarge
from app.core.records import Rejected
from app.sources.feeds import atom, jsonfeed, recovery, rss, xml_parser
from app.sources.feeds.encoding import decode
from app.sources.feeds.feed import DEFAULT_BOUNDS, Bounds, Entry, Feed
from app.sources.feeds.tree import local_name
from app.sources.feeds.xml_parser import NotWellFormed

NO_HEADERS: Mapping[str, str] = MappingProxyType({})
_CONTENT_FIELDS = ("id", "url", "title", "summary", "content", "enclosures")


def read(
    body: bytes,
    headers: Mapping[str, str] = NO_HEADERS,
    url: str = "",
    bounds: Bounds = DEFAULT_BOUNDS,
) -> Feed:
    """Return the feed in `body`. `headers` have lower-case names; `url` is the base of its links.

    Raises Schema if it is not a feed or declares a DTD of its own, and TooLarge if it exceeds
    `bounds`.
    """
    if len(body) > bounds.size:
        raise TooLarge(f"the feed has {len(body)} bytes; at most {bounds.size} are read")
    if not body.strip():
        raise Schema("the feed is empty")
    text, encoding_fault = decode(body, headers)
    feed = _read(xml_parser.strip_prolog(text), url, bounds)
    if len(feed.entries) + len(feed.rejected) > bounds.entries:
        count = len(feed.entries) + len(feed.rejected)
        raise TooLarge(f"the feed has {count} entries; at most {bounds.entries} are read")
    feed = replace(
        feed, malformed="; ".join(filter(None, (encoding_fault, feed.malformed))) or None
    )
    return _within_bounds(feed, bounds)


def _read(text: str, url: str, bounds: Bounds) -> Feed:
    if text.startswith(("{", "[")):
        return jsonfeed.read(text, url)
    if not text.startswith("<") and "<" not in text:
        raise Schema(f"the document is not a feed: it begins with {text[:40]!r}")
    try:
        return _from_root(xml_parser.parse_xml(text, bounds), url)
    except NotWellFormed as error:
        return recovery.read_malformed(text, url, _from_root, str(error), bounds)


def _from_root(root: Element, url: str) -> Feed:
    name = local_name(root).lower()
    if name in ("feed", "entry"):
        return atom.read(root, url)
    if name in ("rss", "rdf"):
        rss.restore_names(root)
    channel = rss.find_channel(root) if name in ("rss", "rdf") else None
    if channel is None:
        detail = ", without a channel" if name in ("rss", "rdf") else ""
        raise Schema(
            f"the document is XML, but not a feed: its root is {local_name(root)!r}{detail}"
        )
    return rss.read(root, channel, url)


def _within_bounds(feed: Feed, bounds: Bounds) -> Feed:
    kept, rejected = list[Entry](), list(feed.rejected)
    for number, item in enumerate(feed.entries, 1):
        fault = _fault(item, bounds)
        if fault is None:
            # JSON strings may contain NUL and lone surrogates, which XML and Postgres do not allow.
            kept.append(cast("Entry", _clean(_with_id(item))))
        else:
            name = str(item["id"])[:200] if item["id"] else None
            rejected.append(Rejected(f"entry {number}: {fault}", _as_bytes(item), name))
    return replace(feed, entries=tuple(kept), rejected=tuple(rejected))


def _with_id(item: Entry) -> Entry:
    """Return the entry with an id: made from all that it has, if it has neither id nor link."""
    if item["id"]:
        return item
    names = ("title", "published", "updated", "summary", "content", "enclosures")
    digest = hashlib.sha256(repr([item[name] for name in names]).encode("utf-8", "replace"))
    fault = "id: it has none; made from its content"
    return item | {"id": f"sha256:{digest.hexdigest()[:32]}", "faults": [*item["faults"], fault]}


def _fault(item: Entry, bounds: Bounds) -> str | None:
    if not any(item[name] for name in _CONTENT_FIELDS):
        return "it has no content"
    for name, value in item.items():
        if isinstance(value, str) and len(value) > bounds.text:
            return f"its {name} has {len(value)} characters; at most {bounds.text} are read"
    return None


def _as_bytes(item: Entry) -> bytes:
    fields = {name: str(value)[:2_000] for name, value in item.items() if value}
    return repr(fields).encode("utf-8", "replace")


def _clean(value: Any) -> Any:
    if isinstance(value, str):
        text = value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        return text.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {key: _clean(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_clean(inner) for inner in cast("list[Any]", value)]
    return value
