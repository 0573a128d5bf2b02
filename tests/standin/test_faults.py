"""Faults on demand really happen, as often as asked and to whom was asked."""

import asyncio
import time
from typing import Any

import httpx
import pytest

from scripts.standin.testing import Standin

GROUP = "PalimpsestAjax/GetEventsInGroupV2?GROUPID=170880"
KEY = {"authorization": "Bearer standin-key"}


def group(web: Standin, client: httpx.Client) -> httpx.Response:
    return client.get(f"{web.url}/bet9ja/{GROUP}")


def test_a_reset_is_a_real_tcp_reset(broken: Standin, client: httpx.Client) -> None:
    broken.fault("/bet9ja", "reset", times=1)

    with pytest.raises(httpx.ReadError, match="reset"):
        group(broken, client)

    assert group(broken, client).status_code == 200


def test_a_truncated_answer_promises_more_than_it_sends(
    broken: Standin, client: httpx.Client
) -> None:
    broken.fault("/bet9ja", "truncated", times=1)

    with pytest.raises(httpx.RemoteProtocolError, match="without sending complete"):
        group(broken, client)

    assert group(broken, client).status_code == 200


@pytest.mark.parametrize("kind", ["delay", "slow_body"])
def test_a_slow_answer_takes_as_long_as_asked(
    broken: Standin, client: httpx.Client, kind: str
) -> None:
    right = group(broken, client).content
    broken.fault("/bet9ja", kind, seconds=0.3)

    began = time.monotonic()
    slow = group(broken, client).content

    assert time.monotonic() - began >= 0.25
    assert slow == right


@pytest.mark.parametrize(
    ("fault", "status", "body"),
    [
        ({"kind": "status", "status": 500}, 500, b'{"error":500}'),
        ({"kind": "empty"}, 200, b""),
        ({"kind": "empty", "status": 202}, 202, b""),
        ({"kind": "bizcode"}, 200, b'{"R":"E"}'),
        ({"kind": "non_json"}, 502, b"upstream connect error"),
    ],
)
def test_a_fault_answers_as_it_says(
    broken: Standin,
    client: httpx.Client,
    fault: dict[str, Any],
    status: int,
    body: bytes,
) -> None:
    broken.fault("/bet9ja", **fault)

    answer = group(broken, client)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.content == body


def test_a_block_page_is_html_with_a_200(broken: Standin, client: httpx.Client) -> None:
    broken.fault("/bet9ja", "html")

    answer = group(broken, client)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")


def test_sites_fail_with_a_200_each_in_its_own_way(broken: Standin, client: httpx.Client) -> None:
    broken.fault("/", "bizcode")

    sporty = client.get(f"{broken.sportybet_url}/popularAndSportList").json()
    pawa = client.get(f"{broken.betpawa_url}/v4/categories/list/2")

    assert sporty["bizCode"] != 10000
    assert pawa.headers["content-type"] == "text/html"


def test_retry_after_comes_with_a_429(broken: Standin, client: httpx.Client) -> None:
    broken.fault("/asknews", "retry_after", retry_after="7", code=429001)

    answer = client.get(f"{broken.asknews_url}/stories", headers=KEY)

    assert answer.status_code == 429
    assert answer.headers["retry-after"] == "7"
    assert answer.json()["code"] == 429001


def test_a_stale_answer_shows_the_world_as_it_was(broken: Standin, client: httpx.Client) -> None:
    before = group(broken, client).content
    broken.fault("/bet9ja", "stale", times=1)
    broken.advance()

    stale, fresh = group(broken, client).content, group(broken, client).content

    assert stale == before
    assert fresh != before


def test_a_partial_answer_leaves_events_out_and_keeps_the_total(
    broken: Standin, client: httpx.Client
) -> None:
    asked = {"sportId": "sr:sport:1", "pageSize": "100", "pageNum": "1"}
    broken.fault("/sportybet", "partial")

    data = client.get(f"{broken.sportybet_url}/pcUpcomingEvents", params=asked).json()["data"]

    assert data["totalNum"] == 60
    assert sum(len(each["events"]) for each in data["tournaments"]) == 30


def test_a_fault_strikes_only_what_it_matches_and_only_so_often(
    broken: Standin, client: httpx.Client
) -> None:
    broken.fault("/bet9ja", "status", match="GROUPID=170880", status=500, times=2)

    catalogue = client.get(f"{broken.bet9ja_url}/GetSports")
    statuses = [group(broken, client).status_code for _ in range(4)]

    assert catalogue.status_code == 200
    assert statuses == [500, 500, 200, 200]


def test_a_share_strikes_the_same_requests_for_the_same_seed(client: httpx.Client) -> None:
    rounds: list[list[int]] = []

    for _ in range(2):
        with Standin.start(events=20, seed=3) as web:
            web.fault("/bet9ja", "status", share=0.3)
            rounds.append([group(web, client).status_code for _ in range(40)])

    assert rounds[0] == rounds[1]
    assert 4 <= rounds[0].count(503) <= 20


def test_faults_come_and_go_by_the_control_desk(broken: Standin, client: httpx.Client) -> None:
    url = f"{broken.url}/control/faults"

    added = client.post(url, json={"path": "/bet9ja", "kind": "status", "status": 418})
    during = group(broken, client).status_code
    client.delete(url)

    assert (added.status_code, during) == (201, 418)
    assert group(broken, client).status_code == 200


@pytest.mark.parametrize("fault", [{"path": "/"}, {"path": "/", "kind": "magic"}, {"pth": "/"}])
def test_a_fault_that_cannot_be_is_refused(
    broken: Standin, client: httpx.Client, fault: dict[str, str]
) -> None:
    assert client.post(f"{broken.url}/control/faults", json=fault).status_code == 400


def test_the_desk_moves_the_world_and_counts_what_was_asked(
    broken: Standin, client: httpx.Client
) -> None:
    before = group(broken, client).content

    moved = client.post(f"{broken.url}/control/advance", json={"ticks": 2, "share": 1.0}).json()
    after = client.get(f"{broken.url}/bet9ja/{GROUP}", headers={"user-agent": "rollcall"}).content
    stats = client.get(f"{broken.url}/control/stats").json()

    assert moved == {"version": 2}
    assert after != before
    assert stats["sites"]["bet9ja"]["requests"] == stats["requests"] == 2
    assert stats["sites"]["bet9ja"]["user_agents"]["rollcall"] == 1
    assert stats["sites"]["bet9ja"]["statuses"] == {"200": 2}


async def test_requests_under_way_at_once_are_counted() -> None:
    with Standin.start(events=20, latency=0.2) as web:
        async with httpx.AsyncClient(trust_env=False) as client:
            await asyncio.gather(*(client.get(f"{web.url}/bet9ja/{GROUP}") for _ in range(7)))
        stats = web.stats()

    assert stats["sites"]["bet9ja"]["max_concurrent"] == 7


def test_closing_hangs_up_on_clients_that_still_wait(client: httpx.Client) -> None:
    web = Standin.start(events=20)
    group(web, client)
    web.fault("/bet9ja", "delay", seconds=60)

    web.close()

    with pytest.raises(httpx.ConnectError):
        group(web, client)
