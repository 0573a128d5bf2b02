"""The odds sites' wire shapes, paging and manners."""

import json
from typing import Any

import httpx
import pytest

from scripts.standin.testing import Standin

Json = dict[str, Any]
PAWA = {"accept": "application/json", "x-pawa-brand": "betpawa-nigeria"}


def upcoming(web: Standin, client: httpx.Client, **asked: str) -> Json:
    params = {"sportId": "sr:sport:1", "marketId": "1,18,10,29", "pageSize": "100", **asked}
    answer = client.get(f"{web.sportybet_url}/pcUpcomingEvents", params=params).json()
    assert answer["bizCode"] == 10000
    return answer["data"]


def sporty_events(data: Json) -> list[Json]:
    return [event for tournament in data["tournaments"] for event in tournament["events"]]


def pawa(web: Standin, client: httpx.Client, version: str = "v4", **query: Any) -> httpx.Response:
    asked: Json = {
        "query": {"eventType": "UPCOMING", "categories": ["2"], "zones": {}, "hasOdds": True},
        "view": {"marketTypes": ["3743", "5000", "3795", "4693"]},
        "skip": 0,
        "take": 100,
        "sort": {"startTime": "ASC"},
        **query,
    }
    url = f"{web.betpawa_url}/{version}/events/lists/by-queries"
    return client.get(url, params={"q": json.dumps({"queries": [asked]})}, headers=PAWA)


def test_the_pages_of_sportybet_sum_up_to_its_total(web: Standin, client: httpx.Client) -> None:
    pages = [upcoming(web, client, pageNum=str(number)) for number in range(1, 15)]

    sizes = [len(sporty_events(page)) for page in pages]
    ids = {event["eventId"] for page in pages for event in sporty_events(page)}
    assert {page["totalNum"] for page in pages} == {600}
    assert sum(sizes) == len(ids) == 600
    assert max(sizes) <= 100
    assert sizes[-1] == 0


def test_the_highlights_of_sportybet_lose_events_without_saying_so(
    web: Standin, client: httpx.Client
) -> None:
    page = upcoming(web, client, pageNum="1", option="1")

    assert page["totalNum"] == 600
    assert max(len(tournament["events"]) for tournament in page["tournaments"]) == 10


def test_sportybet_writes_odds_as_strings_and_a_market_per_line(
    web: Standin, client: httpx.Client
) -> None:
    event = sporty_events(upcoming(web, client, pageNum="1"))[0]

    lines = [market["specifier"] for market in event["markets"] if market["id"] == "18"]
    odds = [outcome["odds"] for market in event["markets"] for outcome in market["outcomes"]]
    assert lines[:3] == ["total=0.5", "total=1.5", "total=2.5"]
    assert all(isinstance(written, str) and written[-3] == "." for written in odds)


def test_sportybet_has_stale_copies_of_markets_before_and_after_the_live_one(
    web: Standin, client: httpx.Client
) -> None:
    pages = [upcoming(web, client, pageNum=str(number)) for number in range(1, 15)]

    events = [event for page in pages for event in sporty_events(page)]
    results = [[m["status"] for m in event["markets"] if m["id"] == "1"] for event in events]
    assert [0, 1] in results
    assert [1, 0] in results


def test_sportybet_knows_the_same_events_by_tournament_and_one_by_one(
    web: Standin, client: httpx.Client
) -> None:
    wanted = [{"sportId": "sr:sport:1", "marketId": "1", "tournamentId": [["sr:tournament:17"]]}]

    listed = client.post(f"{web.sportybet_url}/pcEvents", json=wanted).json()["data"]
    event = listed[0]["events"][0]
    detail = client.get(f"{web.sportybet_url}/event", params={"eventId": event["eventId"]}).json()
    sports = client.get(f"{web.sportybet_url}/popularAndSportList").json()["data"]["sportList"]

    assert [tournament["id"] for tournament in listed] == ["sr:tournament:17"]
    assert detail["data"]["homeTeamName"] == event["homeTeamName"]
    assert len(detail["data"]["markets"]) > len(event["markets"])
    tournaments = [t for category in sports[0]["categories"] for t in category["tournaments"]]
    assert sum(tournament["eventSize"] for tournament in tournaments) == 600


def test_an_event_sportybet_does_not_know_is_a_success_without_data(
    web: Standin, client: httpx.Client
) -> None:
    asked = {"eventId": "sr:match:1", "productId": "3"}

    answer = client.get(f"{web.sportybet_url}/event", params=asked)

    assert answer.status_code == 200
    assert answer.json()["data"] is None


def test_past_its_end_betpawa_leaves_the_list_out(web: Standin, client: httpx.Client) -> None:
    sizes = [len(pawa(web, client, skip=skip).json()["responses"][0]["responses"]) for skip in
             range(0, 600, 100)]  # fmt: skip

    past = pawa(web, client, skip=600)

    assert sizes == [100] * 6
    assert past.json() == {"responses": [{}]}


def test_betpawa_answers_in_protobuf_to_whoever_does_not_ask_for_json(
    web: Standin, client: httpx.Client
) -> None:
    url = f"{web.betpawa_url}/v4/categories/list/2"

    binary = client.get(url, headers={**PAWA, "accept": "*/*"})

    assert binary.headers["content-type"] == "application/x-protobuf"
    with pytest.raises(ValueError, match="decode"):
        binary.json()


@pytest.mark.parametrize(
    ("query", "message"),
    [({"take": 101}, "The maximum number of events is 100"), ({"skip": "x"}, "Malformed query")],
)
def test_betpawa_refuses_what_it_does_not_allow(
    web: Standin, client: httpx.Client, query: Json, message: str
) -> None:
    answer = pawa(web, client, **query)

    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == message


