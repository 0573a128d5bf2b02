"""A listing ends where its end was seen: every kind of paging, and what is served in the middle."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from app.core.errors import Failure, HttpStatus, Incomplete
from app.core.messages import Partition, RawPage, SourceRequest
from app.core.records import Item
from app.sources.base import ListingEnd
from app.sources.recipes.load import load
from app.sources.recipes.source import RecipeSource
from tests.clock import NOON
from tests.recipes.served_pages import (
    ERROR,
    KINDS,
    PAGES,
    RECIPE,
    SIZE,
    MovingList,
    Response,
    html_page,
    json_page,
    page_number,
    rows_of,
    served,
    source_of,
    without,
)

PART = Partition("all")


@dataclass
class Read:
    """How a listing was read: its end or its failure, the keys of its rows, and the requests."""

    end: ListingEnd | Failure
    keys: list[str]
    requests: list[SourceRequest]


def read(source: RecipeSource, site: Callable[[SourceRequest], Response]) -> Read:
    """Read the listing as the collector does."""
    asking = source.pages(PART)
    keys: list[str] = []
    requests: list[SourceRequest] = []
    try:
        request = next(asking)
        while True:
            if not request.check_page:
                requests.append(request)
            response = site(request)
            if response.status >= 400:
                error = HttpStatus(f"HTTP {response.status}", status=response.status)
                request = asking.throw(error)
                continue
            body = response.body.encode() if isinstance(response.body, str) else response.body
            headers = {"link": response.link} if response.link else {}
            headers["content-type"] = response.media_type or "application/json; charset=utf-8"
            number = request.check_page or len(requests)
            raw = RawPage(body, response.status, request.url, headers, NOON, PART, number)
            if request.check_page:
                request = asking.send(raw)
                continue
            keys += [record.key for record in source.parse(raw) if isinstance(record, Item)]
            request = asking.send(raw)
    except StopIteration as stop:
        return Read(stop.value, keys, requests)
    except Failure as failure:
        return Read(failure, keys, requests)


EMPTY = '{"items": [], "meta": {"cursor": null, "next": null}, %s}'
SAYS_ERROR = (
    '"error": {"message": "rate limited"}',
    '"error": "Too many requests"',
    '"errors": [{"message": "timeout"}]',
    '"success": false',
    '"ok": 0',
    '"status": "error"',
    '"code": 503',
    '"statusCode": "500"',
)
SAYS_NOTHING = (
    '"error": null',
    '"errors": []',
    '"error": "0"',
    '"ok": true',
    '"status": "done"',
    '"code": 200',
)
NO_END = {
    "an error with 200": Response(ERROR),
    "the list is null": Response('{"items": null, "meta": {"cursor": null, "next": null}}'),
    "the list is a text": Response('{"items": "none", "meta": {"cursor": null, "next": null}}'),
    "an object in place of the list": Response('{"items": {"error": "x"}, "meta": {}}'),
    "members that are no records": Response('{"items": ["blocked"], "meta": {}}'),
    "a list of errors": Response('{"items": [{"error": "rate limited"}], "meta": {}}'),
    "nothing": Response(""),
    "null": Response("null"),
    "an empty object": Response("{}"),
    "an empty document list": Response("[]"),
    "not JSON": Response("<html><form>Are you human?</form></html>"),
    "204": Response("", 204),
    "400": Response("", 400),
    "404": Response("", 404),
    "416": Response("", 416),
    "page 1 again": json_page(1),
    "page 2 again": json_page(2),
    **{f"an empty list with {said}": Response(EMPTY % said) for said in SAYS_ERROR},
    "another media type": Response(
        '{"items": [], "meta": {"cursor": null}}', media_type="text/html"
    ),
    "a part with errors": Response(
        '{"items": [{"id": "3a"}], "errors": [{"message": "timeout"}], "meta": {"cursor": null}}'
    ),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("middle", NO_END)
def test_what_is_no_page_of_the_list_is_not_its_end(kind: str, middle: str) -> None:
    got = read(source_of(kind), served(NO_END[middle]))

    assert isinstance(got.end, Failure)
    assert set(got.keys) <= {key for number in range(1, PAGES + 1) for key in rows_of(number)}


@pytest.mark.parametrize("said", SAYS_ERROR)
def test_an_error_beside_an_empty_list_is_none_wherever_the_list_is(said: str) -> None:
    recipe = RECIPE.format(form="json", paging=KINDS["page"], records="data.items", id="id")
    source = RecipeSource(load(recipe))
    pages = ['{"data": {"items": [{"id": 1}]}}', '{"data": {"items": [], ' + said + "}}"]

    got = read(source, lambda request: Response(pages[page_number(request) > 1]))

    assert isinstance(got.end, Incomplete), got.end


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("said", SAYS_NOTHING)
def test_an_empty_list_is_the_end_if_the_page_says_that_all_is_well(kind: str, said: str) -> None:
    got = read(source_of(kind), served(Response(EMPTY % said)))

    assert isinstance(got.end, ListingEnd), got.end


@pytest.mark.parametrize("kind", KINDS)
def test_records_of_a_first_page_that_have_no_key_are_no_part_of_the_list(kind: str) -> None:
    more = {"cursor": "2", "next": "/list?page=2"}
    blocked = json.dumps({"items": [{"error": "blocked"}], "meta": more})
    link = '</list?page=2>; rel="next"'

    got = read(source_of(kind), served(Response(blocked, link=link), 1))

    assert isinstance(got.end, Incomplete)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("at", [1, 2, 3, 4])
def test_an_error_body_is_not_the_end_on_any_page(kind: str, at: int) -> None:
    assert isinstance(read(source_of(kind), served(Response(ERROR), at)).end, Failure)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["json", "html"])
def test_a_whole_list_is_read_to_its_end(kind: str, form: str) -> None:
    if form == "html" and kind == "cursor":
        return
    page = html_page if form == "html" else json_page

    got = read(source_of(kind, form), lambda request: page(page_number(request)))

    assert isinstance(got.end, ListingEnd)
    assert got.end.whole
    assert got.keys == [key for number in range(1, PAGES + 1) for key in rows_of(number)]


CAPTCHAS = {
    "a form": "<html><body><form>Are you human?</form></body></html>",
    "another list": "<html><body><ul class='menu'><li>Home</li></ul></body></html>",
    "no rows in a bare list": "<html><body><ul><li>Sign in</li></ul></body></html>",
    "an error": "<html><body><h1>Something went wrong</h1></body></html>",
}


@pytest.mark.parametrize("kind", ["page", "offset", "next", "link_header"])
@pytest.mark.parametrize("captcha", CAPTCHAS)
@pytest.mark.parametrize("at", [1, 3])
@pytest.mark.parametrize("records", ["ul.rows > li", "li.row", "//ul[@class='rows']/li"])
def test_an_html_page_without_the_container_is_not_the_end(
    kind: str, captcha: str, at: int, records: str
) -> None:
    source = source_of(kind, "html")
    extract = source.recipe.extract.model_copy(update={"records": records})
    source = RecipeSource(source.recipe.model_copy(update={"extract": extract}))

    def site(request: SourceRequest) -> Response:
        number = page_number(request)
        page = html_page(number)
        classed = replace(page, body=str(page.body).replace("<li>", '<li class="row">'))
        return Response(CAPTCHAS[captcha]) if number == at else classed

    got = read(source, site)

    assert isinstance(got.end, Incomplete)


def test_the_container_of_earlier_pages_is_recognised_though_the_recipe_names_none() -> None:
    source = source_of("page", "html")
    extract = source.recipe.extract.model_copy(update={"records": "li.row"})
    source = RecipeSource(source.recipe.model_copy(update={"extract": extract}))

    def site(request: SourceRequest) -> Response:
        page = html_page(page_number(request))
        return replace(page, body=str(page.body).replace("<li>", '<li class="row">'))

    got = read(source, site)

    assert isinstance(got.end, ListingEnd)
    assert len(got.requests) == PAGES + 1


LAYOUT = '<body><div class="main" id="content">%s</div></body>'
WITHOUT_ROWS = {
    LAYOUT % "<h1>Something went wrong</h1>": False,
    LAYOUT % "<form>Are you human?</form>": False,
    LAYOUT % "<p>No results</p>": False,
    LAYOUT % " <i></i> ": True,
}


@pytest.mark.parametrize("records", ["div.row", ".main > .row", "//div[@id='content']/div"])
@pytest.mark.parametrize("body", WITHOUT_ROWS)
def test_a_part_of_the_layout_is_an_empty_list_only_if_it_is_empty(records: str, body: str) -> None:
    """An error page has the site's layout too; `extract.container` says that it is the list's."""
    source = source_of("page", "html")
    named, unnamed = (
        source.recipe.extract.model_copy(update={"records": records, "container": container})
        for container in ("div.main", None)
    )

    def site(request: SourceRequest) -> Response:
        rows = "".join(f'<div class="row">{row}</div>' for row in rows_of(page_number(request)))
        return Response(LAYOUT % rows if page_number(request) < 3 else body)

    inferred = read(RecipeSource(source.recipe.model_copy(update={"extract": unnamed})), site)
    said = read(RecipeSource(source.recipe.model_copy(update={"extract": named})), site)

    assert isinstance(inferred.end, ListingEnd if WITHOUT_ROWS[body] else Incomplete)
    assert isinstance(said.end, ListingEnd)
    assert WITHOUT_ROWS[body] or "set extract.container" in str(inferred.end)


@pytest.mark.parametrize("length", [4_500, 9_000])
def test_a_long_cursor_is_sent_whole_or_refused(length: int) -> None:
    cursor = "c" * length
    page = json.dumps({"items": [{"id": "1a"}], "meta": {"cursor": cursor}})

    def site(request: SourceRequest) -> Response:
        return json_page(PAGES) if "cursor" in request.url else Response(page)

    got = read(source_of("cursor"), site)

    if length < 8_000:
        assert isinstance(got.end, ListingEnd)
        assert got.requests[1].url.endswith(cursor)
    else:
        assert "paginate.path finds a cursor of 9,000 characters" in str(got.end)
        assert len(got.requests) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("status", [204, 400, 404, 416])
def test_a_status_that_the_recipe_names_is_the_end(kind: str, status: int) -> None:
    source = source_of(kind, end_status=f"[{status}]")

    got = read(source, served(Response("", status)))

    assert got.end == ListingEnd(f"HTTP {status}")
    assert got.keys == [*rows_of(1), *rows_of(2)]


@pytest.mark.parametrize("kind", KINDS)
def test_a_named_status_is_no_end_on_the_first_page(kind: str) -> None:
    got = read(source_of(kind, end_status="[404]"), served(Response("", 404), 1))

    assert isinstance(got.end, HttpStatus)


@pytest.mark.parametrize("kind", KINDS)
def test_what_end_when_finds_is_the_end(kind: str) -> None:
    source = source_of(kind, end_when='"error.code == `500`"')

    got = read(source, served(Response(ERROR)))

    assert got.end == ListingEnd("end_when")
    assert got.keys == [*rows_of(1), *rows_of(2)]


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_a_short_page_is_not_the_end_unless_the_recipe_says_so(kind: str) -> None:
    short = json_page(2, rows_of(2)[:2])
    source = RecipeSource(load(RECIPE.format(
        form="json", records="items", id="id",
        paging=f'{KINDS["page"]}\nsize = 3' if kind == "page" else KINDS["offset"],
    )))  # fmt: skip
    paginate = source.recipe.paginate.model_copy(update={"short_page_ends": True})
    ending = RecipeSource(source.recipe.model_copy(update={"paginate": paginate}))

    whole = read(source, served(short, 2))
    ended = read(ending, served(short, 2))

    assert len(whole.requests) > 2
    assert ended.end == ListingEnd("a short page")


def test_a_site_that_caps_the_size_is_read_on_by_the_rows_received() -> None:
    everything = [f"{number:03}" for number in range(100)]

    def site(request: SourceRequest) -> Response:
        query = parse_qs(urlsplit(request.url).query)
        start = int(query["offset"][0])
        return json_page(9, everything[start : start + 20])

    paging = 'type = "offset"\nsize = 100\nmax_pages = 9'
    got = read(
        RecipeSource(load(RECIPE.format(form="json", records="items", id="id", paging=paging))),
        site,
    )

    assert got.keys == everything
    assert got.end == ListingEnd("an empty list")


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_rows_than_the_total_are_incomplete(kind: str) -> None:
    source = source_of(kind, total='"total"')

    got = read(source, lambda request: json_page(page_number(request), total=13))

    assert isinstance(got.end, Incomplete)
    assert str(got.end) == "12 records where the site says there are 13"


@pytest.mark.parametrize("kind", KINDS)
def test_a_total_that_shrinks_while_pages_are_read_is_incomplete(kind: str) -> None:
    """A row of page 1 leaves after it was read: row 2a moves to page 1, and is never served."""
    left = {1: rows_of(1), 2: ["2b", "2c", "3a"], 3: ["3b", "3c", "4a"], 4: ["4b", "4c"]}

    def site(request: SourceRequest) -> Response:
        number = page_number(request)
        return json_page(number, left.get(number, []), total=12 if number == 1 else 11)

    got = read(source_of(kind, total='"total"'), site)

    assert isinstance(got.end, Incomplete)


LEAVING = {
    "from page 1, behind page 1": (2, without("1a")),
    "from page 1, behind page 3": (4, without("1c")),
    "the last row of page 2": (3, without("2c")),
    "the first row of page 3": (4, without("3a")),
    "a whole page": (3, without("2a", "2b", "2c")),
    "as many as join at the end": (3, without("2a", "2b", joined=["5a", "5b"])),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("form", ["json", "html"])
@pytest.mark.parametrize("leaving", LEAVING)
def test_rows_that_leave_any_page_while_a_list_is_read_make_it_incomplete(
    kind: str, form: str, leaving: str
) -> None:
    """The first rows of the next page move onto a page that was read, and are never served."""
    if form == "html" and kind == "cursor":
        return
    at, move = LEAVING[leaving]

    for more in ({}, {"total": '"total"'} if form == "json" else {"enough": "true"}):
        site = MovingList(form, at, move, total=True)
        got = read(source_of(kind, form, **more), site)

        assert isinstance(got.end, Incomplete), (more, got)
        assert "total" in more or f"rows of page {at - 1} left it" in str(got.end)


JOINING = {
    "nothing moves": without(),
    "rows join at the end": without(joined=["5a"]),
    "rows leave a page that is not read yet": without("4a", "4c"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("joining", JOINING)
def test_a_list_that_moves_behind_what_was_read_is_whole(kind: str, joining: str) -> None:
    site = MovingList("json", 3, JOINING[joining])

    got = read(source_of(kind), site)

    assert isinstance(got.end, ListingEnd), got
    assert set(got.keys) >= {*site.rows} - {"5a"}


@pytest.mark.parametrize("kind", KINDS)
def test_each_page_is_requested_again_right_after_the_next_one(kind: str) -> None:
    site = MovingList("json", 9, list)

    read(source_of(kind), site)

    assert site.served == [1, 2, 1, 3, 2, 4, 3, *([5, 4] if kind in ("page", "offset") else [])]


UNMOVED = {
    "nothing moved": ["1a", "1b", "1c"],
    "a row joined at the top": ["0z", "1a", "1b"],
    "all but one were pushed down": ["0x", "0y", "1a"],
}


@pytest.mark.parametrize("first", UNMOVED)
def test_rows_that_join_at_the_top_after_a_page_was_followed_leave_the_list_whole(
    first: str,
) -> None:
    served: list[int] = []

    def site(request: SourceRequest) -> Response:
        served.append(number := page_number(request))
        return json_page(number, UNMOVED[first] if served.count(1) > 1 and number == 1 else None)

    assert isinstance(read(source_of("page"), site).end, ListingEnd)


@pytest.mark.parametrize(
    ("status", "message"),
    [(503, "HTTP 503"), (410, "page 2 could not be compared.*paginate.stable = true")],
)
def test_a_page_that_cannot_be_compared_shows_no_end(status: int, message: str) -> None:
    served: list[int] = []

    def site(request: SourceRequest) -> Response:
        served.append(number := page_number(request))
        again = number == 2 and served.count(2) > 1
        return Response("", status) if again else json_page(number)

    end = read(source_of("cursor"), site).end

    assert isinstance(end, Failure)
    assert re.search(message, str(end))


@pytest.mark.parametrize("kind", KINDS)
def test_no_page_of_a_list_that_is_said_to_be_stable_is_requested_twice(kind: str) -> None:
    site = MovingList("json", 9, list)

    got = read(source_of(kind, stable="true"), site)

    assert isinstance(got.end, ListingEnd)
    assert site.served == [1, 2, 3, 4, *([5] if kind in ("page", "offset") else [])]


def test_a_reached_total_ends_paging_and_repeated_rows_do_not_count() -> None:
    source = source_of("page", total='"total"')

    exact = read(source, lambda request: json_page(page_number(request), total=12))

    assert exact.end == ListingEnd("the total of 12", 12)
    assert len(exact.requests) == PAGES


@pytest.mark.parametrize("kind", ["page", "offset"])
@pytest.mark.parametrize("total", [-1, 0, 2, 5, "7"])
def test_a_total_that_the_rows_already_exceed_ends_no_listing(kind: str, total: int | str) -> None:
    """It counts something else, or nothing: -1 and 0 are what sites say that do not count."""
    source = source_of(kind, total='"total"')

    got = read(source, lambda request: json_page(page_number(request), total=total))

    assert isinstance(got.end, ListingEnd)
    assert got.end.reason == "an empty list"
    assert len(got.keys) == PAGES * SIZE


@pytest.mark.parametrize("kind", ["page", "offset"])
def test_a_list_that_moves_down_while_pages_are_read_is_incomplete(kind: str) -> None:
    """A row joins at the top after page 1 was read: the last row of page 1 is served again."""
    joined = {1: rows_of(1), 2: ["1c", "2a", "2b"], 3: ["2c", "3a", "3b"], 4: ["3c", "4a", "4b"]}

    got = read(
        source_of(kind),
        lambda request: json_page(page_number(request), joined.get(page_number(request), [])),
    )

    assert isinstance(got.end, Incomplete)
    assert "the list moved" in str(got.end)


@pytest.mark.parametrize("kind", KINDS)
def test_has_more_decides(kind: str) -> None:
    source = source_of(kind, has_more='"more"')

    def site(request: SourceRequest) -> Response:
        number = page_number(request)
        return json_page(number, more=number < PAGES)

    def stopping(request: SourceRequest) -> Response:
        page = site(request)
        document = json.loads(page.body) | {"items": [], "meta": {}}
        return Response(json.dumps(document)) if page_number(request) == 2 else page

    def silent(request: SourceRequest) -> Response:
        page = site(request)
        document: dict[str, Any] = {**json.loads(page.body), "more": None, "meta": {}}
        return Response(json.dumps(document)) if page_number(request) == 2 else page

    assert read(source, site).end == ListingEnd("has_more is false")
    assert len(read(source, site).requests) == PAGES
    assert isinstance(read(source, stopping).end, Incomplete)
    assert kind in ("page", "offset") or isinstance(read(source, silent).end, Incomplete)


def test_no_cursor_is_the_end_only_where_the_cursor_lives() -> None:
    bare = Response(json.dumps({"items": [{"id": "2a"}]}))

    got = read(source_of("cursor"), served(bare, 2))

    assert isinstance(got.end, Incomplete)
    assert "meta" in str(got.end)


def test_enough_pages_are_not_the_whole_list() -> None:
    source = source_of("page", enough="true")
    paginate = source.recipe.paginate.model_copy(update={"max_pages": 2})
    source = RecipeSource(source.recipe.model_copy(update={"paginate": paginate}))

    got = read(source, lambda request: json_page(page_number(request)))

    assert got.end == ListingEnd("max_pages", whole=False)


@pytest.mark.parametrize("status", [200, 301, 401, 403, 429, 500])
def test_a_refusal_cannot_be_named_as_the_end(status: int) -> None:
    with pytest.raises(Exception, match="cannot be"):
        source_of("page", end_status=f"[{status}]")


ITEMS = "".join(f"<item><guid>{n}</guid><title>Cup {n} &amp; more</title></item>" for n in range(3))
ENTRIES = "".join(f"<entry><id>{n}</id><title><![CDATA[<b>]]></title></entry>" for n in range(3))
FEEDS = {
    "rss": f'<?xml version="1.0"?><rss version="2.0"><channel>{ITEMS}</channel></rss>',
    "atom": f'<feed xmlns="http://www.w3.org/2005/Atom"><id>f</id>{ENTRIES}</feed>',
    "json": '{"version": "https://jsonfeed.org/version/1.1", "items": [{"id": "1"}, {"id": "2"}]}',
}
FEED = 'name = "feed"\nkind = "feed"\nurl = "https://site.test/feed"'


DOCUMENT = (
    "<!DOCTYPE html><html><head><title>Rows</title><script>'<ul>'</script></head><body>"
    '<div class="page"><p>Rows<ul class="rows"><li>1a</li><li>1b</li><li>1c</li></ul>'
    '<a class="next" href="/list?page=2">next</a></div>{end}'
)


@pytest.mark.parametrize("kind", ["page", "next", "link_header"])
def test_a_page_that_is_cut_off_anywhere_is_no_end(kind: str) -> None:
    """A template that fails in the middle of its list ends the page like a good one."""
    source = source_of(kind, "html")
    first, last = DOCUMENT.format(end="</body></html>"), html_page(PAGES, []).body

    def site(cut: int) -> Callable[[SourceRequest], Response]:
        return lambda request: Response(first[:cut] if page_number(request) == 1 else last)

    whole = first.index("</body>")
    cuts = range(first.index("<ul class"), whole)
    got = {cut: read(source, site(cut)) for cut in cuts}

    assert [cut for cut in cuts if not isinstance(got[cut].end, Failure)] == []
    assert "page 1 is cut off" in str(got[whole - 1].end)
    assert all(set(one.keys) <= {"1a", "1b", "1c"} for one in got.values())
    assert isinstance(read(source, site(len(first))).end, ListingEnd)


@pytest.mark.parametrize("end", ["</body>", "</HTML>", "</div></body>", ""])
def test_a_page_with_careless_markup_is_not_cut_off(end: str) -> None:
    """End tags of `body` and `html` may be left out, and browsers repair blocks without one."""
    source = source_of("page", "html")
    pages = [DOCUMENT.format(end=end), html_page(2, []).body]

    got = read(source, lambda request: Response(pages[page_number(request) - 1]))

    assert isinstance(got.end, ListingEnd)
    assert got.keys == ["1a", "1b", "1c"]


@pytest.mark.parametrize("hostile", ["<div ", "<!-- <script", "<script ", "</", "<div><!--"])
def test_a_page_of_tags_without_end_is_read_once(hostile: str) -> None:
    """Read from each of them to the end of the page, it would take hours."""
    source, body = source_of("page", "html"), f"<html>{hostile * (1_000_000 // len(hostile))}< "

    assert isinstance(read(source, lambda _: Response(body.encode())).end, Failure)


@pytest.mark.parametrize("form", FEEDS)
def test_a_feed_that_is_cut_off_anywhere_has_no_end(form: str) -> None:
    source, body = RecipeSource(load(FEED)), FEEDS[form]

    ends = [read(source, lambda _, cut=cut: Response(body[:cut])).end for cut in range(len(body))]

    assert [at for at, end in enumerate(ends) if not isinstance(end, Failure)] == []
    assert read(source, lambda _: Response(body)).end == ListingEnd("the only page")


@pytest.mark.parametrize(
    "more", [r'title="the \"next\" one"; rel="next"', r'title="a; rel=prev"; rel=next']
)
def test_a_quoted_text_in_a_link_header_hides_no_next_page(more: str) -> None:
    def site(request: SourceRequest) -> Response:
        page = json_page(page_number(request))
        return replace(page, link=page.link.replace('rel="next"', more))

    got = read(source_of("link_header"), site)

    assert len(got.requests) == PAGES
