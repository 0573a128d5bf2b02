"""Atom 1.0 and 0.3, from a well-formed tree."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from app.sources.feeds import dates
from app.sources.feeds.feed import Entry, Feed, new_entry
from app.sources.feeds.tree import (
    MEDIA,
    XHTML,
    XML,
    child_text,
    element_text,
    inner_markup,
    namespace_prefix,
    resolve_url,
    strip_tags,
    xml_base,
)

_PUBLISHED = ("published", "issued", "created")
_UPDATED = ("updated", "modified")


def read(root: Element, url: str) -> Feed:
    """Return the feed under `root`; `url` is the URL that was requested."""
    namespace, base_url = namespace_prefix(root), xml_base(root, url)
    language = root.get(f"{XML}lang")
    return Feed(
        kind="atom",
        title=_title(root, namespace),
        url=_link(root, namespace, base_url, "alternate"),
        entries=tuple(
            _entry(e, root, base_url, language) for e in root.findall(f"{namespace}entry")
        ),
    )


def _entry(item: Element, root: Element, outer_url: str, language: str | None) -> Entry:
    namespace, base_url, faults = namespace_prefix(root), xml_base(item, outer_url), list[str]()
    content = item.find(f"{namespace}content")
    source = None if content is None else resolve_url(base_url, content.get("src"))
    url = _link(item, namespace, base_url, "alternate") or source
    made = new_entry(
        faults,
        id=child_text(item, f"{namespace}id") or url,
        url=url,
        title=_title(item, namespace),
        summary=_markup(item.find(f"{namespace}summary")),
        content=_markup(content),
        author=_author(item, namespace) or _author(root, namespace),
        comments=_link(item, namespace, base_url, "replies"),
        image=_image(item, base_url),
        language=item.get(f"{XML}lang", language),
    )
    made["categories"] = list(_categories(item, namespace))
    made["enclosures"] = list(_enclosures(item, namespace, base_url))
    for field, names in (("published", _PUBLISHED), ("updated", _UPDATED)):
        value = child_text(item, *(f"{namespace}{name}" for name in names))
        if value:
            made[field], fault = dates.parse_date(value, field)
            faults += [fault] if fault else []
    made["faults"] = faults
    return made


def _title(parent: Element, namespace: str) -> str | None:
    title = parent.find(f"{namespace}title")
    if title is None:
        return None
    return strip_tags(_markup(title)) if _construct_type(title) == "html" else element_text(title)


def _construct_type(construct: Element) -> str:
    """Return `text`, `html` or `xhtml` (RFC 4287, section 3.1.1); Atom 0.3 uses media types."""
    kind = construct.get("type", "text").strip().lower()
    if kind == "text/html":
        return "xhtml" if construct.get("mode") == "xml" else "html"
    return "xhtml" if kind == "application/xhtml+xml" else kind


def _markup(construct: Element | None) -> str | None:
    if construct is None:
        return None
    div = construct.find(f"{XHTML}div")
    # RFC 4287, section 3.1.1.3: the div itself is not part of the content.
    whole = construct if div is None or _construct_type(construct) != "xhtml" else div
    return inner_markup(whole)


def _author(parent: Element, namespace: str) -> str | None:
    found = parent.findall(f"{namespace}author")
    names = (
        child_text(author, f"{namespace}name", f"{namespace}email", f"{namespace}uri")
        for author in found
    )
    return ", ".join(filter(None, names)) or None


def _link(parent: Element, namespace: str, base_url: str, rel: str) -> str | None:
    links = [
        link for link in parent.findall(f"{namespace}link") if link.get("rel", "alternate") == rel
    ]
    # An entry may have one link per media type; HTML comes first.
    links.sort(key=lambda link: link.get("type", "text/html") != "text/html")
    return next((_href(link, base_url) for link in links if link.get("href")), None)


def _href(link: Element, base_url: str) -> str | None:
    return resolve_url(xml_base(link, base_url), link.get("href"))


def _categories(item: Element, namespace: str) -> Iterator[str]:
    for category in item.findall(f"{namespace}category"):
        named = category.get("label") or category.get("term")
        if named:
            yield named


def _enclosures(item: Element, namespace: str, base_url: str) -> Iterator[dict[str, str | None]]:
    for link in item.findall(f"{namespace}link"):
        if link.get("rel") == "enclosure":
            attributes = {name: link.get(name) for name in ("type", "length")}
            yield {"url": _href(link, base_url), **attributes}


def _image(item: Element, base_url: str) -> str | None:
    thumbnail = item.find(f".//{MEDIA}thumbnail")
    return None if thumbnail is None else resolve_url(base_url, thumbnail.get("url"))
