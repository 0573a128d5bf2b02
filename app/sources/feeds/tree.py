"""Lookups in the element tree of a feed."""

import re
from collections.abc import Iterable, Iterator
from html import escape, unescape
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

from app.sources.addresses import NO_PAGE_SCHEMES

XML = "{http://www.w3.org/XML/1998/namespace}"
DC = "{http://purl.org/dc/elements/1.1/}"
TERMS = "{http://purl.org/dc/terms/}"
CONTENT = "{http://purl.org/rss/1.0/modules/content/}"
SYNDICATION = "{http://purl.org/rss/1.0/modules/syndication/}"
ITUNES = "{http://www.itunes.com/dtds/podcast-1.0.dtd}"
MEDIA = "{http://search.yahoo.com/mrss/}"
ATOM = "{http://www.w3.org/2005/Atom}"
RDF = "{http://www.w3.org/1999/02/22-rdf-syntax-ns#}"
XHTML = "{http://www.w3.org/1999/xhtml}"
FEEDBURNER = "{http://rssnamespace.org/feedburner/ext/1.0}"

_TAG = re.compile(r"<[/!?A-Za-z][^<>]*>")
_HIDDEN = re.compile(r"<(script|style)\b.*?</\1\s*>", re.IGNORECASE | re.DOTALL)
_PARTING = re.compile(
    r"</?(?:br|p|div|li|tr|td|th|dd|dt|h[1-6]|blockquote|hr)\b[^<>]*>", re.IGNORECASE
)
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9A-Fa-f]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});")
_LINE_BREAK = re.compile(r"[\t\r\n]+[ \t]*")


def _namespace_key(name: str) -> str:
    return name.lower().partition("://")[2].rstrip("/#")


# Feeds write these names in any case, with https, and without the last character.
_NAMESPACES = {
    _namespace_key(space[1:-1]): space[1:-1]
    for space in (DC, TERMS, CONTENT, SYNDICATION, ITUNES, MEDIA, ATOM, RDF, XHTML, FEEDBURNER)
} | {"search.yahoo.com/mrss/rss": MEDIA[1:-1], "purl.org/dc/elements/1.0": DC[1:-1]}


def canonical_namespace(name: str) -> str:
    """Return the name of a namespace as its specification writes it, if it is a known one."""
    return _NAMESPACES.get(_namespace_key(name), name)


def local_name(element: Element) -> str:
    """Return the name of the element without its namespace."""
    return element.tag.rpartition("}")[2]


def namespace_prefix(element: Element) -> str:
    """Return the namespace of the element as a name prefix: `{…}`, or an empty string."""
    return element.tag[: element.tag.rindex("}") + 1] if "}" in element.tag else ""


def children(parent: Element, names: Iterable[str]) -> Iterator[Element]:
    """Yield the children with any of these names, in the order of `names`."""
    for name in names:
        yield from parent.findall(name)


def child_text(parent: Element, *names: str) -> str | None:
    """Return the text of the first child with one of these names that has text, or None."""
    return next(filter(None, (element_text(child) for child in children(parent, names))), None)


def element_text(element: Element) -> str | None:
    """Return all text in the element with blanks collapsed, or None."""
    return " ".join("".join(element.itertext()).split()) or None


def all_texts(parent: Element, *names: str) -> str | None:
    """Return the texts of all children with the first of these names that any has text in."""
    for name in names:
        texts = dict.fromkeys(filter(None, map(element_text, parent.findall(name))))
        if texts:
            return ", ".join(texts)
    return None


def plain_text(text: str | None) -> str | None:
    """Return the text of an element that is meant as text, with HTML entities resolved once."""
    if text is None:
        return None
    return " ".join(_ENTITY.sub(lambda found: unescape(found[0]), text).split()) or None


def inner_markup(element: Element, *, escaped: bool = False) -> str | None:
    """Return the content of the element: its text, or its markup if it has children.

    `escaped`: the element holds markup, so its text is escaped also where it has no children.
    """
    if not len(element) and not escaped:
        return (element.text or "").strip() or None
    return "".join(_serialized(element, outer=False)).strip() or None


def strip_tags(markup: str | None) -> str | None:
    """Return the text of a short piece of HTML, or None. Line breaks and blocks part words."""
    text = _PARTING.sub(" ", _HIDDEN.sub("", markup or ""))
    return " ".join(unescape(_TAG.sub("", text)).split()) or None


def xml_base(element: Element, outer: str) -> str:
    """Return the base URL inside the element; `outer` is the one around it."""
    return resolve_url(outer, element.get(f"{XML}base")) or outer


def resolve_url(outer: str, address: str | None) -> str | None:
    """Return `address` resolved against `outer`, unchanged if that fails; None for an empty one.

    None also for a script or a placeholder. A blank in it becomes `%20`, as in browsers.
    """
    address = _LINE_BREAK.sub("", (address or "").strip()).replace(" ", "%20")
    if not address or address.lower().startswith(NO_PAGE_SCHEMES):
        return None
    try:
        return urljoin(outer, address)
    except ValueError:
        return address


def child_url(parent: Element, outer: str, *names: str) -> str | None:
    """Return the URL in the first child with one of these names that has text, or None."""
    texts = ("".join(child.itertext()) for child in children(parent, names))
    return next((resolve_url(outer, text) for text in texts if text.strip()), None)


def media_enclosures(item: Element, outer: str) -> Iterator[dict[str, str | None]]:
    """Yield the files of Media RSS, in the item or a group of it."""
    for found in item.iterfind(f".//{MEDIA}content"):
        url = resolve_url(outer, found.get("url"))
        if url:
            yield {"url": url, "type": found.get("type"), "length": found.get("fileSize")}


def distinct(enclosures: Iterable[dict[str, str | None]]) -> list[dict[str, str | None]]:
    """Return the enclosures without those of a URL that came before."""
    by_url: dict[str | None, dict[str, str | None]] = {}
    for enclosure in enclosures:
        by_url.setdefault(enclosure["url"], enclosure)
    return list(by_url.values())


def media_image(item: Element, outer: str) -> str | None:
    """Return the URL of the thumbnail or image of Media RSS, or None."""
    for found in item.iterfind(f".//{MEDIA}thumbnail"):
        if found.get("url"):
            return resolve_url(outer, found.get("url"))
    for found in item.iterfind(f".//{MEDIA}content"):
        if found.get("medium") == "image" or (found.get("type") or "").startswith("image/"):
            return resolve_url(outer, found.get("url"))
    return None


def media_description(item: Element) -> str | None:
    """Return the description of Media RSS, or None."""
    return next(filter(None, map(inner_markup, item.iterfind(f".//{MEDIA}description"))), None)


def _serialized(element: Element, *, outer: bool = True) -> Iterator[str]:
    name = local_name(element)
    if outer:
        attributes = "".join(f' {key}="{escape(value)}"' for key, value in _attributes(element))
        yield f"<{name}{attributes}>" if element.text or len(element) else f"<{name}{attributes} />"
    yield escape(element.text or "", quote=False)
    for child in element:
        yield from _serialized(child)
        yield escape(child.tail or "", quote=False)
    if outer and (element.text or len(element)):
        yield f"</{name}>"


def _attributes(element: Element) -> Iterator[tuple[str, str]]:
    return ((key.rpartition("}")[2], value) for key, value in element.attrib.items())
