"""BetPawa: what it asks, when it stops, and what it refuses."""

import json
from collections.abc import Iterable
from typing import Any

import pytest

from app.core.errors import ApiError, Blocked, Failure, Incomplete, Schema
from app.core.messages import Partition, SourceRequest
from app.core.records import OddsEvent
from app.sources.base import ListingEnd, Source
from app.sources.sites.betpawa import MAX_PAGES, BetPawa
from tests.sources.driver import PART, drive, raw, saved

SITE: Source = BetPawa("https://site.test/api/sportsbook", version="v4", brand="betpawa-ghana")
FULL: object = {"responses": [{"responses": [{"id": "1"}]}]}
PAST_THE_END: object = json.loads('{"responses": [{}]}')


def _asked(request: SourceRequest) -> dict[str, Any]:
    (query,) = json.loads(dict(request.params)["q"])["queries"]
    return query


def test_the_board_is_one_partition_and_costs_no_request() -> None:
    driven = drive(SITE.partitions(), lambda _: None)

    assert driven.requests == []
    assert driven.result == (Partition("football"),)


def test_the_whole_board_is_asked_for_by_market_ids_in_order_of_kick_off() -> None:
    (request,) = drive(SITE.pages(PART), lambda _: PAST_THE_END).requests

    assert request.url == "https://site.test/api/sportsbook/v4/events/lists/by-queries"
    assert _asked(request) == {
        "query": {"eventType": "UPCOMING", "categories": ["2"], "zones": {}, "hasOdds": True},
        "view": {"marketTypes": ["3743", "5000", "3795", "4693"]},
        "skip": 0,
        "take": 100,
        "sort": {"startTime": "ASC"},
    }


def test_json_is_asked_for_of_the_right_brand_and_an_empty_answer_is_asked_again() -> None:
    (request,) = drive(SITE.pages(PART), lambda _: PAST_THE_END).requests

    assert request.accept == "application/json"
    assert request.retry_empty
    assert dict(request.headers) == {
        "x-pawa-brand": "betpawa-ghana",
        "devicetype": "web",
        "x-pawa-language": "en",
    }


def test_the_version_is_a_part_of_the_address() -> None:
    old = BetPawa("https://site.test/api/sportsbook", version="v3")

    (request,) = drive(old.pages(PART), lambda _: PAST_THE_END).requests

    assert request.url == "https://site.test/api/sportsbook/v3/events/lists/by-queries"


@pytest.mark.parametrize(
    "end", ['{"responses": [{}]}', '{"responses": [{"responses": []}]}', '{"responses": []}']
)
def test_paging_ends_at_the_first_page_without_events(end: str) -> None:
    pages = [FULL, FULL, end]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert [_asked(request)["skip"] for request in driven.requests] == [0, 1, 2]
    assert driven.result == ListingEnd("an empty list")


@pytest.mark.parametrize(
    "middle",
    [
        '{"responses": [{"error": "timeout"}]}',
        '{"responses": [{"responses": [], "error": "timeout"}]}',
        '{"responses": [{"responses": null, "errors": ["timeout"]}]}',
        '{"responses": [], "error": {"code": "TIMEOUT"}}',
        '{"responses": [7]}',
        '{"error": "x"}',
        "[]",
    ],
)
def test_a_page_without_the_list_is_not_the_end(middle: str) -> None:
    pages = [FULL, middle]

    with pytest.raises(Schema):
        drive(SITE.pages(PART), lambda page: pages[page - 1])


def test_a_list_that_moved_down_is_incomplete() -> None:
    pages = [_board(range(100)), _board(range(95, 195)), PAST_THE_END]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert isinstance(driven.result, Incomplete)
    assert len(driven.requests) == 2


def _board(ids: Iterable[int]) -> object:
    return {"responses": [{"responses": [{"id": str(number)} for number in ids]}]}


def test_a_board_without_end_is_incomplete() -> None:
    asked: list[int] = []

    def answer(page: int) -> object:
        asked.append(page)
        return FULL

    driven = drive(SITE.pages(PART), answer)

    assert isinstance(driven.result, Incomplete)
    assert len(asked) == MAX_PAGES


def test_v3_and_v4_pages_give_the_same_prices_whatever_the_version() -> None:
    old, new = raw(saved("betpawa/v3.json")), raw(saved("betpawa/v4.json"))

    assert SITE.parse(old) == SITE.parse(new)


def test_an_empty_answer_can_be_asked_again() -> None:
    with pytest.raises(ApiError) as caught:
        SITE.parse(raw(b""))

    assert caught.value.retry


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"<html>betPawa</html>", Blocked),
        (b"\x0a\x12\x08\x01protobuf", Schema),
        (b'{"code": "BAD_REQUEST", "message": "Request is empty"}', Schema),
        (b"null", Schema),
        (b'{"responses": {}}', Schema),
    ],
)
def test_an_answer_that_is_no_page_is_a_failure(body: bytes, failure: type[Failure]) -> None:
    answer = raw(body)

    with pytest.raises(failure):
        SITE.parse(answer)


ROWS: list[dict[str, Any]] = [
    {"handicap": 10, "prices": [{"handicap": "2.5"}]},
    {"handicap": 10, "prices": [{"handicap": 10}]},
    {"handicap": 10, "prices": [{}], "specifier": {"total": "2.5"}},
    {"handicap": 10, "prices": [{}], "formattedHandicap": "2.5"},
    {"handicap": "10", "prices": [{}], "formattedHandicap": "10"},
    {"handicap": 10, "prices": [{}], "specifier": {"total": 10}},
]


@pytest.mark.parametrize("row", ROWS)
def test_the_line_is_a_quarter_of_the_rows_handicap(row: dict[str, Any]) -> None:
    page = saved("betpawa/v4.json")
    event = page["responses"][0]["responses"][0]
    prices = [{"typeId": "5001", "odds": 1.98, **price} for price in row["prices"]]
    event["markets"] = [{"marketType": {"id": "5000"}, "row": [{**row, "prices": prices}]}]

    record = next(iter(SITE.parse(raw(page))))

    assert isinstance(record, OddsEvent)
    assert [str(price.line) for price in record.prices] == ["2.5"]


def test_a_price_that_is_blanked_while_suspended_is_kept_as_suspended() -> None:
    page = saved("betpawa/v4.json")
    event = page["responses"][0]["responses"][0]
    prices = [{"typeId": "3744", "suspended": True}, {"typeId": "3745"}]
    event["markets"] = [{"marketType": {"id": "3743"}, "row": [{"prices": prices}]}]

    record = next(iter(SITE.parse(raw(page))))

    assert isinstance(record, OddsEvent)
    assert [(price.outcome, price.price, price.active) for price in record.prices] == [
        ("home", None, False)
    ]


@pytest.mark.parametrize(
    "odd",
    [
        {"marketType": {"id": None}, "row": []},
        {"marketType": {"id": "3743"}, "row": [{"prices": [{"typeId": None, "odds": 2}]}]},
        {"marketType": {"id": "3743"}, "row": [None, {"prices": [None]}]},
        None,
    ],
)
def test_what_is_null_in_one_market_costs_no_other_price(odd: dict[str, Any] | None) -> None:
    page = saved("betpawa/v4.json")
    as_saved = list(SITE.parse(raw(page)))
    event = page["responses"][0]["responses"][0]
    event["markets"].append(odd)
    event["participants"].append(None)
    event["widgets"].append(None)

    assert list(SITE.parse(raw(page))) == as_saved
