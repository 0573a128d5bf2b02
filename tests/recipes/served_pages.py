"""Pages of recipes of each kind, as a list served by a transport."""

import json
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

from app.core.messages import SourceRequest
from app.sources.recipes.load import load
from app.sources.recipes.source import RecipeSource

PAGES = 4
SIZE = 3
KINDS = {
    "page": 'type = "page"\nmax_pages = 9',
    "offset": 'type = "offset"\nsize = 3\nmax_pages = 9',
    "cursor": 'type = "cursor"\npath = "meta.cursor"\nmax_pages = 9',
    "next": 'type = "next"\npath = "meta.next"\nmax_pages = 9',
    "link_header": 'type = "link_header"\nmax_pages = 9',
}


RECIPE = """
name = "paged"
kind = "{form}"
url = "https://site.test/list"
[paginate]
{paging}
[extract]
records = "{records}"
[extract.fields]
id = "{id}"
[store]
key = "id"
"""


@dataclass(frozen=True)
class Response:
    """What the site answers to one request."""

    body: str | bytes
    status: int = 200
    link: str = ""
    media_type: str = ""


def rows_of(number: int) -> list[str]:
    return [f"{number}{letter}" for letter in "abc"] if 1 <= number <= PAGES else []


def json_page(number: int, rows: Iterable[str] | None = None, **more: Any) -> Response:
    """Page `number` of the list; past the end its list is empty."""
    following = f"/list?page={number + 1}" if number < PAGES else None
    listed = [{"id": row} for row in (rows_of(number) if rows is None else rows)]
    meta = {"cursor": str(number + 1) if following else None, "next": following}
    body = {"items": listed, "meta": meta, **more}
    return Response(json.dumps(body), link=f'<{following}>; rel="next"' if following else "")


def html_page(number: int, rows: Iterable[str] | None = None) -> Response:
    following = f"/list?page={number + 1}" if number < PAGES else None
    listed = "".join(f"<li>{row}</li>" for row in (rows_of(number) if rows is None else rows))
    onward = f'<a class="next" href="{following}">next</a>' if following else ""
    link = f'<{following}>; rel="next"' if following else ""
    return Response(f'<body><ul class="rows">{listed}</ul>{onward}</body>', link=link)


def page_number(request: SourceRequest) -> int:
    query = {name: values[0] for name, values in parse_qs(urlsplit(request.url).query).items()}
    if "offset" in query:
        return int(query["offset"]) // SIZE + 1
    return int(query.get("page") or query.get("cursor") or 1)


def source_of(kind: str, form: str = "json", **more: str) -> RecipeSource:
    paging = "\n".join([KINDS[kind], *(f"{name} = {value}" for name, value in more.items())])
    html = {"records": "ul.rows > li", "id": "./text()"}
    if form == "html":
        paging = paging.replace("meta.next", "a.next::attr(href)")
    paths = html if form == "html" else {"records": "items", "id": "id"}
    return RecipeSource(load(RECIPE.format(form=form, paging=paging, **paths)))


def served(middle: Response, at: int = 3) -> Callable[[SourceRequest], Response]:
    """The site, which answers `middle` to the request for page `at`."""
    return lambda request: middle if page_number(request) == at else json_page(page_number(request))


ERROR = '{"error": {"code": 500, "message": "try again"}}'


class MovingList:
    """A list of three rows a page, which is changed by `move` right before page `at` is served."""

    def __init__(
        self, form: str, at: int, move: Callable[[list[str]], list[str]], *, total: bool = False
    ) -> None:
        self.rows = [row for number in range(1, PAGES + 1) for row in rows_of(number)]
        self.form, self.at, self.move, self.total = form, at, move, total
        self.served: list[int] = []

    def __call__(self, request: SourceRequest) -> Response:
        number = page_number(request)
        if number == self.at and number not in self.served:
            self.rows = self.move(self.rows)
        self.served.append(number)
        offset = parse_qs(urlsplit(request.url).query).get("offset")
        start = int(offset[0]) if offset else (number - 1) * SIZE
        rows = self.rows[start : start + SIZE]
        more = {"total": len(self.rows)} if self.total else {}
        return json_page(number, rows, **more) if self.form == "json" else html_page(number, rows)


def without(*left: str, joined: Sequence[str] = ()) -> Callable[[list[str]], list[str]]:
    return lambda rows: [row for row in rows if row not in left] + list(joined)
