"""A recipe for a page made for people, drafted from what repeats in it. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

from app.authoring.draft import Draft, name_of
from app.authoring.shapes import column, key_of
from app.errors import Failure
from app.recipes.htmlpages import parsed, selected
from app.recipes.words import FieldType

_SAFE = re.compile(r"-?[A-Za-z_][A-Za-z0-9_-]*")
_IDLE = frozenset({"script", "style", "option", "br", "link", "meta", "path", "head"})
_NAMES = {"href": "url", "src": "image", "datetime": "at", "title": "title"}
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_ATTRIBUTES = (
    ("a", "href", FieldType.URL),
    ("a", "title", FieldType.STRING),
    ("img", "src", FieldType.URL),
    ("time", "datetime", FieldType.STRING),
)
_FEWEST = 3
_MOST_FIELDS = 12
_OFTEN = 0.6  # share of the records that have a field

Element = Any


def drafted(body: bytes, url: str, content_type: str | None) -> Draft | None:
    """A draft; None if nothing in the page repeats."""
    try:
        root = parsed(body, content_type)
    except Failure:
        return None
    best = max(_groups(root), key=lambda group: _weight(group[1]), default=None)
    if best is None:
        return None
    records, elements = best
    fields, samples = _fields(elements)
    if not fields:
        return None
    remarks = [f"{len(elements)} records were found: {records}"]
    remarks.append("Look at the selectors; a site may change them. `source try` shows the rows.")
    return Draft(
        name=name_of(url),
        kind="html",
        url=url,
        records=records,
        fields=fields,
        key=tuple(key_of(samples)),
        remarks=tuple(remarks),
    )


def feeds(body: bytes, content_type: str | None) -> list[str]:
    """The addresses of the feeds that a page offers, as they stand in it."""
    try:
        root = parsed(body, content_type)
    except Failure:
        return []
    query = (
        "//link[contains(@rel, 'alternate') and (contains(@type, 'rss')"
        " or contains(@type, 'atom') or contains(@type, 'feed+json'))]/@href"
    )
    return [str(href) for href in selected(query, root)]


def _groups(root: Element) -> Iterator[tuple[str, list[Element]]]:
    """Elements that look alike below one parent, and the selector that finds them all."""
    for parent in root.iter():
        alike = defaultdict[str, list[Element]](list)
        for child in _children(parent):
            if child.tag not in _IDLE:
                alike[_step(child)].append(child)
        for step, members in alike.items():
            if len(members) >= _FEWEST:
                selector = f"{_step(parent)} > {step}"
                found = selected(selector, root)
                if len(found) <= len(members) * 2:
                    yield selector, found


def _children(element: Element) -> list[Element]:
    return [child for child in cast("Sequence[Any]", element) if isinstance(child.tag, str)]


def _step(element: Element) -> str:
    """One step of a selector: the tag, with its id or those of its classes that are names."""
    named = element.get("id") or ""
    if _SAFE.fullmatch(named):
        return f"{element.tag}#{named}"
    classes = [word for word in (element.get("class") or "").split() if _SAFE.fullmatch(word)]
    kept = [word for word in classes if not re.search(r"\d|active|first|last|odd|even", word)]
    return ".".join([element.tag, *kept[:2]])


def _weight(elements: Sequence[Element]) -> float:
    """How much a group looks like a list of records: many, and each with text of its own."""
    texts = [" ".join("".join(e.itertext()).split()) for e in elements]
    different = len(set(texts)) / len(texts)
    parts = [sum(1 for _ in e.iter()) for e in elements]
    links = sum(1 for e in elements if selected("(self::a | .//a)[@href]", e))
    typical = sorted(map(len, texts))[len(texts) // 2]
    if typical < _FEWEST or different < _OFTEN:
        return 0.0
    rich = min(typical, 400) ** 0.5 * min(sorted(parts)[len(parts) // 2], 30)
    aside = any(a.tag in ("nav", "header", "footer") for a in elements[0].iterancestors())
    nav = 0.2 if aside else 1.0
    return min(len(elements), 100) * rich * different * nav * (1 + links / len(elements))


def _fields(
    elements: Sequence[Element],
) -> tuple[dict[str, tuple[str, FieldType]], list[dict[str, Any]]]:
    counted = Counter(path for element in elements for path in dict(_paths(element)))
    kinds = {path: kind for element in elements for path, kind in _paths(element)}
    often = [p for p, n in counted.items() if n >= len(elements) * _OFTEN][: _MOST_FIELDS * 2]
    fields, seen = dict[str, tuple[str, FieldType]](), set[tuple[str, ...]]()
    rows = [dict[str, Any]() for _ in elements]
    for path in often:
        values = tuple(_first(path, element) for element in elements)
        if values in seen or not any(values) or len(fields) >= _MOST_FIELDS:
            continue
        seen.add(values)
        name = column(_name(path), fields)
        fields[name] = (path, kinds[path])
        for row, value in zip(rows, values, strict=True):
            row[name] = value or None
    return fields, rows


def _paths(element: Element) -> Iterator[tuple[str, FieldType]]:
    if element.tag == "a" and element.get("href"):
        yield "./@href", FieldType.URL
    for inner in element.iter():
        if inner is not element and isinstance(inner.tag, str) and inner.tag not in _IDLE:
            yield from _of_inner(inner)
    if not _children(element) or (element.text or "").strip():
        yield "./text()", FieldType.STRING


def _of_inner(inner: Element) -> Iterator[tuple[str, FieldType]]:
    step = _cell(inner) if inner.tag in ("td", "th") else _step(inner)
    for tag, attribute, kind in _ATTRIBUTES:
        if inner.tag == tag and inner.get(attribute):
            yield f"{step}::attr({attribute})", kind
    if any(text.strip() for text in (inner.text or "", *(c.tail or "" for c in inner))):
        yield step, FieldType.STRING


def _cell(inner: Element) -> str:
    """A cell of a table by its place in the row, if it has no name of its own."""
    step = _step(inner)
    if step != inner.tag:
        return step
    return f"{step}:nth-child({len(list(inner.itersiblings(preceding=True))) + 1})"


def _first(path: str, element: Element) -> str:
    for value in selected(path, element):
        text = value if isinstance(value, str) else "".join(value.itertext())
        if text.strip():
            return " ".join(text.split())
    return ""


def _name(path: str) -> str:
    step, _, attribute = path.partition("::attr(")
    told = attribute.rstrip(")") or ("href" if path == "./@href" else "")
    if told in _NAMES:
        return _NAMES[told]
    place = re.search(r":nth-child\((\d+)\)$", step)
    if place:
        return f"column_{place[1]}"
    words = step.strip("./@").replace("text()", "text").split(".")
    if len(words) > 1:
        return words[-1]
    tag = words[0].partition("#")[0]
    return "title" if tag in _HEADINGS or tag == "a" else tag
