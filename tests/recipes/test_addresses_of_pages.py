"""Paging follows a site to where its first page moved, and keeps its queries as they are."""

from datetime import UTC, datetime
from typing import Any

import pytest

from app.core.errors import UnsafeAddress
from app.core.messages import RawPage
from app.sources.recipes.model import Recipe
from app.sources.recipes.paging import RecipeRequestBuilder
from app.sources.recipes.reading import PageReading, RecipeRow

NOW = datetime(2026, 11, 26, tzinfo=UTC)
ROW = RecipeRow("1", {"id": "1"})


def builder(
    url: str, auth: Any = None, method: str = "GET", **paginate: Any
) -> RecipeRequestBuilder:
    """The requests of a recipe with this paging."""
    values = {
        "name": "shop",
        "kind": "json",
        "url": url,
        "auth": auth,
        "request": {"method": method},
        "paginate": {"max_pages": 9, **paginate},
        "extract": {"fields": {"id": "id"}},
        "store": {"key": "id"},
    }
    return RecipeRequestBuilder(Recipe.model_validate(values), {})


def following(url: str, came_from: str, link: str, auth: Any = None) -> str | None:
    """The address of the page that a page links to."""
    requests = builder(url, auth, type="next", path="next")
    raw = RawPage(b"", 200, came_from, {}, NOW)
    reading = PageReading(rows=[ROW], record_count=1, next_page=link)
    request = requests.next_request(1, 1, raw, reading)
    return None if request is None else request.url


@pytest.mark.parametrize(
    ("url", "came_from", "link", "expected"),
    [
        ("http://a.test/l", "https://a.test/l", "/l?p=2", "https://a.test/l?p=2"),
        ("https://a.test/l", "https://www.a.test/x/l", "m?p=2", "https://www.a.test/x/m?p=2"),
        ("https://a.test/l", "https://b.test/l", "https://b.test/l?p=2", "https://b.test/l?p=2"),
        ("https://a.test/l", "https://b.test/l", "https://a.test/l?p=2", "https://a.test/l?p=2"),
        ("https://bücher.example/l", "https://bücher.example/l",
         "https://xn--bcher-kva.example/l?p=2", "https://xn--bcher-kva.example/l?p=2"),
        ("https://a.test/l", "https://a.test/l", "?q=caf%E9&p=2", "https://a.test/l?q=caf%E9&p=2"),
        ("https://a.test/l", "https://a.test/l", "/Annual Report", "https://a.test/Annual%20Report"),
    ],
)  # fmt: skip
def test_a_link_is_resolved_where_the_page_came_from(
    url: str, came_from: str, link: str, expected: str
) -> None:
    assert following(url, came_from, link) == expected


def test_a_link_to_a_site_that_the_page_did_not_come_from_is_not_followed() -> None:
    with pytest.raises(UnsafeAddress, match="another site"):
        following("https://a.test/l", "https://b.test/l", "https://c.test/l?p=2")


def test_a_credential_is_sent_to_no_host_that_a_site_moved_to() -> None:
    auth = {"type": "bearer", "token": "env:TOKEN"}

    with pytest.raises(UnsafeAddress, match="another site"):
        following("https://a.test/l", "https://b.test/l", "https://b.test/l?p=2", auth)
    assert following("http://a.test/l", "https://a.test/l", "?p=2", auth) == "https://a.test/l?p=2"


def test_paging_adds_its_parameters_to_a_query_and_leaves_it_as_it_is() -> None:
    url = "https://a.test/l?q=caf%E9&at=+01:00&flag&p=a%2Fb&sig=a%2b%2B="

    assert builder(url, type="page").first_request().url == f"{url}&page=1"


def test_a_post_that_only_reads_is_marked_as_repeatable() -> None:
    values = {
        "name": "shop",
        "kind": "json",
        "url": "https://a.test/search",
        "request": {"method": "POST", "json": {"q": "x"}, "read_only": True},
        "extract": {"fields": {"id": "id"}},
        "store": {"key": "id"},
    }

    request = RecipeRequestBuilder(Recipe.model_validate(values), {}).first_request()

    assert (request.method, request.read_only) == ("POST", True)


def moved(url: str, came_from: str, auth: Any = None, method: str = "GET", **paging: Any) -> str:
    """The address of the second page, where the first one came from elsewhere."""
    requests = builder(url, auth, method=method, **(paging or {"type": "page"}))
    reading = PageReading(rows=[ROW], record_count=1, next_page="c2")
    raw = RawPage(b"", 200, came_from, {}, NOW)
    request = requests.after_first_page(came_from).next_request(1, 1, raw, reading)
    assert request is not None
    return request.url


@pytest.mark.parametrize(
    ("came_from", "paging", "expected"),
    [
        ("https://a.test/l?q=1&page=1", {"type": "page"}, "https://a.test/l?q=1&page=2"),
        ("https://www.a.test/v2/l?q=1&page=1", {"type": "page"},
         "https://www.a.test/v2/l?q=1&page=2"),
        ("https://b.test/l/q/1?page=1&v=caf%E9", {"type": "page"},
         "https://b.test/l/q/1?v=caf%E9&page=2"),
        ("https://b.test/l?offset=0&limit=5", {"type": "offset", "size": 5},
         "https://b.test/l?offset=1&limit=5"),
        ("https://b.test/l", {"type": "cursor", "path": "next"}, "https://b.test/l?cursor=c2"),
        ("https://b.test/l?api_key=***&page=1", {"type": "page"}, "https://a.test/l?q=1&page=2"),
    ],
)  # fmt: skip
def test_numbered_pages_go_on_from_where_the_first_page_came_from(
    came_from: str, paging: dict[str, Any], expected: str
) -> None:
    assert moved("https://a.test/l?q=1", came_from, **paging) == expected


def test_numbered_pages_take_no_credential_to_another_host_and_no_body_anywhere_else() -> None:
    auth = {"type": "bearer", "token": "env:TOKEN"}

    assert moved("https://a.test/l", "https://b.test/l", auth) == "https://a.test/l?page=2"
    assert moved("http://a.test/l", "https://a.test/m", auth) == "https://a.test/m?page=2"
    assert moved("https://a.test/l", "https://b.test/l", method="POST") == "https://a.test/l?page=2"
