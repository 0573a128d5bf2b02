"""Reading of RSS 0.9x, 1.0 and 2.0 from a well-formed tree."""

from collections.abc import Iterable, Iterator
from datetime import timedelta
from xml.etree.ElementTree import Element

from app.sources.feeds import dates
from app.sources.feeds.feed import Entry, Feed, new_entry
from app.sources.feeds.tree import (
    ATOM,
    CONTENT,
    DC,
    FEEDBURNER,
    ITUNES,
    MEDIA,
    RDF,
    SYNDICATION,
    TERMS,
    XHTML,
    XML,
    all_texts,
    child_text,
    child_url,
    distinct,
    element_text,
    inner_markup,
    local_name,
    media_description,
    media_enclosures,
    media_image,
    namespace_prefix,
    plain_text,
    resolve_url,
    xml_base,
)

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PERIODS = {"hourly": 1, "daily": 24, "weekly": 168, "monthly": 720, "yearly": 8_760}  # hours
MIDNIGHT = 24  # RSS 0.91 numbers hours from 1 to 24
_LONGEST_TTL = 60 * 24 * 366  # minutes


_NAMES = {
    name.lower(): name
    for name in ("pubDate", "managingEditor", "skipHours", "skipDays", "isPermaLink", "RDF")
}
_NAMED_LEVELS = 4  # the document, its channel, an item, a field of the item


def restore_names(root: Element) -> None:
    """Write the names of RSS elements and attributes as RSS does: some feeds shout them."""
    level = [root]
    for _ in range(_NAMED_LEVELS):
        for element in level:
            prefix = namespace_prefix(element)
            if prefix in ("", namespace_prefix(root)):
                element.tag = prefix + _restored(local_name(element))
                element.attrib = {_restored(key): value for key, value in element.attrib.items()}
        level = [child for element in level for child in element]


def _restored(name: str) -> str:
    return name if "}" in name else _NAMES.get(name.lower(), name.lower())


def find_channel(root: Element) -> Element | None:
    """Return the channel of the document, in any namespace, or None."""
    return next((child for child in root if local_name(child) == "channel"), None)


def read(root: Element, channel_element: Element, url: str) -> Feed:
    """Return the feed under `root` with this channel; `url` is the URL that was requested."""
    namespace = namespace_prefix(channel_element)
    base_url = xml_base(channel_element, xml_base(root, url))
    inherited = (
        child_text(channel_element, f"{namespace}language", f"{DC}language")
        or root.get(f"{XML}lang"),
        _author(channel_element, namespace),
    )
    home_url = child_url(channel_element, base_url, f"{namespace}link")
    # Items are in the channel, in RSS 1.0 next to it, and in some feeds in both.
    items = (
        item for parent in (channel_element, root) for item in parent.findall(f"{namespace}item")
    )
    return Feed(
        kind="rdf" if root.tag.startswith(RDF) else "rss",
        title=plain_text(child_text(channel_element, f"{namespace}title")),
        url=home_url,
        entries=tuple(_entry(item, namespace, base_url, inherited) for item in items),
        ttl=_ttl(channel_element, namespace),
        skip_hours=frozenset(_hours(channel_element, namespace)),
        skip_days=frozenset(_days(channel_element, namespace)),
    )


def _entry(
    item: Element, namespace: str, outer_url: str, inherited: tuple[str | None, str | None]
) -> Entry:
    """Return one entry. `inherited`: language and author of the channel."""
    base_url = xml_base(item, outer_url)
    url = _url(item, namespace, base_url)
    enclosed = distinct(_enclosures(item, namespace, base_url))
    made = new_entry(
        id=child_text(item, f"{namespace}guid") or item.get(f"{RDF}about") or url,
        url=url,
        title=plain_text(
            child_text(item, f"{namespace}title", f"{DC}title", f"{ITUNES}title", f"{MEDIA}title")
        ),
        summary=_markup(item, f"{namespace}description", f"{DC}description", f"{ITUNES}summary")
        or media_description(item),
        content=_markup(item, f"{CONTENT}encoded", f"{XHTML}body"),
        author=_author(item, namespace) or inherited[1],
        comments=child_url(item, base_url, f"{namespace}comments"),
        image=_image(item, base_url, enclosed),
        language=item.get(f"{XML}lang") or child_text(item, f"{DC}language") or inherited[0],
        categories=_categories(item, namespace),
        enclosures=enclosed,
    )
    published = (f"{namespace}pubDate", f"{DC}date", f"{TERMS}created", f"{ATOM}published")
    updated = (f"{ATOM}updated", f"{TERMS}modified")
    dates.set_dates(
        made, {"published": child_text(item, *published), "updated": child_text(item, *updated)}
    )
    return made


