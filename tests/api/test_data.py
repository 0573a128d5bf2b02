"""The operator's odds and news over HTTP: for tokens that may, and as the commands say."""

import csv
import io
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import httpx
import pytest

from app.core.enums import Scope
from app.core.records import OddsEvent
from app.orgs import tokens
from app.store.content import odds
from app.store.db import Pool
from app.web.api.table import ENDPOINTS
from tests.api.clients import Org, Visitor, fields, problem
from tests.clock import NOON, SettableClock
from tests.dashboard.collected import ARTICLE, AWAY, DRAW, HOME, OVER, STORY, UNDER, event

MINUTE = timedelta(minutes=1)
RUN = UUID(int=7)
HISTORY = "/odds/matches/70000001/history"
DATA = [one for one in ENDPOINTS if one.data]


@pytest.fixture
async def operator(api: httpx.AsyncClient, pool: Pool, clock: SettableClock) -> Visitor:
    request = tokens.TokenRequest(None, "laptop", Scope.READ, clock() + timedelta(days=1))
    return Visitor(api, await tokens.create_token(pool, request, clock(), by="test"))


async def seen(pool: Pool, found: OddsEvent, ago: timedelta = MINUTE) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await odds.write(connection, [found], NOON - ago, RUN)


async def had(who: Visitor, path: str, **params: Any) -> Any:
    answer = await who("GET", path, params=params)
    assert answer.status_code == 200, answer.text
    return answer.json()


@pytest.mark.parametrize("endpoint", DATA, ids=lambda one: one.name)
async def test_an_organisations_token_may_only_if_it_was_made_so(
    api: httpx.AsyncClient, org: Org, pool: Pool, clock: SettableClock, endpoint: Any
) -> None:
    wanted = tokens.TokenRequest("Acme", "data", Scope.READ, data=True)
    may = Visitor(api, await tokens.create_token(pool, wanted, clock(), by="test"))
    path = endpoint.path.format(match="70000001", story="1")

    refused = problem(await Visitor(api, org.secrets[Scope.ADMIN])("GET", path), 403)
    answer = await may("GET", path)

    assert "odds and news" in refused["detail"]
    assert answer.status_code in (200, 404)  # nothing was collected
    problem(await may("GET", "/operator/jobs"), 403)


async def test_matches_have_prices_side_by_side_and_the_best(operator: Visitor, pool: Pool) -> None:
    better = replace(HOME, price=Decimal("2.55"))
    await seen(pool, event(NOON, "betpawa"))
    await seen(pool, event(NOON, "bet9ja", better, DRAW, AWAY))

    (match,) = (await had(operator, "/odds/matches", market="1x2"))["matches"]
    (best,) = (await had(operator, "/odds/best", market="1x2"))["matches"]
    one = await had(operator, "/odds/matches/70000001")

    assert match["platforms"] == ["bet9ja", "betpawa"]
    (market,) = match["markets"]
    home = market["outcomes"][0]
    assert home["best"] == {"platform": "bet9ja", "price": "2.55"}
    assert {q["platform"]: q["price"] for q in home["quotes"]} == {
        "bet9ja": "2.55", "betpawa": "2.40",
    }  # fmt: skip
    assert best["markets"][0]["outcomes"][0] == {"outcome": "home", "best": home["best"]}
    assert best["markets"][0]["margin"] == market["best_margin"]
    assert one["markets"][0] == market


async def test_matches_are_paged_in_order_of_kick_off_and_filtered(
    operator: Visitor, pool: Pool
) -> None:
    for number in range(5):
        later = event(NOON, "betpawa")
        await seen(
            pool,
            replace(
                later,
                sportradar_id=f"sr{number}",
                platform_event_id=f"e{number}",
                kickoff=later.kickoff + timedelta(hours=number),
                home=f"Team {number}",
            ),
        )

    found: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = await had(operator, "/odds/matches", limit="2", **cursor)
        found += [match["match"] for match in page["matches"]]
        if page["next_cursor"] is None:
            break
        cursor = {"cursor": page["next_cursor"]}
    one = await had(operator, "/odds/matches", teams="team 3")
    none = await had(operator, "/odds/matches", until=NOON.isoformat())

    assert found == [f"sr{number}" for number in range(5)]
    assert [match["match"] for match in one["matches"]] == ["sr3"]
    assert none == {"matches": [], "next_cursor": None}
    assert fields(await operator("GET", "/odds/best", params={"cursor": "x"})) == ["cursor"]


async def test_matches_are_csv_with_the_columns_of_the_command_and_a_link_to_the_next_page(
    operator: Visitor, pool: Pool
) -> None:
    for key in ("sr1", "sr2"):
        await seen(pool, replace(event(NOON, "betpawa"), sportradar_id=key, platform_event_id=key))

    answer = await operator("GET", "/odds/matches?format=csv&limit=1&market=1x2")
    rest = await operator("GET", answer.links["next"]["url"])

    lines = list(csv.DictReader(io.StringIO(answer.text)))
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"
    assert [(one["match"], one["outcome"], one["price"], one["best"]) for one in lines] == [
        ("sr1", "home", "2.40", "True"), ("sr1", "draw", "3.10", "True"),
        ("sr1", "away", "3.00", "True"),
    ]  # fmt: skip
    assert {one["match"] for one in csv.DictReader(io.StringIO(rest.text))} == {"sr2"}
    assert "next" not in rest.links


