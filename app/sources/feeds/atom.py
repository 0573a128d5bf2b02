"""Atom 1.0 and 0.3, from a well-formed tree."""

import base64
import binascii
from collections.abc import Iterator
from xml.etree.ElementTree import Element

from app.sources.feeds import dates
from app.sources.feeds.feed import Entry, Feed, new_entry
from app.sources.feeds.tree import (
    ATOM,
    DC,
    FEEDBURNER,
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
    resolve_url,
    strip_tags,
    xml_base,
)

_PUBLISHED = ("published", "issued", "created")
_UPDATED = ("updated", "modified")
_RELATION = "http://www.iana.org/assignments/relation/"  # what a relation's name is short for
_WEB = ("http://", "https://")


def read(root: Element, url: str) -> Feed:
    """Return the feed under `root`; `url` is the URL that was requested."""
    namespace, base_url = namespace_prefix(root), xml_base(root, url)
    language = root.get(f"{XML}lang")
    if local_name(root) == "entry":
        return Feed("atom", None, None, (_entry(root, root, url, language),))
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
    named = child_text(item, f"{namespace}id")
    url = (
        child_url(item, base_url, f"{FEEDBURNER}origLink")
        or _link(item, namespace, base_url, "alternate")
        or source
        or (named if named and named.startswith(_WEB) else None)
    )
    made = new_entry(
        faults,
        id=named or url,
        url=url,
        title=_title(item, namespace),
        summary=_content(item.find(f"{namespace}summary"), "summary", faults)
        or media_description(item),
        content=_content(content, "content", faults),
        author=_author(item, namespace) or _author(root, namespace),
        comments=_link(item, namespace, base_url, "replies"),
        image=media_image(item, base_url),
        language=item.get(f"{XML}lang", language),
        categories=list(_categories(item, namespace)),
        enclosures=distinct(
            [*_enclosures(item, namespace, base_url), *media_enclosures(item, base_url)]
        ),
    )
    names = {"published": _PUBLISHED, "updated": _UPDATED}
    dates.set_dates(
        made, {f: child_text(item, *(f"{namespace}{n}" for n in ns)) for f, ns in names.items()}
    )
    return made


def _title(parent: Element, namespace: str) -> str | None:
    title = parent.find(f"{namespace}title")
    if title is None:
        return None
    is_markup = _construct_type(title) in ("html", "xhtml")
    return strip_tags(_markup(title)) if is_markup else element_text(title)


def _content(construct: Element | None, field: str, faults: list[str]) -> str | None:
    """Return the content, decoded if it is base64; what cannot be decoded stays as it is."""
    markup = _markup(construct)
    if construct is None or markup is None or not _is_base64(construct):
        return markup
    try:
        return base64.b64decode("".join(markup.split()), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        faults.append(f"{field}: is base64 that holds no text")
        return markup


def _is_base64(construct: Element) -> bool:
    """Whether the content is base64 (RFC 4287, section 4.1.3.3; Atom 0.3: `mode`)."""
    if construct.get("mode") == "base64":
        return True
    kind = construct.get("type", "text").strip().lower()
    is_text = kind.startswith("text/") or kind.endswith(("+xml", "/xml"))
    return construct.tag.startswith(ATOM) and "/" in kind and not is_text and not len(construct)


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
    return inner_markup(whole, escaped=_construct_type(construct) == "xhtml")


def _author(parent: Element, namespace: str) -> str | None:
    found = parent.findall(f"{namespace}author")
    names = (
        child_text(author, f"{namespace}name", f"{namespace}email", f"{namespace}uri")
        for author in found
    )
    written = ", ".join(filter(None, names)) or all_texts(parent, f"{DC}creator")
    source = parent.find(f"{namespace}source")
    return written or (None if source is None else _author(source, namespace))


def _relation(link: Element) -> str:
    """Return what a link is, by the short name of its relation."""
    relation = link.get("rel", "").strip().removeprefix(_RELATION).lower()
    return relation or "alternate"


def _link(parent: Element, namespace: str, base_url: str, rel: str) -> str | None:
    links = [link for link in parent.findall(f"{namespace}link") if _relation(link) == rel]
    # An entry may have one link per media type; HTML comes first.
    links.sort(key=lambda link: link.get("type", "text/html") != "text/html")
    return next((_href(link, base_url) for link in links if _target(link)), None)


def _target(link: Element) -> str:
    """Return the target of a link as it is written: some feeds have it as text, as RSS has."""
    text = (link.text or "").strip()
    return link.get("href") or (text if text.startswith(("http://", "https://")) else "")


def _href(link: Element, base_url: str) -> str | None:
    return resolve_url(xml_base(link, base_url), _target(link))


def _categories(item: Element, namespace: str) -> Iterator[str]:
    for category in item.findall(f"{namespace}category"):
        named = category.get("label") or category.get("term")
        if named:
            yield named


def _enclosures(item: Element, namespace: str, base_url: str) -> Iterator[dict[str, str | None]]:
    for link in item.findall(f"{namespace}link"):
        if _relation(link) == "enclosure":
            attributes = {name: link.get(name) for name in ("type", "length")}
            yield {"url": _href(link, base_url), **attributes}
