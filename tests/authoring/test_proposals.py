# ruff: noqa: E501 - pages stand here as they come
"""A recipe proposed from one look works as it stands, or there is a reason why none is."""

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.authoring.proposal import next_request, propose_recipe, without_paging
from app.core.errors import Failure, Schema
from app.core.messages import RawPage
from app.sources.recipes.load import load
from app.sources.recipes.model import Recipe
from app.sources.recipes.reading import PageReading, RecipeReader
from tests.feeds.pages import atom, item, json_feed, rss

AT = "https://api.example.com/v1/wares"
NOW = datetime(2026, 9, 5, 12, tzinfo=UTC)


def answer(body: bytes, kind: str = "application/json", url: str = AT, **headers: str) -> RawPage:
    return RawPage(body, 200, url, {"content-type": kind, **headers}, NOW)


def read(raw: RawPage) -> tuple[Recipe, PageReading]:
    """The proposal for a page, and what it finds in that page."""
    recipe = load(propose_recipe(raw, raw.url))
    found = RecipeReader(recipe).read(raw.body, url=raw.url, headers=raw.headers, now=NOW)
    assert not found.rejected
    return recipe, found


def of_json(document: Any, url: str = AT, **headers: str) -> tuple[Recipe, PageReading]:
    return read(answer(json.dumps(document).encode(), url=url, **headers))


WARE = {
    "sku": "a-1", "id": 7, "name": "Cup", "price": {"amount": "2.50", "currency": "EUR"},
    "weight": 1.5, "new": True, "made": "2026-09-01", "at": "2026-09-01T10:00:00Z", "tags": ["x"],
    "link": "/wares/7", "odd-name": "x", "parts": [{"a": 1}], "none": None,
}  # fmt: skip


def test_a_json_api_gets_a_column_for_each_member_with_its_type_and_a_key() -> None:
    recipe, found = of_json({"meta": {}, "data": {"wares": [WARE, WARE | {"id": 8, "sku": "b"}]}})

    assert (recipe.name, recipe.kind, recipe.extract.records) == (
        "example-wares",
        "json",
        "data.wares",
    )
    types = {name: field.type.value for name, field in recipe.extract.fields.items()}
    assert types == {
        "sku": "string", "id": "integer", "name": "string", "price_amount": "decimal",
        "price_currency": "string", "weight": "number", "new": "boolean", "made": "date",
        "at": "datetime", "tags": "list", "link": "url", "odd_name": "string", "parts": "list",
        "none": "string",
    }  # fmt: skip
    assert recipe.storage.key == ["id"]
    assert [row.key for row in found.rows] == ["7", "8"]
    assert found.rows[0].data["link"] == "https://api.example.com/wares/7"


@pytest.mark.parametrize(
    ("document", "url", "headers", "paging"),
    [
        ({"next": "https://api.example.com/v1/wares?page=2"}, AT, {}, ("next", "next")),
        ({"links": {"next": "/v1/wares?page=2"}}, AT, {}, ("next", "links.next")),
        ({"_links": {"next": {"href": "/w?p=2"}}}, AT, {}, ("next", "_links.next.href")),
        ({"meta": {"next_cursor": "abc"}}, AT, {}, ("cursor", "meta.next_cursor")),
        ({}, AT, {"link": '</v1/wares?page=2>; rel="next"'}, ("link_header", None)),
        ({}, f"{AT}?page=1&q=x", {}, ("page", None)),
        ({}, f"{AT}?offset=0&limit=2", {}, ("offset", None)),
        ({}, AT, {}, ("none", None)),
    ],
)
def test_the_way_on_is_found_where_an_api_shows_it(
    document: Any, url: str, headers: dict[str, str], paging: tuple[str, str | None]
) -> None:
    rows = [{"id": 1}, {"id": 2}]

    recipe, found = of_json({"rows": rows} | document, url, **headers)

    assert (recipe.paginate.type, getattr(recipe.paginate, "path", None)) == paging
    assert len(found.rows) == 2
    assert "page=" not in recipe.url
    assert "offset=" not in recipe.url


@pytest.mark.parametrize(
    "body", [rss(item(1) + item(2)), atom("<entry><id>a</id></entry>"), json_feed({"id": 1})]
)
def test_a_feed_is_read_as_often_as_it_publishes(body: bytes) -> None:
    recipe, found = read(answer(body, "text/plain", "https://tides.example/feed"))

    assert (recipe.kind, recipe.schedule.every) == ("feed", "auto")
    assert found.rows


