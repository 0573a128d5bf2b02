"""AskNews: what it asks, page by page, and what it makes of the answers it does not get."""

from collections.abc import Callable, Generator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.core.errors import (
    Auth,
    Blocked,
    Failure,
    Gap,
    HttpStatus,
    Incomplete,
    Network,
    RateLimited,
    Schema,
)
from app.core.messages import HostLimits, Partition, RawPage, SourceRequest
from app.core.records import Article, Story
from app.sources.base import ListingEnd
from app.sources.sites.asknews import AskNewsNews, AskNewsStories, translate_failure
from app.sources.sites.asknews_limits import FREE_PLAN_LIMITS, MAX_LIMITS, AskNewsLimits
from tests.sources.driver import PART, drive, raw

URL = "https://site.test"
LIMITS = {
    "request_rate": 0.5,
    "request_rate_capacity": 3,
    "request_rate_remaining": 3,
    "retry_after": None,
    "concurrency_limit": 2,
    "concurrency_remaining": 2,
}


def page(count: int, offset: object) -> dict[str, Any]:
    return {"as_dicts": [{"article_id": str(n)} for n in range(count)], "offset": offset}


def answered(
    asking: Generator[SourceRequest, RawPage, Any], answer: Callable[[SourceRequest], object]
) -> tuple[list[SourceRequest], Any]:
    """Send what `answer` makes of each request; a Failure is thrown, as the collector does."""
    requests: list[SourceRequest] = []
    try:
        request = next(asking)
        while True:
            requests.append(request)
            result = answer(request)
            request = (
                asking.throw(result) if isinstance(result, Failure) else asking.send(raw(result))
            )
    except StopIteration as stop:
        return requests, stop.value


def asked(request: SourceRequest, name: str) -> str | None:
    return dict(request.params).get(name)


def test_a_search_says_in_the_apis_own_words_what_it_wants() -> None:
    since = datetime(2026, 9, 5, 12, 0, 0, 900_000, tzinfo=UTC)
    site = AskNewsNews(URL, ("OpenAI",), {"OpenAI": since})

    (request,), _ = answered(site.pages(Partition("OpenAI")), lambda _: page(3, None))

    assert request.url == f"{URL}/news/search"
    assert dict(request.params) == {
        "query": "OpenAI",
        "method": "kw",
        "return_type": "dicts",
        "time_filter": "crawl_date",
        "sort_by": "pub_date",
        "podcasts": "none",
        "historical": "False",
        "hours_back": "48",
        "start_timestamp": "1788609600",
        "n_articles": "100",
    }


def test_stories_are_asked_for_with_their_updates() -> None:
    site = AskNewsStories(URL, ("OpenAI",))

    (request,), _ = answered(site.pages(PART), lambda _: {"stories": [], "offset": 0})

    assert request.url == f"{URL}/stories"
    assert asked(request, "expand_updates") == "True"
    assert asked(request, "start_timestamp") is None


@pytest.mark.parametrize("offset", [100, "0a3c1d5e-0000-4b3e-8a6f-000000000001"])
def test_the_next_page_begins_where_the_last_one_said(offset: int | str) -> None:
    pages = [page(100, offset), page(100, None)]

    driven = drive(AskNewsNews(URL).pages(PART), lambda number: pages[number - 1])

    assert [asked(request, "offset") for request in driven.requests] == [None, str(offset)]
    assert isinstance(driven.result, ListingEnd)


@pytest.mark.parametrize(
    "last",
    [page(100, None), page(0, 300), page(9, 300), page(100, 0), page(100, "")],
    ids=["null", "empty", "short", "zero", "no text"],
)
def test_paging_ends(last: object) -> None:
    pages = [page(100, 100), last]

    driven = drive(AskNewsNews(URL).pages(PART), lambda number: pages[number - 1])

    assert len(driven.requests) == 2
    assert isinstance(driven.result, ListingEnd)


def test_an_offset_that_is_repeated_is_not_the_end() -> None:
    driven = drive(AskNewsNews(URL).pages(PART), lambda _: page(100, 100))

    assert len(driven.requests) == 2
    assert isinstance(driven.result, Incomplete)


@pytest.mark.parametrize("body", [{}, {"offset": None}, {"detail": "try again"}])
def test_an_answer_without_a_list_is_not_the_end(body: object) -> None:
    pages = [page(100, 100), body]

    with pytest.raises(Schema):
        drive(AskNewsNews(URL).pages(PART), lambda number: pages[number - 1])


