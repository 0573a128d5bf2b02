"""Lookups in the element tree of a feed."""

import re
from collections.abc import Iterable, Iterator
from html import escape, unescape
from urllib.parse import urljoin
from xml.etree.ElementTree import Element

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

_TAG = re.compile(r"<[/!?A-Za-z][^<>]*>")


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


def inner_markup(element: Element) -> str | None:
    """Return the content of the element: its text, or its markup if it has children."""
    if not len(element):
        return (element.text or "").strip() or None
    return "".join(_serialized(element, outer=False)).strip() or None


def strip_tags(markup: str | None) -> str | None:
    """Return the text of a short piece of HTML, or None."""
    return " ".join(unescape(_TAG.sub("", markup or "")).split()) or None


def xml_base(element: Element, outer: str) -> str:
    """Return the base URL inside the element; `outer` is the one around it."""
    return resolve_url(outer, element.get(f"{XML}base")) or outer


def resolve_url(outer: str, address: str | None) -> str | None:
    """Return `address` resolved against `outer`, unchanged if that fails; None for an empty one."""
    address = (address or "").strip()
    try:
        return urljoin(outer, address) if address else None
    except ValueError:
        return address


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