PAGE = """<!doctype html><html><head>
<link rel="alternate" type="application/rss+xml" href="/jobs.rss"></head><body>
<nav><ul><li><a href="/">Home</a></li><li><a href="/a">About us</a></li><li><a href="/b">Jobs</a></li></ul></nav>
<div id="main"><ul class="jobs">%s</ul></div></body></html>"""
JOB = (
    '<li class="job job-%d"><h3><a href="/jobs/%d">Engineer %d</a></h3><span class="firm">F%d</span>'
    '<img src="/i/%d.png"><time datetime="2026-09-0%dT00:00:00Z">soon</time></li>'
)


def test_a_list_in_a_page_for_people_gets_selectors_for_what_repeats_in_it() -> None:
    jobs = "".join(JOB % ((n,) * 6) for n in range(1, 7))

    raw = answer((PAGE % jobs).encode(), "text/html", "https://town.example/jobs")
    recipe, found = read(raw)

    assert (recipe.kind, recipe.extract.records) == ("html", "ul.jobs > li.job")
    assert len(found.rows) == 6
    assert found.rows[0].data == {
        "url": "https://town.example/jobs/1",
        "title": "Engineer 1",
        "firm": "F1",
        "image": "https://town.example/i/1.png",
        "at": "2026-09-01T00:00:00Z",
        "time": "soon",
    }
    assert (
        "links to a feed, which is more reliable: https://town.example/jobs.rss"
        in propose_recipe(raw, raw.url)
    )


def test_a_table_is_a_list_too() -> None:
    rows = "".join(
        f"<tr><td class=c>{n}</td><td><a href='/t/{n}'>T{n}</a></td></tr>" for n in range(9)
    )

    recipe, found = read(answer(f"<table><tbody>{rows}</tbody></table>".encode(), "text/html"))

    assert recipe.extract.records == "tbody > tr"
    assert len(found.rows) == 9
    assert found.rows[3].data == {"c": "3", "url": "https://api.example.com/t/3", "title": "T3"}


def test_an_answer_that_is_one_object_is_one_row() -> None:
    recipe, found = of_json({"place": "Pier", "now": {"water": 3.5, "at": "2026-09-05T12:00:00Z"}})

    assert recipe.extract.records is None
    assert [row.data for row in found.rows] == [
        {"place": "Pier", "now_water": 3.5, "now_at": "2026-09-05T12:00:00Z"}
    ]


def test_a_row_or_two_without_a_key_do_not_keep_it_from_being_the_key() -> None:
    rows = [{"id": f"a{n}", "time": 1_788_609_600_000 + n} for n in range(9)] + [
        {"id": None, "time": 5}
    ]

    recipe = load(propose_recipe(answer(json.dumps(rows).encode()), AT))

    assert recipe.storage.key == ["id"]


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"{}", "application/json"),
        (b"[1, 2]", "application/json"),
        (b"<html><div id=app></div></html>", "text/html"),
        (b"\x89PNG", "image/png"),
        (b"", "text/plain"),
        (b"<p>one</p>", "text/html"),
    ],
)
def test_where_there_is_no_list_no_recipe_is_made_up(body: bytes, kind: str) -> None:
    with pytest.raises(Schema, match="found no list of records"):
        propose_recipe(answer(body, kind), AT)


TEXT = st.text(max_size=8)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=5),
    max_leaves=30,
)


@settings(max_examples=200)
@given(VALUES | st.lists(st.dictionaries(TEXT, VALUES, min_size=1), min_size=1, max_size=5))
def test_of_any_json_comes_a_recipe_that_works_or_a_named_fault(document: Any) -> None:
    try:
        text = propose_recipe(answer(json.dumps(document).encode()), AT)
    except Failure:
        return
    load(text)


@settings(max_examples=150)
@given(st.lists(st.sampled_from(["<li>", "</li>", "<a href=x>", "a", "<ul class='a b'>", "<td>", "é", "<p>", "&", "<b class='1'>"]), max_size=40))  # fmt: skip
def test_of_any_markup_comes_a_recipe_that_works_or_a_named_fault(parts: list[str]) -> None:
    try:
        text = propose_recipe(answer("".join(parts).encode(), "text/html"), AT)
    except Failure:
        return
    load(text)


def test_a_page_without_a_list_names_the_feed_that_it_offers() -> None:
    page = b'<html><head><link rel="alternate" type="application/atom+xml" href="/a.atom"></head>'

    with pytest.raises(Schema, match=r"it links to a feed: https://town\.example/a\.atom"):
        propose_recipe(
            answer(page, "text/html", "https://town.example/x"), "https://town.example/x"
        )


def html(body: str, url: str = "https://town.example/list") -> RawPage:
    return answer(f"<!doctype html><html><body>{body}</body></html>".encode(), "text/html", url)


STORY = (
    '<tr class="athing" id="%d"><td class="rank">%d.</td><td class="votelinks">'
    '<a id="up_%d" href="vote?id=%d"><div class="votearrow"></div></a></td><td class="title">'
    '<span class="titleline"><a href="https://news.example/%d">Story number %d</a>'
    '<span class="sitebit"> (<a href="from?site=s%d">s%d.example</a>)</span></span></td></tr>'
)