def test_a_stretch_before_the_window_is_named() -> None:
    stretch = (datetime(2026, 9, 1, 8, tzinfo=UTC), datetime(2026, 9, 3, 12, tzinfo=UTC))
    site = AskNewsNews(URL, gaps={PART.key: stretch})

    end = drive(site.pages(PART), lambda _: page(3, None)).result

    assert isinstance(end, ListingEnd)
    assert isinstance(end.gap, Gap)
    assert "from 2026-09-01 08:00 to 2026-09-03 12:00 UTC was not requested" in str(end.gap)


def test_a_plan_that_is_used_up_stops_all_requests() -> None:
    site = AskNewsNews(URL, ("a", "b"))
    asking = site.pages(Partition("a"))
    next(asking)

    with pytest.raises(Auth, match="used up"):
        asking.throw(HttpStatus("HTTP 402", status=402))

    with pytest.raises(Auth, match="used up"):
        next(site.pages(Partition("b")))


@given(
    answers=st.lists(
        st.tuples(
            st.integers(0, 101), st.none() | st.integers(0, 5) | st.sampled_from(["", "a", "b"])
        ),
        min_size=1,
    ),
    most=st.integers(1, 8),
)
def test_paging_ends_whatever_the_offsets_are(answers: list[tuple[int, object]], most: int) -> None:
    driven = drive(
        AskNewsNews(URL, max_pages=most).pages(PART),
        lambda number: page(*answers[(number - 1) % len(answers)]),
    )

    assert 1 <= len(driven.requests) <= most


def test_more_pages_than_are_read_is_said() -> None:
    driven = drive(AskNewsNews(URL, max_pages=3).pages(PART), lambda number: page(100, number))

    assert len(driven.requests) == 3
    assert isinstance(driven.result, Incomplete)


@pytest.mark.parametrize(
    "refusal",
    [HttpStatus("HTTP 422", status=422), Blocked("HTTP 403", status=403)],
    ids=["422", "403"],
)
def test_a_page_too_large_for_the_plan_is_asked_for_smaller_and_so_are_all_after_it(
    refusal: Failure,
) -> None:
    site = AskNewsNews(URL)

    def answer(request: SourceRequest) -> object:
        return refusal if asked(request, "n_articles") == "100" else page(3, None)

    first, _ = answered(site.pages(PART), answer)
    second, _ = answered(site.pages(PART), answer)

    sizes = [asked(request, "n_articles") for request in (*first, *second)]
    assert sizes == ["100", "10", "10"]


def test_a_page_that_is_refused_in_every_size_is_a_failure_and_the_size_is_kept() -> None:
    site = AskNewsNews(URL)
    code = '{"code": 403012, "detail": "Forbidden"}'
    requests: list[SourceRequest] = []

    def answer(request: SourceRequest) -> object:
        requests.append(request)
        return Blocked(f"HTTP 403: {code}", status=403)

    with pytest.raises(Auth, match="403012") as refused:
        answered(site.pages(PART), answer)

    assert [asked(request, "n_articles") for request in requests] == ["100", "10"]
    assert refused.value.status == 403
    assert site.pace.size == 100


@pytest.mark.parametrize("failure", [Network("broken"), HttpStatus("HTTP 500", status=500)])
def test_a_page_that_could_not_be_had_is_asked_for_once(failure: Failure) -> None:
    site = AskNewsNews(URL)

    with pytest.raises(type(failure)) as raised:
        answered(site.pages(PART), lambda _: failure)

    assert raised.value is failure
    assert raised.value.__cause__ is None


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (Blocked('HTTP 403: {"code": 403001}', status=403), Auth, "403001"),
        (RateLimited('HTTP 429: {"code": 429000}', status=429), RateLimited, "429000, rate"),
        (RateLimited('HTTP 429: {"code":429001}', status=429), RateLimited, "429001, concurrency"),
        (RateLimited("HTTP 429", status=429, retry_in=7.0), RateLimited, "429, rate"),
    ],
)
def test_what_the_site_refuses_is_said_in_its_terms(
    failure: Failure, kind: type[Failure], said: str
) -> None:
    failure.attempts = 3

    result = translate_failure(failure)

    assert type(result) is kind
    assert said in str(result)
    assert (result.status, result.retry, result.retry_in, result.attempts) == (
        failure.status,
        failure.retry,
        failure.retry_in,
        3,
    )


