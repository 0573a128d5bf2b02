"""SportyBet: what it asks, when it stops, and what it refuses."""

from collections.abc import Iterable
from typing import Any

import pytest

from app.core.errors import ApiError, Blocked, Failure, Incomplete, Schema
from app.core.messages import Partition
from app.core.records import OddsEvent, OddsPrice, Record, Rejected
from app.sources.base import ListingEnd, Source
from app.sources.sites.sportybet import MAX_PAGES, SportyBet
from tests.sources.driver import PART, drive, raw, saved

SITE: Source = SportyBet("https://site.test/api/ng/factsCenter")


def _page(*ids: int, total: int | None = None) -> dict[str, Any]:
    events = [{"eventId": f"sr:match:{each}"} for each in ids]
    data = {"tournaments": [{"events": events}], "totalNum": total}
    return {"bizCode": 10000, "data": data}


def test_the_board_is_one_partition_and_costs_no_request() -> None:
    driven = drive(SITE.partitions(), lambda _: None)

    assert driven.requests == []
    assert driven.result == (Partition("football"),)


def test_the_full_list_of_football_is_asked_for_page_by_page() -> None:
    pages = [_page(1, 2, total=3), _page(3, total=3)]

    first, second = drive(SITE.pages(PART), lambda page: pages[page - 1]).requests

    assert first.url == "https://site.test/api/ng/factsCenter/pcUpcomingEvents"
    assert dict(first.params) == {
        "sportId": "sr:sport:1",
        "marketId": "1,18,10,29",
        "pageSize": "100",
        "pageNum": "1",
        "option": "2",
        "todayGames": "false",
        "timeline": "720",
    }
    assert dict(second.params) == dict(first.params) | {"pageNum": "2"}


def test_no_browser_is_pretended() -> None:
    (request,) = drive(SITE.pages(PART), lambda _: _page(total=0)).requests

    assert "user-agent" not in {name.lower() for name in request.headers}
    assert request.headers["clientid"] == "web"


def test_paging_ends_when_all_counted_events_were_seen() -> None:
    pages = [_page(1, 2, total=5), _page(3, total=5), _page(4, 5, total=5)]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert len(driven.requests) == 3
    assert _total(driven.result) == 5


def test_an_event_seen_twice_counts_once() -> None:
    pages = [_page(1, 2, total=3), _page(2, total=3), _page(3, total=3)]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert len(driven.requests) == 3


def test_paging_ends_after_two_pages_without_anything_new() -> None:
    pages = [_page(1, total=9), _page(), _page(2), _page(), _page(2)]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert len(driven.requests) == 5
    assert _total(driven.result) == 9


def test_a_page_past_the_end_may_have_no_data() -> None:
    pages = [_page(1), {"bizCode": 10000, "data": None}, {"bizCode": 10000}]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert len(driven.requests) == 3
    assert isinstance(driven.result, Incomplete)  # no page has a total


@pytest.mark.parametrize("total", [-1, 0, 1, 3])
def test_a_total_that_the_events_exceed_ends_no_listing(total: int) -> None:
    pages = [_page(1, 2, total=total), _page(3, 4, total=total), _page(), _page()]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert len(driven.requests) == len(pages)


def test_the_greatest_total_counts_though_the_list_shrinks_while_it_is_read() -> None:
    pages = [_page(1, 2, total=6), _page(4, total=4), _page(5, total=4), _page(), _page()]

    driven = drive(SITE.pages(PART), lambda page: pages[page - 1])

    assert len(driven.requests) == 5
    assert _total(driven.result) == 6


def _total(end: ListingEnd | Incomplete) -> int | None:
    return end.total if isinstance(end, ListingEnd) else None


def test_paging_has_a_hard_end() -> None:
    driven = drive(SITE.pages(PART), _page)

    assert len(driven.requests) == MAX_PAGES


def test_an_odd_event_does_not_stop_paging() -> None:
    odd: list[object] = [7, {}]
    page = {"bizCode": 10000, "data": {"totalNum": 2, "tournaments": [{"events": odd}]}}

    driven = drive(SITE.pages(PART), lambda _: page)

    assert len(driven.requests) == 1