def test_the_link_of_a_story_is_not_the_arrow_to_vote_for_it() -> None:
    rows = "".join(STORY % ((n,) * 8) for n in range(1, 9))

    _, found = read(html(f"<table><tbody>{rows}</tbody></table>"))

    assert found.rows[0].data["url"] == "https://news.example/1"
    assert not any("vote" in str(value) for value in found.rows[0].data.values())


VOTED = (
    '<li class="story"><a class="up" href="/vote?id=%d">%s</a>'
    '<a class="t" href="https://news.example/%d">Story number %d</a> <a href="/share/%d">share</a></li>'
)


@pytest.mark.parametrize("arrow", ["\N{BLACK UP-POINTING TRIANGLE}", "upvote", "+1", ""])
def test_a_link_that_says_the_same_in_every_record_is_not_the_record_s_own(arrow: str) -> None:
    rows = "".join(VOTED % (n, arrow, n, n, n) for n in range(1, 9))

    recipe, found = read(html(f'<ul class="stories">{rows}</ul>'))

    assert (found.rows[0].key, recipe.storage.key) == ("https://news.example/1", ["url"])


def test_a_cell_is_named_by_its_place_where_another_cell_has_the_same_element() -> None:
    row = '<tr><td><a href="/u/%d">%s</a></td><td><a href="/c/%d">%d comments</a></td></tr>'
    rows = "".join(row % (n, f"Story number {n}", n, n) for n in range(1, 9))

    _, found = read(html(f'<table class="list">{rows}</table>'))

    assert {"Story number 3", "3 comments"} <= {*found.rows[2].data.values()}


def test_rows_of_two_kinds_that_alternate_in_a_table_are_told_apart() -> None:
    below = (
        '<tr><td colspan="2"></td><td class="subtext">by <a href="user?id=u%d">u%d</a></td></tr>'
    )
    rows = "".join(STORY % ((n,) * 8) + below % (n, n) for n in range(1, 11))

    _, found = read(html(f'<table class="list">{rows}</table>'))

    assert [row.data["url"] for row in found.rows] == [
        f"https://news.example/{n}" for n in range(1, 11)
    ]


def test_the_address_of_an_image_that_is_loaded_later_is_its_own() -> None:
    rows = "".join(
        f'<li class="ware"><a href="/w/{n}">Ware number {n}</a>'
        f'<img src="data:image/gif;base64,R0" data-src="/i/{n}.jpg"></li>'
        for n in range(6)
    )

    _, found = read(html(f'<ul class="wares">{rows}</ul>'))

    assert found.rows[2].data["image"] == "https://town.example/i/2.jpg"


def test_a_list_that_links_to_its_next_page_is_paged() -> None:
    rows = "".join(f'<li class="w"><a href="/w/{n}">Ware number {n}</a></li>' for n in range(6))

    recipe, found = read(html(f'<ul class="ws">{rows}</ul><a rel="next" href="?page=2">More</a>'))

    assert recipe.paginate.type == "next"
    assert found.next_page == "?page=2"


@pytest.mark.parametrize(
    "source", ['data-original="%s"', 'data-srcset="%s 1x, /large.jpg 2x"', 'data-lazy-srcset="%s"']
)
def test_an_image_is_found_wherever_a_script_has_its_address(source: str) -> None:
    rows = "".join(
        f'<li class="ware"><a href="/w/{n}">Ware number {n}</a>'
        f'<img src="/blank.gif" {source % f"/i/{n}.jpg"}></li>'
        for n in range(6)
    )

    _, found = read(html(f'<ul class="wares">{rows}</ul>'))

    assert found.rows[2].data["image"] == "https://town.example/i/2.jpg"


@pytest.mark.parametrize(
    "link",
    [
        '<a class="next page-link" href="?page=2">2</a>',
        '<ul class="pager"><li class="next"><a href="?page=2">Onward</a></li></ul>',
        '<a aria-label="Next page" href="?page=2">2</a>',
        '<a href="?page=1">1</a><a href="?page=2">Next \u00bb</a>',
        '<a href="?page=2">\u203a</a>',
        '<a href="?page=2">Older posts</a>',
        '<a href="?page=2">N\u00e4chste Seite</a>',
    ],
)
def test_the_next_page_is_found_by_class_or_text(link: str) -> None:
    rows = "".join(f'<li class="w"><a href="/w/{n}">Ware number {n}</a></li>' for n in range(6))

    recipe, found = read(html(f'<ul class="ws">{rows}</ul>{link}'))

    assert (recipe.paginate.type, found.next_page) == ("next", "?page=2")


