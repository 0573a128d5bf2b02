"""Reading of JSON Feed 1.0 and 1.1."""

from collections.abc import Iterator
from decimal import Decimal
from typing import Any, cast

from app.core.errors import Schema
from app.core.records import Rejected
from app.sources import jsontext
from app.sources.feeds import dates
from app.sources.feeds.feed import Entry, Feed, new_entry
from app.sources.feeds.tree import resolve_url

_VERSION = ("https://jsonfeed.org/version/", "http://jsonfeed.org/version/")

Object = dict[str, Any]


def read(text: str, url: str) -> Feed:
    """Return the feed in `text`; `url` is the URL that was requested. Raises Schema."""
    feed = _decoded(text)
    items = feed.get("items")
    if not str(feed.get("version", "")).startswith(_VERSION):
        raise Schema("the document is JSON, but not a JSON Feed: its version is unknown")
    if not isinstance(items, list):
        raise Schema("the JSON Feed has no list of items")
    entries, rejected = list[Entry](), list[Rejected]()
    for number, item in enumerate(cast("list[Any]", items), 1):
        if isinstance(item, dict):
            entries.append(_entry(cast("Object", item), feed, url))
        else:
            raw = repr(item).encode("utf-8", "replace")
            rejected.append(Rejected(f"item {number} is not an object", raw, None))
    title, home_url = _text(feed, "title"), resolve_url(url, _text(feed, "home_page_url"))
    return Feed("json", title, home_url, tuple(entries), tuple(rejected))


def _decoded(text: str) -> Object:
    try:
        feed = jsontext.parse(text)
    except (ValueError, RecursionError) as error:
        raise Schema(f"the feed is not valid JSON: {error}") from None
    if not isinstance(feed, dict):
        raise Schema("the document is JSON, but not a JSON Feed: it is not an object")
    return cast("Object", feed)


def _entry(item: Object, feed: Object, url: str) -> Entry:
    link = resolve_url(url, _text(item, "url", "external_url"))
    made = new_entry(
        id=_text(item, "id") or link,
        url=link,
        title=_text(item, "title"),
        summary=_text(item, "summary"),
        content=_text(item, "content_html", "content_text"),
        author=_author(item) or _author(feed),
        image=resolve_url(url, _text(item, "image", "banner_image")),
        language=_text(item, "language") or _text(feed, "language"),
        categories=[tag for tag in _list(item, "tags") if isinstance(tag, str)],
        enclosures=list(_enclosures(item, url)),
    )
    written = {"published": item.get("date_published"), "updated": item.get("date_modified")}
    dates.set_dates(made, {f: None if v is None else str(v) for f, v in written.items()})
    return made


def _text(item: Object, *names: str) -> str | None:
    for name in names:
        value = item.get(name)
        if isinstance(value, str) and value.strip():
            return value.strip()
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return str(value)  # an id may be a number: JSON Feed 1.1, "id"
    return None


def _list(item: Object, name: str) -> list[Any]:
    value = item.get(name)
    return cast("list[Any]", value) if isinstance(value, list) else []


def _author(item: Object) -> str | None:
    authors = [*_list(item, "authors"), item.get("author")]
    names = (
        _text(cast("Object", author), "name", "url")
        for author in authors
        if isinstance(author, dict)
    )
    return ", ".join(dict.fromkeys(filter(None, names))) or None


def _enclosures(item: Object, url: str) -> Iterator[dict[str, str | None]]:
    for found in _list(item, "attachments"):
        if isinstance(found, dict):
            attachment = cast("Object", found)
            yield {
                "url": resolve_url(url, _text(attachment, "url")),
                "type": _text(attachment, "mime_type"),
                "length": _text(attachment, "size_in_bytes"),
            }