def test_a_board_without_events_is_no_error_when_the_site_says_so() -> None:
    driven = drive(SITE.pages(PART), lambda _: {"bizCode": 10000, "data": {"totalNum": 0}})

    assert _total(driven.result) == 0


def test_an_error_in_the_envelope_carries_its_message() -> None:
    answer = raw({"bizCode": 19411, "message": "odd", "innerMsg": "no such sport", "data": None})

    with pytest.raises(ApiError, match="19411: no such sport"):
        SITE.parse(answer)


@pytest.mark.parametrize(
    ("body", "status", "failure"),
    [
        (b"", 202, Blocked),
        (b" \r\n", 202, Blocked),
        (b"", 200, ApiError),
        (b"\xef\xbb\xbf\n <!DOCTYPE html><html></html>", 200, Blocked),
        (b"not json", 200, Schema),
        (b'{"bizCode": 10000, "data"', 200, Schema),
        (b"[]", 200, Schema),
        (b"{}", 200, Schema),
        (b'{"bizCode": 10000, "data": null}', 200, Schema),
        (b'{"bizCode": 10000, "data": {}}', 200, Schema),
        (b'{"bizCode": 10000, "data": 5}', 200, Schema),
        (b'{"bizCode": 10000, "data": ' + b"[" * 100_000, 200, Schema),
    ],
)
def test_an_answer_that_is_no_page_is_a_failure(
    body: bytes, status: int, failure: type[Failure]
) -> None:
    answer = raw(body, status=status)

    with pytest.raises(failure) as caught:
        SITE.parse(answer)

    assert caught.value.status == status


@pytest.mark.parametrize("milliseconds", [0, -1, 1788616800, 10**30])
def test_an_event_at_an_impossible_time_is_rejected_and_the_others_kept(milliseconds: int) -> None:
    page = saved("sportybet/upcoming.json")
    page["data"]["tournaments"][0]["events"][0]["estimateStartTime"] = milliseconds

    rejected, kept = SITE.parse(raw(page))

    assert isinstance(rejected, Rejected)
    assert rejected.record_id == "sr:match:70000001"
    assert isinstance(kept, OddsEvent)


def test_the_open_one_of_two_equal_markets_counts_in_either_order() -> None:
    page = saved("sportybet/upcoming.json")
    as_saved = SITE.parse(raw(page))
    page["data"]["tournaments"][0]["events"][0]["markets"].reverse()

    turned = SITE.parse(raw(page))

    assert _prices(turned) == _prices(as_saved)


def _prices(records: Iterable[Record]) -> list[set[OddsPrice]]:
    return [set(each.prices) for each in records if isinstance(each, OddsEvent)]


@pytest.mark.parametrize("banned", ["event", "market"])
def test_what_is_banned_is_not_offered(banned: str) -> None:
    page = saved("sportybet/upcoming.json")
    event = page["data"]["tournaments"][0]["events"][0]
    for each in [event] if banned == "event" else event["markets"]:
        each["banned"] = True

    first, other = (record for record in SITE.parse(raw(page)) if isinstance(record, OddsEvent))

    assert first.prices == ()
    assert other.prices


@pytest.mark.parametrize(
    ("of", "name"),
    [("outcome", "isActive"), ("market", "status"), ("market", "banned"), ("event", "banned")],
)
def test_a_flag_that_is_null_is_as_one_that_is_absent(of: str, name: str) -> None:
    page = saved("sportybet/upcoming.json")
    event = page["data"]["tournaments"][0]["events"][0]
    market = event["markets"][0]
    holder = {"event": event, "market": market, "outcome": market["outcomes"][0]}[of]
    del holder[name]
    without = list(SITE.parse(raw(page)))
    holder[name] = None

    assert list(SITE.parse(raw(page))) == without


@pytest.mark.parametrize(
    "odd",
    [
        {"id": None, "outcomes": []},
        {"id": "1", "outcomes": [{"id": None}]},
        {"id": "1", "status": 1, "outcomes": [None]},
        None,
    ],
)
def test_what_is_null_in_one_market_costs_no_other_price(odd: dict[str, Any] | None) -> None:
    page = saved("sportybet/upcoming.json")
    as_saved = list(SITE.parse(raw(page)))
    page["data"]["tournaments"][0]["events"][0]["markets"].append(odd)

    assert list(SITE.parse(raw(page))) == as_saved