@pytest.mark.parametrize(
    "link", ["", '<a class="next" href="#">Next</a>', '<a href="/x">Nextel</a>']
)
def test_a_page_that_names_no_next_page_says_so(link: str) -> None:
    rows = "".join(f'<li class="w"><a href="/w/{n}">Ware number {n}</a></li>' for n in range(6))

    proposed = propose_recipe(
        html(f'<ul class="ws">{rows}</ul>{link}'), "https://town.example/list"
    )

    assert "# Found no link to further pages" in proposed


def test_the_number_of_the_next_page_is_sent_as_the_page() -> None:
    recipe, found = of_json({"rows": [{"id": 1}, {"id": 2}], "page": 1, "next_page": 2})

    assert (recipe.paginate.type, getattr(recipe.paginate, "param", None)) == ("cursor", "page")
    assert found.next_page == "2"


@pytest.mark.parametrize("member", [{"has_more": True}, {"meta": {"total": 30}}, {"totalPages": 9}])
def test_pages_that_a_response_counts_and_does_not_link_are_named(member: dict[str, Any]) -> None:
    rows = {"rows": [{"id": 1}, {"id": 2}]}

    proposed, alone = (
        propose_recipe(answer(json.dumps(page).encode()), AT)
        for page in (rows | member, rows | {"has_more": False, "total": 2})
    )

    assert "# There are further pages (" in proposed
    assert "# Found no link to further pages" in alone


@pytest.mark.parametrize(
    ("member", "param"),
    [("nextPageToken", "pageToken"), ("next_page_token", "page_token"), ("next_cursor", "cursor"),
     ("endCursor", "after"), ("nextToken", "nextToken"), ("continuation", "continuation")],
)  # fmt: skip
def test_a_token_is_sent_in_the_parameter_of_its_name(member: str, param: str) -> None:
    recipe, _ = of_json({"rows": [{"id": 1}, {"id": 2}], member: "abc"})

    assert (recipe.paginate.type, getattr(recipe.paginate, "param", None)) == ("cursor", param)


def test_a_price_that_is_whole_on_this_page_may_have_a_fraction_on_the_next() -> None:
    recipe, _ = of_json([{"id": 1, "price": 3}, {"id": 2, "price": 4}])

    assert recipe.extract.fields["price"].type.value == "number"


def test_the_types_of_columns_are_those_of_both_pages() -> None:
    first = answer(b'{"rows": [{"id": 1, "n": 3}], "next": "/v1/wares?page=2"}')
    second = answer(b'{"rows": [{"id": 2, "n": 2.5}]}')

    recipe = load(propose_recipe(first, AT, second))

    assert recipe.extract.fields["n"].type.value == "number"


def test_a_proposal_whose_next_page_is_the_same_again_is_not_shown() -> None:
    page = answer(b'{"rows": [{"id": 1}], "next": "/v1/wares?page=2"}')

    with pytest.raises(Schema, match="the same rows again"):
        propose_recipe(page, AT, page)


def test_a_proposal_without_its_paging_is_a_recipe_that_says_why() -> None:
    text = propose_recipe(answer(b'{"rows": [{"id": 1}], "next": "/v1/wares?page=2"}'), AT)

    shorter = without_paging(text, "HTTP 404")

    assert load(shorter).paginate.type == "none"
    assert "could not be read (HTTP 404)" in shorter


def test_the_next_page_of_a_proposal_is_asked_for_as_a_run_would() -> None:
    page = answer(b'{"rows": [{"id": 1}], "next": "/v1/wares?page=2"}')

    request = next_request(propose_recipe(page, AT), page)

    assert request is not None
    assert request.url == f"{AT}?page=2"


def test_an_address_that_redirects_is_proposed_where_it_leads() -> None:
    page = answer(b'[{"id": 1}]', url="https://www.example.com/v2/wares")

    text = propose_recipe(page, "http://example.com/wares")

    assert load(text).url == "https://www.example.com/v2/wares"
    assert "it was http://example.com/wares" in text


def test_a_page_that_scripts_build_says_so() -> None:
    page = html('<div id="app"></div><script src="/app.js"></script>')

    with pytest.raises(Schema, match="built by scripts"):
        propose_recipe(page, page.url)


def test_data_that_a_page_has_as_json_is_named() -> None:
    rows = "".join(f'<li class="w"><a href="/w/{n}">Ware number {n}</a></li>' for n in range(6))
    data = (
        '<script type="application/ld+json">{}</script>'
        '<script id="__NEXT_DATA__" type="application/json">{}</script>'
    )

    text = propose_recipe(html(f'<ul class="ws">{rows}</ul>{data}'), AT)

    assert "JSON-LD" in text
    assert "script#__NEXT_DATA__" in text
