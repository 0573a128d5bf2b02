"""Atom 1.0 and 0.3, from a well-formed tree."""

from collections.abc import Iterator
from xml.etree.ElementTree import Element

from app.feeds import dates
from app.feeds.feed import Entry, Feed, entry
from app.feeds.tree import MEDIA, XHTML, XML, base, inner, joined, plain, space, text, unmarked

_PUBLISHED = ("published", "issued", "created")
_UPDATED = ("updated", "modified")


def read(root: Element, url: str) -> Feed:
    """The feed; `url` is where it came from."""
    own, where = space(root), base(root, url)
    language = root.get(f"{XML}lang")
    return Feed(
        kind="atom",
        title=_title(root, own),
        url=_link(root, own, where, "alternate"),
        entries=tuple(_entry(e, root, where, language) for e in root.findall(f"{own}entry")),
    )


def _entry(item: Element, root: Element, outer: str, language: str | None) -> Entry:
    own, where, faults = space(root), base(item, outer), list[str]()
    content = item.find(f"{own}content")
    elsewhere = None if content is None else joined(where, content.get("src"))
    url = _link(item, own, where, "alternate") or elsewhere
    made = entry(
        faults,
        id=text(item, f"{own}id") or url,
        url=url,
        title=_title(item, own),
        summary=_markup(item.find(f"{own}summary")),
        content=_markup(content),
        author=_author(item, own) or _author(root, own),
        comments=_link(item, own, where, "replies"),
        image=_image(item, where),
        language=item.get(f"{XML}lang", language),
    )
    made["categories"] = list(_categories(item, own))
    made["enclosures"] = list(_enclosures(item, own, where))
    for field, names in (("published", _PUBLISHED), ("updated", _UPDATED)):
        written = text(item, *(f"{own}{name}" for name in names))
        if written:
            made[field], fault = dates.read(written, field)
            faults += [fault] if fault else []
    made["faults"] = faults
    return made


def _title(parent: Element, own: str) -> str | None:
    title = parent.find(f"{own}title")
    if title is None:
        return None
    return unmarked(_markup(title)) if _kind(title) == "html" else plain(title)


def _kind(construct: Element) -> str:
    """`text`, `html` or `xhtml`: RFC 4287, section 3.1.1; Atom 0.3 says it with a media type."""
    kind = construct.get("type", "text").strip().lower()
    if kind == "text/html":
        return "xhtml" if construct.get("mode") == "xml" else "html"
    return "xhtml" if kind == "application/xhtml+xml" else kind


def _markup(construct: Element | None) -> str | None:
    if construct is None:
        return None
    div = construct.find(f"{XHTML}div")
    # RFC 4287, section 3.1.1.3: the div itself is no part of the content.
    whole = construct if div is None or _kind(construct) != "xhtml" else div
    return inner(whole)


def _author(parent: Element, own: str) -> str | None:
    found = parent.findall(f"{own}author")
    names = (text(author, f"{own}name", f"{own}email", f"{own}uri") for author in found)
    return ", ".join(filter(None, names)) or None


def _link(parent: Element, own: str, where: str, rel: str) -> str | None:
    links = [link for link in parent.findall(f"{own}link") if link.get("rel", "alternate") == rel]
    # An entry may have one for every type; the page for people goes first.
    links.sort(key=lambda link: link.get("type", "text/html") != "text/html")
    return next((_address(link, where) for link in links if link.get("href")), None)


def _address(link: Element, where: str) -> str | None:
    return joined(base(link, where), link.get("href"))


def _categories(item: Element, own: str) -> Iterator[str]:
    for category in item.findall(f"{own}category"):
        named = category.get("label") or category.get("term")
        if named:
            yield named


def _enclosures(item: Element, own: str, where: str) -> Iterator[dict[str, str | None]]:
    for link in item.findall(f"{own}link"):
        if link.get("rel") == "enclosure":
            told = {name: link.get(name) for name in ("type", "length")}
            yield {"url": _address(link, where), **told}


def _image(item: Element, where: str) -> str | None:
    thumbnail = item.find(f".//{MEDIA}thumbnail")
    return None if thumbnail is None else joined(where, thumbnail.get("url"))
