"""Drafting of a recipe from one page of a JSON API. Pure."""

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any, cast
from urllib.parse import parse_qsl, urlsplit

from app.authoring.draft import RecipeDraft, source_name
from app.authoring.shapes import column_name, infer_key, infer_type
from app.sources.addresses import without_params

_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_NEXT = re.compile(r"next|next_?page(_?url)?|next_?url|next_?link", re.IGNORECASE)
_CURSOR = re.compile(
    r"(next_?|end_?)?cursor|next_?(page_?)?token|continuation(_?token)?|scroll_?id", re.IGNORECASE
)
_HAS_MORE = re.compile(r"has_?(more|next(_?page)?)|more|truncated|is_?truncated", re.IGNORECASE)
_TOTAL = re.compile(r"total(_?(count|items|results|records|num))?|count", re.IGNORECASE)
_PAGES = re.compile(r"(total_?)?pages|page_?count|last_?page|num_?pages", re.IGNORECASE)
_PAGE_PARAMS = ("page", "p", "pageNumber", "page_number")
_OFFSET_PARAMS = ("offset", "skip", "start")
_SIZE_PARAMS = ("limit", "size", "per_page", "page_size", "pageSize", "count")
_MAX_DEPTH = 6
_SAMPLE = 100  # rows
_MIN_VALUES = 3  # scalars that a single object must have to be taken for a row
_MAX_COLUMNS = 40
MAX_PAGES = 20

Object = dict[str, Any]


def draft_from_json(
    document: Any, url: str, headers: Mapping[str, str], more: Any = None
) -> RecipeDraft | None:
    """Return a draft; None if the document holds no list of objects and is not itself a row.

    `more`: the next page, if it is known; its rows count for the columns and their types.
    """
    lists = list(_lists(document)) or list(_single_row(document))
    if not lists:
        return None
    path, rows = max(lists, key=lambda found: len(found[1]) * min(len(found[1][0]), 8))
    rows_of_next = dict(_lists(more)).get(path, [])
    sample = [*rows[:_SAMPLE], *rows_of_next[:_SAMPLE]]
    fields = _fields(sample)
    samples = [{name: _at(row, keys) for name, keys in fields.items()} for row in sample]
    typed = {
        name: (".".join(map(_quoted, keys)), infer_type((s[name] for s in samples), name))
        for name, keys in fields.items()
    }
    paginate, address = _paging(document, url, headers)
    samples = samples[: len(rows[:_SAMPLE])]
    remarks = [f"Found {len(rows)} rows at {path or 'the top level'} of the response."]
    if paginate.get("type") == "cursor":
        remarks.append(f"The parameter {paginate['param']} is named after {paginate['path']}.")
    if not paginate:
        remarks.append(_no_way_on(document, len(rows)))
    return RecipeDraft(
        name=source_name(url),
        kind="json",
        url=address,
        records=path or None,
        fields=typed,
        key=tuple(infer_key(samples)),
        paginate=paginate,
        remarks=tuple(remarks),
    )


def _walk(value: Any, path: str = "", depth: int = 0) -> Iterator[tuple[str, Any]]:
    """Yield a value and the members of its objects, each with its path."""
    yield path, value
    if isinstance(value, dict) and depth < _MAX_DEPTH:
        for name, member in cast("Object", value).items():
            step = _quoted(name)
            yield from _walk(member, f"{path}.{step}" if path else step, depth + 1)


def _lists(document: Any) -> Iterator[tuple[str, list[Object]]]:
    for path, value in _walk(document):
        members = cast("list[Any]", value) if isinstance(value, list) else []
        if members and all(members) and all(isinstance(member, dict) for member in members):
            yield path, cast("list[Object]", members)


def _single_row(document: Any) -> Iterator[tuple[str, list[Object]]]:
    """Yield the document as the only row if it is one object with enough scalar values."""
    if isinstance(document, dict):
        row = cast("Object", document)
        if all(isinstance(value, dict) for value in row.values()):
            return  # probably a mapping of rows by key
        values = [_at(row, keys) for keys in _keys(row)]
        if sum(isinstance(value, str | int | float | Decimal) for value in values) >= _MIN_VALUES:
            yield "", [row]


