"""Bet9ja: what it asks, what it makes of the catalogue, and what it refuses."""

import pytest

from app.core.errors import ApiError, Blocked, Failure, Schema
from app.core.messages import Partition
from app.sources.base import ListingEnd, Source
from app.sources.sites.bet9ja import Bet9ja
from tests.sources.driver import drive, raw, saved

SITE: Source = Bet9ja("https://site.test/desktop/feapi/PalimpsestAjax")
GROUP = Partition("170880", expected=2)


def _catalogue(**countries: object) -> object:
    tree = {
        "1": {"S_DESC": "Soccer", "NUM": 861, "SG": countries},
        "2": {"SG": {"9": "basketball"}},
    }
    return {"R": "OK", "D": {"PAL": tree}}


def test_the_catalogue_gives_a_partition_per_football_group() -> None:
    england = {"SG_DESC": "England", "G": {"170880": {"G_DESC": "Premier League", "NUM": 2}}}
    spain = {"G": {"180928": {"NUM": "3"}, "7": {}, "8": None, "9": {"NUM": "many"}}}

    driven = drive(SITE.partitions(), lambda _: _catalogue(a=england, b=spain))

    assert driven.result == (
        Partition("170880", 2),
        Partition("180928", 3),
        Partition("7"),
        Partition("8"),
        Partition("9"),
    )


def test_the_catalogue_is_one_request_with_the_site_as_referer() -> None:
    (request,) = drive(SITE.partitions(), lambda _: _catalogue(a={"G": {"1": {}}})).requests

    assert request.url == "https://site.test/desktop/feapi/PalimpsestAjax/GetSports"
    assert request.params == (("DISP", "0"),)
    assert dict(request.headers) == {"referer": "https://site.test/"}


def test_a_group_without_events_is_not_asked_for() -> None:
    catalogue = _catalogue(a={"G": {"1": {"NUM": 0}, "2": {"NUM": "0"}, "3": {"NUM": 1}}})

    driven = drive(SITE.partitions(), lambda _: catalogue)

    assert driven.result == (Partition("3", 1),)


def test_empty_branches_of_the_catalogue_may_be_lists() -> None:
    catalogue = _catalogue(a={"G": []}, b=None, c={"G": {"3": {"NUM": 1}}})

    driven = drive(SITE.partitions(), lambda _: catalogue)

    assert driven.result == (Partition("3", 1),)


@pytest.mark.parametrize(
    "tree", [{}, {"PAL": {}}, {"PAL": {"2": {}}}, {"PAL": {"1": {"SG": []}}}, {"PAL": []}, None]
)
def test_a_catalogue_without_football_is_a_failure(tree: object) -> None:
    with pytest.raises(Schema):
        drive(SITE.partitions(), lambda _: {"R": "OK", "D": tree})


def test_a_group_is_asked_for_once_and_owes_what_the_catalogue_counted() -> None:
    page = saved("bet9ja/group.json")

    driven = drive(SITE.pages(GROUP), lambda _: page)

    (request,) = driven.requests
    assert request.url == "https://site.test/desktop/feapi/PalimpsestAjax/GetEventsInGroupV2"
    assert dict(request.params) == {
        "GROUPID": "170880",
        "DISP": "0",
        "GROUPMARKETID": "1",
        "matches": "true",
    }
    assert driven.result == ListingEnd("the only page", 2)


def test_requests_never_come_in_bursts() -> None:
    assert SITE.limits.burst == 1
    assert SITE.limits.rate <= 1 / 0.025


@pytest.mark.parametrize("empty", [{"E": []}, {"E": {}}, {"E": None}, []])
def test_a_group_may_be_empty_in_several_ways(empty: object) -> None:
    assert SITE.parse(raw({"R": "OK", "D": empty})) == []


def test_an_error_in_the_envelope_may_pass_when_asked_again() -> None:
    with pytest.raises(ApiError) as caught:
        SITE.parse(raw({"R": "E"}))

    assert caught.value.retry


@pytest.mark.parametrize(
    ("body", "failure"),
    [
        (b"<html>Access denied</html>", Blocked),
        (b'{"D": {"E": []}}', Schema),
        (b'{"R": "OK"}', Schema),
        (b'{"R": "OK", "D": null}', Schema),
        (b'{"R": "OK", "D": {}}', Schema),
        (b'{"R": "OK", "D": {"E": 5}}', Schema),
        (b'{"R": "OK", "D": [1]}', Schema),
    ],
)
def test_an_answer_that_is_no_group_is_a_failure(body: bytes, failure: type[Failure]) -> None:
    answer = raw(body)

    with pytest.raises(failure):
        SITE.parse(answer)