def _author(parent: Element, namespace: str) -> str | None:
    names = (f"{namespace}author", f"{DC}creator", f"{ITUNES}author", f"{namespace}managingEditor")
    written = plain_text(all_texts(parent, *names))
    return written or all_texts(parent, f"{ATOM}author/{ATOM}name", f"{ATOM}author/{ATOM}email")


def _url(item: Element, namespace: str, base_url: str) -> str | None:
    link = child_url(item, base_url, f"{FEEDBURNER}origLink", f"{namespace}link")
    if link:
        return link
    for other in item.findall(f"{ATOM}link"):
        if other.get("rel", "alternate") == "alternate" and other.get("href"):
            return resolve_url(base_url, other.get("href"))
    guid = item.find(f"{namespace}guid")
    if guid is None or guid.get("isPermaLink", "true").strip().lower() == "false":
        return None
    named = element_text(guid) or ""
    return named if named.startswith(("http://", "https://")) else None


def _markup(item: Element, *names: str) -> str | None:
    found = (child for name in names for child in item.findall(name))
    return next(filter(None, map(inner_markup, found)), None)


def _categories(item: Element, namespace: str) -> list[str]:
    found = (c for name in (f"{namespace}category", f"{DC}subject") for c in item.findall(name))
    return list(dict.fromkeys(filter(None, map(plain_text, map(element_text, found)))))


def _enclosures(item: Element, namespace: str, base_url: str) -> Iterator[dict[str, str | None]]:
    for found in item.findall(f"{namespace}enclosure"):
        yield {
            "url": resolve_url(base_url, found.get("url") or found.get("href")),
            "type": found.get("type"),
            "length": found.get("length"),
        }
    yield from media_enclosures(item, base_url)


def _image(item: Element, base_url: str, enclosed: Iterable[dict[str, str | None]]) -> str | None:
    cover = item.find(f"{ITUNES}image")
    return (
        media_image(item, base_url)
        or (None if cover is None else resolve_url(base_url, cover.get("href") or cover.get("url")))
        or next((e["url"] for e in enclosed if (e["type"] or "").startswith("image/")), None)
    )


def _ttl(channel_element: Element, namespace: str) -> timedelta | None:
    minutes = child_text(channel_element, f"{namespace}ttl") or ""
    if minutes.isdecimal() and len(minutes) < len("1000000000"):
        return timedelta(minutes=min(int(minutes), _LONGEST_TTL)) or None
    period = _PERIODS.get((child_text(channel_element, f"{SYNDICATION}updatePeriod") or "").lower())
    if period is None:
        return None
    times = child_text(channel_element, f"{SYNDICATION}updateFrequency") or "1"
    often = int(times) if times.isdecimal() and len(times) < len("1000000000") else 1
    return timedelta(hours=period) / max(1, often)


def _hours(channel_element: Element, namespace: str) -> Iterator[int]:
    for found in channel_element.findall(f"{namespace}skipHours/{namespace}hour"):
        hour = element_text(found) or ""
        if hour.isdecimal() and len(hour) <= len("24") and int(hour) <= MIDNIGHT:
            yield int(hour) % 24


def _days(channel_element: Element, namespace: str) -> Iterator[int]:
    for found in channel_element.findall(f"{namespace}skipDays/{namespace}day"):
        day = (element_text(found) or "").lower()
        if day in _DAYS:
            yield _DAYS.index(day)