async def test_the_history_of_a_price_has_every_change_in_pages(
    operator: Visitor, pool: Pool
) -> None:
    prices = ["2.10", "2.20", "2.30"]
    for ago, price in zip((30, 20, 10), prices, strict=True):
        moved = replace(HOME, price=Decimal(price))
        await seen(pool, event(NOON, "bet9ja", moved, DRAW, AWAY, OVER, UNDER), ago * MINUTE)

    first = await had(operator, HISTORY, market="1x2", outcome="home", limit="2")
    second = await had(
        operator, HISTORY, market="1x2", outcome="home", limit="2", cursor=first["next_cursor"]
    )
    over = await had(operator, HISTORY, market="over_under", outcome="over", line="2.5")
    wrong = problem(await operator("GET", f"{HISTORY}?market=over_under&outcome=over&line=9"), 404)

    assert [one["price"] for one in first["moves"] + second["moves"]] == prices[::-1]
    assert second["next_cursor"] is None
    assert [one["platform"] for one in first["events"]] == ["bet9ja"]
    assert [one["price"] for one in over["moves"]] == ["1.90"]
    assert "lines: 2.5" in wrong["detail"]
    problem(await operator("GET", "/odds/matches/nothing/history"), 404)
    assert fields(await operator("GET", f"{HISTORY}?line=NaN")) == ["line"]


async def test_a_match_of_one_site_is_addressed_by_site_and_event(
    operator: Visitor, pool: Pool
) -> None:
    await seen(pool, replace(event(NOON, "bet9ja"), sportradar_id=None, platform_event_id="77"))

    match = await had(operator, "/odds/matches/bet9ja/77")
    history = await had(operator, "/odds/matches/bet9ja/77/history")

    assert match["match"] == "bet9ja/77"
    assert [one["price"] for one in history["moves"]] == ["2.40"]


async def test_articles_are_paged_and_filtered(operator: Visitor, pool: Pool) -> None:
    for number in range(5):
        at = NOON - timedelta(hours=number)
        values = (f"a{number}", "https://a.example", f"Derby {number}", at, 1, RUN)
        article_id = await pool.fetchval(ARTICLE, *values)
        await pool.execute(
            "INSERT INTO article_entities (article_id, entity, first_seen_at, run_id)"
            " VALUES ($1, $2, $3, $4)",
            article_id,
            "Arsenal" if number else "Leeds",
            at,
            RUN,
        )

    page = await had(operator, "/news/articles", limit="3")
    rest = await had(operator, "/news/articles", limit="3", cursor=page["next_cursor"])
    leeds = await had(operator, "/news/articles", entity="Leeds")
    text = await had(operator, "/news/articles", text="derby 3")
    since = await had(operator, "/news/articles", since=(NOON - timedelta(hours=1)).isoformat())
    until = await had(operator, "/news/articles", until=(NOON - timedelta(hours=3)).isoformat())

    def titles(found: Any) -> list[str]:
        return [one["title"] for one in found["articles"]]

    assert titles(page) + titles(rest) == [f"Derby {number}" for number in range(5)]
    assert rest["next_cursor"] is None
    assert (titles(leeds), titles(text)) == (["Derby 0"], ["Derby 3"])
    assert leeds["articles"][0]["entities"] == ["Leeds"]
    assert titles(since) == ["Derby 0", "Derby 1"]
    assert titles(until) == ["Derby 4"]


async def test_a_story_has_its_updates_and_its_sentiment(operator: Visitor, pool: Pool) -> None:
    story_id = await pool.fetchval(STORY, "Transfer", NOON, RUN)
    for hours, value in ((2, 0.1), (1, -0.4)):
        await pool.execute(
            "INSERT INTO story_sentiment (story_id, at, value, run_id) VALUES ($1, $2, $3, $4)",
            story_id,
            NOON - timedelta(hours=hours),
            value,
            RUN,
        )
    await pool.execute(
        "INSERT INTO story_updates (story_id, update_uuid, at, headline, text, articles, run_id)"
        " VALUES ($1, 'u', $2, 'Signed', 'He signed.', 3, $3)",
        story_id,
        NOON,
        RUN,
    )

    (listed,) = (await had(operator, "/news/stories"))["stories"]
    story = await had(operator, f"/news/stories/{story_id}")

    assert (listed["topic"], listed["sentiment"]) == ("Transfer", -0.4)
    assert story["sentiment"] == -0.4
    assert [one["value"] for one in story["sentiments"]] == [0.1, -0.4]
    assert [(one["headline"], one["articles"]) for one in story["updates"]] == [("Signed", 3)]
    problem(await operator("GET", "/news/stories/999"), 404)
    problem(await operator("GET", "/news/stories/x"), 404)
