"""Drafting of a recipe from an HTML page, by its repeating elements. Pure."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from typing import Any, cast

from app.authoring.draft import RecipeDraft, source_name
from app.authoring.shapes import column_name, infer_key
from app.core.errors import Failure
from app.sources.recipes.enums import FieldType
from app.sources.recipes.htmlpages import parse_html, select, text_of

_IDENTIFIER = re.compile(r"-?[A-Za-z_][A-Za-z0-9_-]*")
_WITHOUT_DATA = frozenset({"script", "style", "option", "br", "link", "meta", "path", "head"})
# Of an image that a script loads later.
_LAZY = ("data-src", "data-original", "data-lazy-src", "data-lazy", "data-image", "data-url")
_LAZY_SETS = ("data-srcset", "data-lazy-srcset")  # of several sizes
_FIRST_OF_SET = "(substring-before(concat(normalize-space(.//img/@{name}), ' '), ' '))"
_NAMES = {
    "href": "url",
    "src": "image",
    "datetime": "at",
    "title": "title",
    **dict.fromkeys(_LAZY, "image"),
}
MAX_PAGES = 20
_NEXT_LINKS = (
    'a[rel~="next"]::attr(href)',
    'link[rel~="next"]::attr(href)',
    "a.next::attr(href)",
    ".next > a::attr(href)",
    "a.next-page::attr(href)",
    'a[aria-label^="Next" i]::attr(href)',
    'a[title^="Next" i]::attr(href)',
)
_NEXT_TEXT = re.compile(
    r"[\W_]*(?:next|next page|older|older (?:posts|entries)|more|load more|weiter"
    r"|nächste(?: seite)?|suivante?|page suivante|siguiente|successiva|volgende|próxima)[\W_]*"
    "|[\u203a\u00bb\u2192>]{1,2}",
    re.IGNORECASE,
)
_MAX_NEXT_TEXT = 30
_HEADINGS = frozenset({"h1", "h2", "h3", "h4", "h5", "h6"})
_ATTRIBUTES = (
    ("a", "href", FieldType.URL),
    ("a", "title", FieldType.STRING),
    *(("img", name, FieldType.URL) for name in (*_LAZY, "src")),
    ("time", "datetime", FieldType.STRING),
)
_MIN_RECORDS = 3
_MIN_PAGE_TEXT = 400  # characters of a page that is more than the frame for its scripts
_MIN_TEXT = 3  # characters of a typical record
_MAX_FIELDS = 12
_MIN_SHARE = 0.6  # of the records that must have a field, and that must differ in text

Element = Any


def draft_from_html(body: bytes, url: str, content_type: str | None) -> RecipeDraft | None:
    """Return a draft; None if no element of the page repeats."""
    try:
        root = parse_html(body, content_type)
    except Failure:
        return None
    best = max(_groups(root), key=lambda group: _score(group[1]), default=None)
    if best is None:
        return None
    records, elements = best
    fields, samples = _fields(elements)
    if not fields:
        return None
    remarks = [f"Found {len(elements)} records: {records}"]
    remarks.append("Check the selectors; a site may change them. `source try` shows the rows.")
    paginate = _paging(root)
    if not paginate:
        remarks.append("Found no link to further pages; see [paginate] if there are any.")
    return RecipeDraft(
        name=source_name(url),
        kind="html",
        url=url,
        records=records,
        fields=fields,
        key=tuple(infer_key(samples)),
        paginate=paginate,
        remarks=(*remarks, *embedded_data(root)),
    )


def _paging(root: Element) -> dict[str, str | int]:
    """The values of [paginate] for a page that links to the next one, by relation or text."""
    for path in (*_NEXT_LINKS, *_links_by_text(root)):
        found = {str(href) for href in select(path, root)}
        if len(found) == 1 and not found.pop().startswith(("#", "javascript:")):
            return {"type": "next", "path": path, "max_pages": MAX_PAGES}
    return {}


def _links_by_text(root: Element) -> Iterator[str]:
    """Yield the XPath of the links whose text says that they lead to the next page."""
    for link in select("//a[@href]", root):
        text = text_of(link)
        if len(text) <= _MAX_NEXT_TEXT and _NEXT_TEXT.fullmatch(text):
            yield f'//a[normalize-space()="{text}"]/@href'


def embedded_data(root: Element) -> list[str]:
    """Return a remark for each place of the page where its data stands as JSON."""
    remarks = list[str]()
    if select("//script[@type='application/ld+json']", root):
        remarks.append("The page has data as JSON-LD in script[type='application/ld+json'].")
    names = [str(name) for name in select("//script[@type='application/json']/@id", root)]
    remarks += [f"The page has data as JSON in script#{name}." for name in names[:3] if name]
    return remarks


def hints(body: bytes, content_type: str | None) -> list[str]:
    """Return what a page without a list says about where its data is."""
    try:
        root = parse_html(body, content_type)
    except Failure:
        return []
    found = embedded_data(root)
    is_empty = len(text_of(root)) < _MIN_PAGE_TEXT
    if is_empty and select("//script", root):
        found.append("The page is built by scripts: look for the API that they call.")
    return found


def feed_links(body: bytes, content_type: str | None) -> list[str]:
    """Return the URLs of the feeds that a page links to, unresolved."""
    try:
        root = parse_html(body, content_type)
    except Failure:
        return []
    query = (
        "//link[contains(@rel, 'alternate') and (contains(@type, 'rss')"
        " or contains(@type, 'atom') or contains(@type, 'feed+json'))]/@href"
    )
    return [str(href) for href in select(query, root)]


def _groups(root: Element) -> Iterator[tuple[str, list[Element]]]:
    """Yield groups of similar elements below one parent, each with the selector that finds it."""
    for parent in root.iter():
        similar = defaultdict[str, list[Element]](list)
        for child in _children(parent):
            if child.tag not in _WITHOUT_DATA:
                similar[_step(child)].append(child)
        for step, members in similar.items():
            if len(members) >= _MIN_RECORDS:
                selector = f"{_step(parent)} > {step}"
                found = select(selector, root)
                # Rows of two kinds alternate in some tables; a selector that finds both is none.
                beside = sum(element.getparent() is parent for element in found) - len(members)
                if not beside and len(found) <= len(members) * 2:
                    yield selector, found


def _children(element: Element) -> list[Element]:
    return [child for child in cast("Sequence[Any]", element) if isinstance(child.tag, str)]


def _step(element: Element) -> str:
    """One step of a selector: the tag, with its id or its first two stable classes."""
    element_id = element.get("id") or ""
    if _IDENTIFIER.fullmatch(element_id):
        return f"{element.tag}#{element_id}"
    classes = [name for name in (element.get("class") or "").split() if _IDENTIFIER.fullmatch(name)]
    stable = [name for name in classes if not re.search(r"\d|active|first|last|odd|even", name)]
    return ".".join([element.tag, *stable[:2]])


def _score(elements: Sequence[Element]) -> float:
    """How much a group looks like a list of records: many, each with different text and links."""
    texts = [text_of(e) for e in elements]
    different = len(set(texts)) / len(texts)
    parts = [sum(1 for _ in e.iter()) for e in elements]
    links = sum(1 for e in elements if select("(self::a | .//a)[@href]", e))
    typical = sorted(map(len, texts))[len(texts) // 2]
    if typical < _MIN_TEXT or different < _MIN_SHARE:
        return 0.0
    rich = min(typical, 400) ** 0.5 * min(sorted(parts)[len(parts) // 2], 30)
    is_navigation = any(a.tag in ("nav", "header", "footer") for a in elements[0].iterancestors())
    place = 0.2 if is_navigation else 1.0
    return min(len(elements), 100) * rich * different * place * (1 + links / len(elements))


def _fields(
    elements: Sequence[Element],
) -> tuple[dict[str, tuple[str, FieldType]], list[dict[str, Any]]]:
    counted = Counter(path for element in elements for path in dict(_paths(element)))
    kinds = {path: kind for element in elements for path, kind in _paths(element)}
    minimum = len(elements) * _MIN_SHARE
    frequent = [path for path, n in counted.items() if n >= minimum][: _MAX_FIELDS * 2]
    fields, seen = dict[str, tuple[str, FieldType]](), set[tuple[str, ...]]()
    rows = [dict[str, Any]() for _ in elements]
    # A link with one text in all records, such as "share", is not the record's own.
    for path in sorted(frequent, key=lambda path: _is_action(path, elements)):
        values = tuple(_first(path, element) for element in elements)
        if values in seen or not any(values) or len(fields) >= _MAX_FIELDS:
            continue
        seen.add(values)
        name = column_name(_name(path), fields)
        fields[name] = (path, kinds[path])
        for row, value in zip(rows, values, strict=True):
            row[name] = value or None
    return fields, rows


def _is_action(path: str, elements: Sequence[Element]) -> bool:
    step, attribute, _ = path.partition("::attr(href)")
    texts = {_first(step, element) for element in elements} if attribute else set[str]()
    return len(texts) == 1 and texts != {""}


def _paths(element: Element) -> Iterator[tuple[str, FieldType]]:
    if element.tag == "a" and element.get("href"):
        yield "./@href", FieldType.URL
    for inner in element.iter():
        if inner is not element and isinstance(inner.tag, str) and inner.tag not in _WITHOUT_DATA:
            yield from _paths_of_inner(inner, element)
    if not _children(element) or (element.text or "").strip():
        yield "./text()", FieldType.STRING


def _paths_of_inner(inner: Element, record: Element) -> Iterator[tuple[str, FieldType]]:
    has_words = any(map(str.isalnum, text_of(inner)))
    if inner.tag == "a" and not has_words and inner.find(".//img") is None:
        return  # an arrow to vote, an anchor
    step = _element_step(inner)
    if inner not in select(step, record)[:1] and inner.getparent() is not record:
        step = f"{_element_step(inner.getparent())} > {step}"
    if select(step, record)[:1] != [inner]:
        return  # the selector finds another element first
    is_lazy = any(inner.get(name) for name in _LAZY)
    if inner.tag == "img" and not is_lazy:
        for name in _LAZY_SETS:
            if inner.get(name):
                is_lazy = True
                yield _FIRST_OF_SET.format(name=name), FieldType.URL
    for tag, attribute, kind in _ATTRIBUTES:
        if inner.tag == tag and inner.get(attribute) and not (is_lazy and attribute == "src"):
            yield f"{step}::attr({attribute})", kind
    if any(text.strip() for text in (inner.text or "", *(c.tail or "" for c in inner))):
        yield step, FieldType.STRING


def _element_step(inner: Element) -> str:
    """One step for an element: a table cell by its position if it has no id or class."""
    step = _step(inner)
    if step != inner.tag or inner.tag not in ("td", "th"):
        return step
    return f"{step}:nth-child({len(list(inner.itersiblings(preceding=True))) + 1})"


def _first(path: str, element: Element) -> str:
    for value in select(path, element):
        text = value if isinstance(value, str) else text_of(value)
        if text.strip():
            return " ".join(text.split())
    return ""


def _name(path: str) -> str:
    step, _, attribute = path.partition("::attr(")
    attribute = attribute.rstrip(")") or ("href" if path == "./@href" else "")
    if attribute in _NAMES:
        return _NAMES[attribute]
    if path.startswith("(substring-before"):
        return "image"
    position = re.search(r":nth-child\((\d+)\)$", step)
    if position:
        return f"column_{position[1]}"
    words = step.rpartition(" > ")[2].strip("./@").replace("text()", "text").split(".")
    if len(words) > 1:
        return words[-1]
    tag = words[0].partition("#")[0]
    return "title" if tag in _HEADINGS or tag == "a" else tag