def _fields(rows: list[Object]) -> dict[str, tuple[str, ...]]:
    """Columns and their key paths; an object within a row gives one column per member."""
    found = dict[str, tuple[str, ...]]()
    paths = dict.fromkeys(keys for row in rows for keys in _keys(row))
    objects = {first for first, *rest in paths if rest}
    for keys in paths:
        # A key that is an object in one row may be null in another: only its members are columns.
        if len(found) < _MAX_COLUMNS and (len(keys) > 1 or not objects.intersection(keys)):
            found[column_name("_".join(keys), found)] = keys
    return found


def _keys(row: Object) -> Iterator[tuple[str, ...]]:
    for name, value in row.items():
        if isinstance(value, dict) and value:
            yield from ((name, inner) for inner in cast("Object", value))
        else:
            yield (name,)


def _at(row: Object, keys: tuple[str, ...]) -> Any:
    value: Any = row
    for key in keys:
        value = cast("Object", value).get(key) if isinstance(value, dict) else None
    return value


def _quoted(name: str) -> str:
    escaped = name.replace("\\", "\\\\").replace('"', '\\"')
    return name if _PLAIN.fullmatch(name) else f'"{escaped}"'


def _paging(
    document: Any, url: str, headers: Mapping[str, str]
) -> tuple[dict[str, str | int], str]:
    """The values of [paginate], and the URL without the parameters that it controls."""
    if re.search(r'rel="?next"?', headers.get("link", "")):
        return {"type": "link_header", "max_pages": MAX_PAGES}, url
    for path, value in _scalars(document):
        last = path.rpartition(".")[2].strip('"')
        address = isinstance(value, str) and value.startswith(("http://", "https://", "/", "?"))
        if address and (_NEXT.fullmatch(last) or path.endswith("next.href")):
            return {"type": "next", "path": path, "max_pages": MAX_PAGES}, url
        if type(value) is int and value > 1 and _NEXT.fullmatch(last):
            paginate = {"type": "cursor", "path": path, "param": "page", "max_pages": MAX_PAGES}
            return paginate, without_params(url, ("page",))
        if value and not address and _CURSOR.fullmatch(last):
            param = _cursor_param(last)
            paginate = {"type": "cursor", "path": path, "param": param, "max_pages": MAX_PAGES}
            return paginate, without_params(url, (param,))
    return _by_params(url)


def _no_way_on(document: Any, rows: int) -> str:
    """Return a remark that says whether the page names further pages in a way of its own."""
    for path, value in _scalars(document):
        last = path.rpartition(".")[2].strip('"')
        more = value is True and _HAS_MORE.fullmatch(last)
        total = type(value) is int and value > rows and _TOTAL.fullmatch(last)
        if more or total or (type(value) is int and value > 1 and _PAGES.fullmatch(last)):
            said = f"{path} is {str(value).lower()}"
            return f"There are further pages ({said}), and no link to them: see [paginate]."
    return "Found no link to further pages; see [paginate] if there are any."


def _cursor_param(name: str) -> str:
    """The parameter that takes a cursor of this name: `pageToken` for `nextPageToken`."""
    if name.lower() in ("endcursor", "end_cursor"):
        return "after"
    bare = re.sub(r"^next_?", "", name, flags=re.IGNORECASE) or name
    return name if bare.lower() == "token" else bare[0].lower() + bare[1:]


def _by_params(url: str) -> tuple[dict[str, str | int], str]:
    params = dict(parse_qsl(urlsplit(url).query))
    sizes = [name for name in _SIZE_PARAMS if params.get(name, "").isdecimal()]
    for name in _PAGE_PARAMS:
        if params.get(name, "").isdecimal():
            start = 0 if params[name] == "0" else 1
            paginate = {"type": "page", "param": name, "start": start, "max_pages": MAX_PAGES}
            return paginate, without_params(url, (name,))
    for name in _OFFSET_PARAMS:
        if params.get(name, "").isdecimal() and sizes:
            paginate: dict[str, str | int] = {
                "type": "offset",
                "param": name,
                "size": int(params[sizes[0]]),
                "size_param": sizes[0],
                "max_pages": MAX_PAGES,
            }
            return paginate, without_params(url, (name, sizes[0]))
    return {}, url


def _scalars(document: Any) -> Iterator[tuple[str, Any]]:
    return ((path, v) for path, v in _walk(document) if path and isinstance(v, str | int))