def test_the_entities_are_the_partitions_and_the_plan_says_how_fast() -> None:
    site = AskNewsNews(URL, ("a", "b"))
    before = site.limits

    (request,), parts = answered(site.partitions(), lambda _: LIMITS)

    assert request.url == f"{URL}/profiles/me/limits"
    assert [part.key for part in parts] == ["a", "b"]
    assert site.limits == HostLimits(rate=0.45, burst=3, concurrency=2)
    assert site.limits is not before


@pytest.mark.parametrize(
    ("answer", "limits"),
    [
        (LIMITS | {"request_rate_remaining": 0}, HostLimits(0.45, 1, 2)),
        (LIMITS | {"request_rate": 1e9, "concurrency_limit": 500}, HostLimits(50, 3, 4)),
        ({"request_rate": 2}, HostLimits(1.8, 1, 1)),
        (LIMITS | {"request_rate": 0}, FREE_PLAN_LIMITS),
        (LIMITS | {"request_rate": -1}, FREE_PLAN_LIMITS),
        (LIMITS | {"request_rate": "fast"}, FREE_PLAN_LIMITS),
        (LIMITS | {"request_rate_capacity": -5, "concurrency_limit": 0}, HostLimits(0.45, 1, 1)),
        ({}, FREE_PLAN_LIMITS),
        ("<html>", FREE_PLAN_LIMITS),
        (Blocked("HTTP 403", status=403), FREE_PLAN_LIMITS),
        (HttpStatus("HTTP 404", status=404), FREE_PLAN_LIMITS),
        (Network("broken"), FREE_PLAN_LIMITS),
    ],
)
def test_the_pace_is_the_plans_where_it_says_so_and_what_every_plan_allows_elsewhere(
    answer: object, limits: HostLimits
) -> None:
    site = AskNewsStories(URL, ("a",))

    _, parts = answered(site.partitions(), lambda _: answer)

    assert len(parts) == 1
    assert site.limits == limits
    assert site.limits.rate <= MAX_LIMITS.rate


@pytest.mark.parametrize(("rest", "wait"), [(2.5, 2.5), (None, 0), (-3, 0), (4_000, 30)])
def test_a_site_that_asks_to_be_left_alone_is_left_alone_once(
    rest: float | None, wait: float
) -> None:
    site = AskNewsNews(URL, ("a", "b"))
    answered(site.partitions(), lambda _: LIMITS | {"retry_after": rest})

    first, _ = answered(site.pages(Partition("a")), lambda _: page(0, None))
    second, _ = answered(site.pages(Partition("b")), lambda _: page(0, None))

    assert [request.wait for request in (*first, *second)] == [wait, 0]


def test_a_site_that_does_not_know_us_is_asked_for_nothing_more() -> None:
    site = AskNewsNews(URL, ("a", "b"))
    answered(site.partitions(), lambda _: Auth("THE_KEY is not accepted", status=401))

    with pytest.raises(Auth, match="THE_KEY is not accepted"):
        next(site.pages(Partition("a")))


def test_a_page_size_below_the_smallest_is_kept_to() -> None:
    site = AskNewsNews(URL, pace=AskNewsLimits(4))

    driven = drive(site.pages(PART), lambda number: page(4, number if number < 3 else None))

    assert [asked(request, "n_articles") for request in driven.requests] == ["4"] * 3


def test_a_null_in_a_list_or_a_count_of_nothing_rejects_no_record() -> None:
    article = {
        "article_id": "a",
        "article_url": "https://news.test/a",
        "title": "t",
        "pub_date": "2026-09-05T10:15:00Z",
        "keywords": ["ai", None],
        "classification": [None, "Technology"],
        "entities": {"Person": [None], "Organization": ["OpenAI", None]},
    }
    story = {
        "uuid": "s",
        "updated_ts": 1788609600,
        "keywords": [None, "ai"],
        "languages": {"en": 3, "fr": None},
    }

    (read,) = AskNewsNews(URL).parse(raw({"as_dicts": [article]}))
    (result,) = AskNewsStories(URL).parse(raw({"stories": [story]}))

    assert isinstance(read, Article)
    assert (read.keywords, read.categories) == (("ai",), ("Technology",))
    assert read.entities == {"Organization": ("OpenAI",)}
    assert isinstance(result, Story)
    assert (result.keywords, result.languages) == (("ai",), {"en": 3})
