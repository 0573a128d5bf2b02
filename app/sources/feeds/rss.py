"""Reading of RSS 0.9x, 1.0 and 2.0 from a well-formed tree."""

from collections.abc import Iterator
from datetime import timedelta
from xml.etree.ElementTree import Element

from app.sources.feeds import dates
from app.sources.feeds.feed import Entry, Feed, new_entry
from app.sources.feeds.tree import (
    ATOM,
    CONTENT,
    DC,
    ITUNES,
    MEDIA,
    RDF,
    SYNDICATION,
    TERMS,
    XHTML,
    XML,
    child_text,
    element_text,
    inner_markup,
    namespace_prefix,
    resolve_url,
    xml_base,
)

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PERIODS = {"hourly": 1, "daily": 24, "weekly": 168, "monthly": 720, "yearly": 8_760}  # hours
MIDNIGHT = 24  # RSS 0.91 numbers hours from 1 to 24
_LONGEST_TTL = 60 * 24 * 366  # minutes


def find_channel(root: Element) -> Element | None:
    """Return the channel of the document, in any namespace, or None."""
    return next((child for child in root if child.tag.rpartition("}")[2] == "channel"), None)


def read(root: Element, channel_element: Element, url: str) -> Feed:
    """Return the feed under `root` with this channel; `url` is the URL that was requested."""
    namespace = namespace_prefix(channel_element)
    base_url = xml_base(channel_element, xml_base(root, url))
    home_url = resolve_url(base_url, child_text(channel_element, f"{namespace}link"))
    # Items are in the channel, in RSS 1.0 next to it, and in some feeds in both.
    items = (
        item for parent in (channel_element, root) for item in parent.findall(f"{namespace}item")
    )
    return Feed(
        kind="rdf" if root.tag.startswith(RDF) else "rss",
        title=child_text(channel_element, f"{namespace}title"),
        url=home_url,
        entries=tuple(
            _entry(item, namespace, base_url, _language(channel_element, namespace))
            for item in items
        ),
        ttl=_ttl(channel_element, namespace),
        skip_hours=frozenset(_hours(channel_element, namespace)),
        skip_days=frozenset(_days(channel_element, namespace)),
    )


def _entry(item: Element, namespace: str, outer_url: str, language: str | None) -> Entry:
    base_url, faults = xml_base(item, outer_url), list[str]()
    url = _url(item, namespace, base_url)
    made = new_entry(
        faults,
        id=child_text(item, f"{namespace}guid") or item.get(f"{RDF}about") or url,
        url=url,
        title=child_text(item, f"{namespace}title", f"{DC}title"),
        summary=_markup(item, f"{namespace}description", f"{DC}description", f"{ITUNES}summary"),
        content=_markup(item, f"{CONTENT}encoded", f"{XHTML}body"),
        author=child_text(item, f"{namespace}author", f"{DC}creator", f"{ITUNES}author"),
        comments=resolve_url(base_url, child_text(item, f"{namespace}comments")),
        image=_image(item, base_url),
        language=item.get(f"{XML}lang") or child_text(item, f"{DC}language") or language,
    )
    made["categories"] = _categories(item, namespace)
    made["enclosures"] = list(_enclosures(item, namespace, base_url))
    for field, names in (
        ("published", (f"{namespace}pubDate", f"{DC}date", f"{TERMS}created", f"{ATOM}published")),
        ("updated", (f"{ATOM}updated", f"{TERMS}modified")),
    ):
        value = child_text(item, *names)
        if value:
            made[field], fault = dates.parse_date(value, field)
            made["faults"] += [fault] if fault else []
    return made


def _url(item: Element, namespace: str, base_url: str) -> str | None:
    link = child_text(item, f"{namespace}link")
    if link:
        return resolve_url(base_url, link)
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
    return list(dict.fromkeys(filter(None, map(element_text, found))))


def _enclosures(item: Element, namespace: str, base_url: str) -> Iterator[dict[str, str | None]]:
    for found in item.findall(f"{namespace}enclosure"):
        yield {
            "url": resolve_url(base_url, found.get("url")),
            "type": found.get("type"),
            "length": found.get("length"),
        }


def _image(item: Element, base_url: str) -> str | None:
    thumbnail, cover = item.find(f".//{MEDIA}thumbnail"), item.find(f"{ITUNES}image")
    if thumbnail is not None:
        return resolve_url(base_url, thumbnail.get("url"))
    return None if cover is None else resolve_url(base_url, cover.get("href"))


def _language(channel_element: Element, namespace: str) -> str | None:
    return child_text(channel_element, f"{namespace}language", f"{DC}language")


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
