"""From bytes to a feed. It takes its time over a large or broken one: call it in a thread."""

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any, cast
from xml.etree.ElementTree import Element

from app.errors import Schema, TooLarge
from app.feeds import atom, gate, jsonfeed, rss, slices
from app.feeds.encoding import decoded
from app.feeds.feed import DEFAULT, Bounds, Entry, Feed
from app.feeds.gate import NotWellFormed
from app.feeds.tree import local
from app.records import Rejected

NOTHING: Mapping[str, str] = MappingProxyType({})
_TELLING = ("id", "url", "title", "summary", "content")


def read(
    body: bytes, headers: Mapping[str, str] = NOTHING, url: str = "", bounds: Bounds = DEFAULT
) -> Feed:
    """Read a feed of any kind. `headers` have lower-case names; `url` makes links whole.

    Raises Schema for what is no feed, says so, or brings a DTD of its own, and TooLarge.
    """
    if len(body) > bounds.size:
        raise TooLarge(f"the feed has {len(body)} bytes; at most {bounds.size} are read")
    if not body.strip():
        raise Schema("the feed is empty: not a byte in it")
    text, odd = decoded(body, headers)
    feed = _read(gate.opened(text), url, bounds)
    if len(feed.entries) + len(feed.rejected) > bounds.entries:
        count = len(feed.entries) + len(feed.rejected)
        raise TooLarge(f"the feed has {count} entries; at most {bounds.entries} are read")
    feed = replace(feed, malformed="; ".join(filter(None, (odd, feed.malformed))) or None)
    return _checked(feed, bounds)


def _read(text: str, url: str, bounds: Bounds) -> Feed:
    if text.startswith(("{", "[")):
        return jsonfeed.read(text, url)
    if not text.startswith("<") and "<" not in text:
        raise Schema(f"this is no feed: it begins with {text[:40]!r}")
    try:
        return _of(gate.parsed(text, bounds), url)
    except NotWellFormed as error:
        return slices.read(text, url, _of, str(error), bounds)


def _of(root: Element, url: str) -> Feed:
    if local(root) == "feed":
        return atom.read(root, url)
    about = rss.channel(root) if local(root) in ("rss", "RDF") else None
    if about is None:
        raise Schema(f"this is XML, but no feed: its root is {local(root)!r}{_lacking(root)}")
    return rss.read(root, about, url)


def _lacking(root: Element) -> str:
    return ", without a channel" if local(root) in ("rss", "RDF") else ""


def _checked(feed: Feed, bounds: Bounds) -> Feed:
    kept, rejected = list[Entry](), list(feed.rejected)
    for number, one in enumerate(feed.entries, 1):
        fault = _fault(one, bounds)
        if fault is None:
            kept.append(_storable(one))
        else:
            name = str(one["id"])[:200] if one["id"] else None
            rejected.append(Rejected(f"entry {number}: {fault}", _shown(one), name))
    return replace(feed, entries=tuple(kept), rejected=tuple(rejected))


def _fault(one: Entry, bounds: Bounds) -> str | None:
    if not any(one[name] for name in _TELLING):
        return "there is nothing in it"
    for name, value in one.items():
        if isinstance(value, str) and len(value) > bounds.text:
            return f"its {name} has {len(value)} characters; at most {bounds.text} are read"
    return None


def _shown(one: Entry) -> bytes:
    told = {name: str(value)[:2_000] for name, value in one.items() if value}
    return repr(told).encode("utf-8", "replace")


def _storable(one: Entry) -> Entry:
    # JSON can say what neither XML nor Postgres can hold.
    return cast("Entry", _whole(one))


def _whole(value: Any) -> Any:
    if isinstance(value, str):
        whole = value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
        return whole.replace("\0", "\ufffd")
    if isinstance(value, dict):
        return {key: _whole(inner) for key, inner in cast("dict[str, Any]", value).items()}
    if isinstance(value, list):
        return [_whole(inner) for inner in cast("list[Any]", value)]
    return value