def test_betpawa_wants_a_brand(web: Standin, client: httpx.Client) -> None:
    answer = client.get(
        f"{web.betpawa_url}/v4/categories/list/2", headers={"accept": "application/json"}
    )

    assert answer.status_code == 400


def test_betpawa_lists_its_competitions_and_filters_by_them(
    web: Standin, client: httpx.Client
) -> None:
    url = f"{web.betpawa_url}/v4/categories/list"
    regions = client.get(f"{url}/2", headers=PAWA).json()["withRegions"][0]["regions"]
    meta = client.get(f"{url}/all", headers=PAWA).json()["onlyMeta"]
    leagues = [one["competition"]["id"] for each in regions for one in each["competitions"]]

    filters = [
        {"eventType": "UPCOMING", "categories": ["2"], "zones": {"competitions": [league]}}
        for league in leagues
    ]
    found = [pawa(web, client, query=one).json()["responses"][0]["responses"] for one in filters]

    assert meta[0]["eventCounts"]["upcoming"] == sum(map(len, found)) == 600
    assert {event["competition"]["id"] for event in found[0]} == {leagues[0]}


def test_betpawa_v3_says_price_and_counts_in_numbers_where_v4_says_odds(
    web: Standin, client: httpx.Client
) -> None:
    new = pawa(web, client).json()["responses"][0]["responses"][0]
    old = pawa(web, client, "v3").json()["responses"][0]["responses"][0]

    new_price = new["markets"][0]["row"][0]["prices"][0]
    old_price = old["markets"][0]["row"][0]["prices"][0]
    assert old_price["price"] == new_price["odds"]
    assert old_price["suspended"] is False
    assert old["totalMarketCount"] == int(new["totalMarketCount"])
    assert old["id"] == new["id"]


def test_a_betpawa_row_counts_quarter_goals(web: Standin, client: httpx.Client) -> None:
    event = pawa(web, client).json()["responses"][0]["responses"][0]

    rows = next(m["row"] for m in event["markets"] if m["marketType"]["id"] == "5000")
    assert [row["handicap"] for row in rows][:3] == [2, 6, 10]
    assert [row["prices"][0]["handicap"] for row in rows][:3] == ["0.5", "1.5", "2.5"]


def test_one_betpawa_event_is_found_by_its_id_and_another_is_not(
    web: Standin, client: httpx.Client
) -> None:
    event = pawa(web, client).json()["responses"][0]["responses"][0]

    found = client.get(f"{web.betpawa_url}/v4/events/{event['id']}", headers=PAWA)
    lost = client.get(f"{web.betpawa_url}/v4/events/1", headers=PAWA)

    assert found.json()["name"] == event["name"]
    assert lost.status_code == 404


def groups(web: Standin, client: httpx.Client) -> dict[str, int]:
    answer = client.get(f"{web.bet9ja_url}/GetSports", params={"DISP": "0"}).json()
    assert answer["R"] == "OK"
    countries = answer["D"]["PAL"]["1"]["SG"].values()
    return {key: one["NUM"] for country in countries for key, one in country["G"].items()}


def listed(events: list[Json] | dict[str, Json]) -> list[Json]:
    return list(events.values()) if isinstance(events, dict) else events


def group(web: Standin, client: httpx.Client, number: str) -> Any:
    asked = {"GROUPID": number, "DISP": "0", "GROUPMARKETID": "1", "matches": "true"}
    return client.get(f"{web.bet9ja_url}/GetEventsInGroupV2", params=asked).json()["D"]["E"]


def test_every_bet9ja_group_holds_as_many_events_as_the_catalogue_says(
    web: Standin, client: httpx.Client
) -> None:
    counts = groups(web, client)

    found = {number: group(web, client, number) for number in counts}

    assert {number: len(events) for number, events in found.items()} == counts
    assert sum(counts.values()) == 600
    assert {type(events) for events in found.values()} == {list, dict}


def test_bet9ja_has_odds_that_are_not_on_offer_and_lines_with_one_side(
    web: Standin, client: httpx.Client
) -> None:
    found = [group(web, client, number) for number in groups(web, client)]

    events = [event for each in found for event in listed(each)]
    draws = {event["O"]["S_1X2_X"] for event in events}
    keys = [set(event["O"]) for event in events]
    assert draws >= {"1", "-", ""}
    assert any("S_OU@4.5_O" in each and "S_OU@4.5_U" not in each for each in keys)
    assert any("S_OUA@3_O" in each for each in keys)
    assert any(event["EXTID"] is None for event in events)


def test_bet9ja_fails_with_a_200_for_a_group_it_does_not_know(
    web: Standin, client: httpx.Client
) -> None:
    asked = {"GROUPID": "1"}

    answer = client.get(f"{web.bet9ja_url}/GetEventsInGroupV2", params=asked)

    assert answer.status_code == 200
    assert answer.json() == {"R": "E"}


def test_one_bet9ja_event_tells_its_markets(web: Standin, client: httpx.Client) -> None:
    events = group(web, client, "170880")

    answer = client.get(f"{web.bet9ja_url}/GetEvent", params={"EVENTID": events[0]["ID"]}).json()

    assert answer["D"]["O"] == events[0]["O"]
    assert "S_OU" in {market["ID"] for market in answer["D"]["MK"]}


def test_a_parameter_that_is_no_number_is_refused(web: Standin, client: httpx.Client) -> None:
    asked = {"sportId": "sr:sport:1", "pageNum": "one"}

    answer = client.get(f"{web.sportybet_url}/pcUpcomingEvents", params=asked)

    assert answer.status_code == 400
