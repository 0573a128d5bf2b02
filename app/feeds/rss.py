"""RSS 0.9x, 1.0 and 2.0, from a well-formed tree."""

from collections.abc import Iterator
from datetime import timedelta
from xml.etree.ElementTree import Element

from app.feeds import dates
from app.feeds.feed import Entry, Feed, entry
from app.feeds.tree import (
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
    base,
    inner,
    joined,
    plain,
    space,
    text,
)

_DAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_PERIODS = {"hourly": 1, "daily": 24, "weekly": 168, "monthly": 720, "yearly": 8_760}  # hours
MIDNIGHT = 24  # which RSS 0.91 calls the hour 0
_LONGEST_TTL = 60 * 24 * 366  # minutes


def channel(root: Element) -> Element | None:
    """The channel of the document, whatever namespace it is in."""
    return next((child for child in root if child.tag.rpartition("}")[2] == "channel"), None)


def read(root: Element, about: Element, url: str) -> Feed:
    """The feed; `about` is its channel, `url` where it came from."""
    own = space(about)
    where = base(about, base(root, url))
    home = joined(where, text(about, f"{own}link"))
    # Items stand in the channel, in RSS 1.0 beside it, and in some feeds in both.
    items = (item for parent in (about, root) for item in parent.findall(f"{own}item"))
    return Feed(
        kind="rdf" if root.tag.startswith(RDF) else "rss",
        title=text(about, f"{own}title"),
        url=home,
        entries=tuple(_entry(item, own, where, _language(about, own)) for item in items),
        ttl=_ttl(about, own),
        skip_hours=frozenset(_hours(about, own)),
        skip_days=frozenset(_days(about, own)),
    )


def _entry(item: Element, own: str, outer: str, language: str | None) -> Entry:
    where, faults = base(item, outer), list[str]()
    url = _url(item, own, where)
    made = entry(
        faults,
        id=text(item, f"{own}guid") or item.get(f"{RDF}about") or url,
        url=url,
        title=text(item, f"{own}title", f"{DC}title"),
        summary=_markup(item, f"{own}description", f"{DC}description", f"{ITUNES}summary"),
        content=_markup(item, f"{CONTENT}encoded", f"{XHTML}body"),
        author=text(item, f"{own}author", f"{DC}creator", f"{ITUNES}author"),
        comments=joined(where, text(item, f"{own}comments")),
        image=_image(item, where),
        language=item.get(f"{XML}lang") or text(item, f"{DC}language") or language,
    )
    made["categories"] = _categories(item, own)
    made["enclosures"] = list(_enclosures(item, own, where))
    for field, names in (
        ("published", (f"{own}pubDate", f"{DC}date", f"{TERMS}created", f"{ATOM}published")),
        ("updated", (f"{ATOM}updated", f"{TERMS}modified")),
    ):
        written = text(item, *names)
        if written:
            made[field], fault = dates.read(written, field)
            made["faults"] += [fault] if fault else []
    return made


def _url(item: Element, own: str, where: str) -> str | None:
    link = text(item, f"{own}link")
    if link:
        return joined(where, link)
    for other in item.findall(f"{ATOM}link"):
        if other.get("rel", "alternate") == "alternate" and other.get("href"):
            return joined(where, other.get("href"))
    guid = item.find(f"{own}guid")
    if guid is None or guid.get("isPermaLink", "true").strip().lower() == "false":
        return None
    named = plain(guid) or ""
    return named if named.startswith(("http://", "https://")) else None


def _markup(item: Element, *names: str) -> str | None:
    found = (child for name in names for child in item.findall(name))
    return next(filter(None, map(inner, found)), None)


def _categories(item: Element, own: str) -> list[str]:
    found = (c for name in (f"{own}category", f"{DC}subject") for c in item.findall(name))
    return list(dict.fromkeys(filter(None, map(plain, found))))


def _enclosures(item: Element, own: str, where: str) -> Iterator[dict[str, str | None]]:
    for found in item.findall(f"{own}enclosure"):
        yield {
            "url": joined(where, found.get("url")),
            "type": found.get("type"),
            "length": found.get("length"),
        }


def _image(item: Element, where: str) -> str | None:
    thumbnail, cover = item.find(f".//{MEDIA}thumbnail"), item.find(f"{ITUNES}image")
    if thumbnail is not None:
        return joined(where, thumbnail.get("url"))
    return None if cover is None else joined(where, cover.get("href"))


def _language(about: Element, own: str) -> str | None:
    return text(about, f"{own}language", f"{DC}language")


def _ttl(about: Element, own: str) -> timedelta | None:
    minutes = text(about, f"{own}ttl") or ""
    if minutes.isdecimal() and len(minutes) < len("1000000000"):
        return timedelta(minutes=min(int(minutes), _LONGEST_TTL)) or None
    period = _PERIODS.get((text(about, f"{SYNDICATION}updatePeriod") or "").lower())
    if period is None:
        return None
    times = text(about, f"{SYNDICATION}updateFrequency") or "1"
    often = int(times) if times.isdecimal() and len(times) < len("1000000000") else 1
    return timedelta(hours=period) / max(1, often)


def _hours(about: Element, own: str) -> Iterator[int]:
    for found in about.findall(f"{own}skipHours/{own}hour"):
        hour = plain(found) or ""
        if hour.isdecimal() and len(hour) <= len("24") and int(hour) <= MIDNIGHT:
            yield int(hour) % 24


def _days(about: Element, own: str) -> Iterator[int]:
    for found in about.findall(f"{own}skipDays/{own}day"):
        day = (plain(found) or "").lower()
        if day in _DAYS:
            yield _DAYS.index(day)
