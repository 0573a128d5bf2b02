"""`rollcall odds`: what is in the database, put side by side."""

import csv
import io
import json
from dataclasses import replace
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.core.records import OddsEvent
from app.store.content import listings, odds
from app.store.content.listings import Listing
from app.store.db import Pool
from tests.store.odds import DRAW, HOME, OVER, RUN, event
from tests.typed_command import printed

AWAY = replace(HOME, outcome=HOME.outcome.AWAY, price=Decimal("3.00"))


@pytest.fixture
async def now(pool: Pool) -> datetime:
    at: datetime = await pool.fetchval("SELECT clock_timestamp()")
    return at


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch, dsn: str) -> None:
    monkeypatch.setenv("DATABASE_URL", dsn)
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")


async def odds_json(*words: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(await printed("odds", "--json", *words))
    return found


def to_come(now: datetime, platform: str, number: int = 1) -> OddsEvent:
    kickoff = now + timedelta(days=1, hours=number)
    known = event(number, HOME, DRAW, AWAY, OVER)
    return replace(known, platform=platform, kickoff=kickoff)


async def keep(pool: Pool, at: datetime, *page: OddsEvent) -> None:
    async with pool.acquire() as connection, connection.transaction():
        await odds.write(connection, page, at, RUN)


async def test_a_match_at_two_sites_is_one_with_the_best_price_of_both(
    pool: Pool, now: datetime
) -> None:
    better = replace(to_come(now, "bet9ja"), prices=(replace(HOME, price=Decimal("2.50")),))
    await keep(pool, now, to_come(now, "betpawa"))
    await keep(pool, now, better)

    (match,) = await odds_json()

    result, goals = match["markets"]
    assert (match["match"], match["platforms"]) == ("70000001", ["bet9ja", "betpawa"])
    assert result["outcomes"][0]["best"] == {"platform": "bet9ja", "price": "2.50"}
    assert list(result["margins"]) == ["betpawa"]
    assert (goals["line"], goals["best_margin"]) == ("2.5", None)


async def test_a_price_not_seen_for_two_intervals_is_stale_and_a_listing_makes_it_fresh(
    pool: Pool, now: datetime
) -> None:
    await keep(pool, now - timedelta(minutes=11), to_come(now, "betpawa"))
    (before,) = await odds_json("--market", "1x2")

    async with pool.acquire() as connection, connection.transaction():
        await listings.record_listing(
            connection, Listing("betpawa", "football", ["1"], ["1"], now), RUN
        )

    (after,) = await odds_json("--market", "1x2")
    quotes = [m["markets"][0]["outcomes"][0]["quotes"][0] for m in (before, after)]
    assert [quote["stale"] for quote in quotes] == [True, False]
    assert before["markets"][0]["outcomes"][0]["best"] is None
    assert {market["market"] for market in before["markets"]} == {"1x2"}
    assert f"{HOME.price}?" not in await printed("odds")


async def test_a_stale_price_is_marked_and_not_the_best(pool: Pool, now: datetime) -> None:
    await keep(pool, now - timedelta(minutes=11), to_come(now, "betpawa"))

    shown = await printed("odds")

    assert f"{HOME.price}?" in shown
    assert f"*{HOME.price}" not in shown


async def test_a_site_with_home_and_away_swapped_is_named(pool: Pool, now: datetime) -> None:
    match = to_come(now, "betpawa")
    await keep(pool, now, match, replace(match, platform="sportybet"))
    await keep(pool, now, replace(match, platform="bet9ja", home=match.away, away=match.home))

    assert "home and away are swapped, not compared: " in await printed("odds")


async def test_matches_are_filtered_by_competition_kick_off_and_number(
    pool: Pool, now: datetime
) -> None:
    other = replace(to_come(now, "betpawa", 2), competition="Serie A")
    await keep(pool, now, to_come(now, "betpawa", 1), other, to_come(now, "betpawa", 3))
    until = (now + timedelta(days=1, hours=2, minutes=30)).isoformat()

    assert [m["match"] for m in await odds_json("--limit", "2")] == ["70000001", "70000002"]
    assert [m["match"] for m in await odds_json("--competition", "serie")] == ["70000002"]
    assert len(await odds_json("--to", until)) == 2


async def test_events_without_a_sportradar_id_are_matches_of_their_own(
    pool: Pool, now: datetime
) -> None:
    lone = [replace(to_come(now, p), sportradar_id=None) for p in ("betpawa", "bet9ja")]
    for each in lone:
        await keep(pool, now, each)

    assert {m["match"] for m in await odds_json()} == {"betpawa/1", "bet9ja/1"}


async def test_csv_has_a_line_for_each_price(pool: Pool, now: datetime) -> None:
    await keep(pool, now, to_come(now, "betpawa"))

    lines = list(csv.DictReader(io.StringIO(await printed("odds", "--csv"))))

    assert [(line["outcome"], line["price"], line["best"]) for line in lines] == [
        ("home", "2.40", "True"),
        ("draw", "3.10", "True"),
        ("away", "3.00", "True"),
        ("over", "1.90", "True"),
    ]


async def test_the_table_names_the_match_its_prices_and_their_age(
    pool: Pool, now: datetime
) -> None:
    await keep(pool, now, to_come(now, "betpawa"))

    table = await printed("odds")

    assert "Home 1 - Away 1" in table
    assert "*2.40" in table


@pytest.mark.parametrize("width", [80, 120])
async def test_a_table_of_three_sites_cuts_no_word(
    pool: Pool, now: datetime, monkeypatch: pytest.MonkeyPatch, width: int
) -> None:
    monkeypatch.setenv("COLUMNS", str(width))
    long = (HOME, DRAW, AWAY, replace(OVER, price=Decimal("12.92")))
    for platform in ("betpawa", "bet9ja", "sportybet"):
        await keep(pool, now, replace(to_come(now, platform), prices=long))

    lines = (await printed("odds")).splitlines()

    assert [line for line in lines if "…" in line] == []
    assert max(map(len, lines)) <= width
    assert any("over_under 2.5" in line and line.count("12.92") >= 3 for line in lines)
    assert any("best" in line.split() for line in lines) is (width > 80)


async def test_what_does_not_fit_is_the_age_of_prices_and_never_a_price(
    pool: Pool, now: datetime, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "70")
    long = (HOME, DRAW, AWAY, replace(OVER, price=Decimal("1018.66")))
    for platform in ("betpawa", "bet9ja", "sportybet"):
        await keep(pool, now, replace(to_come(now, platform), prices=long))

    lines = (await printed("odds")).splitlines()

    assert [line for line in lines if "…" in line] == []
    assert max(map(len, lines)) <= 70
    assert any("over_under 2.5" in line and line.count("1018.66") == 3 for line in lines)


async def test_the_history_of_a_price_shows_every_move(pool: Pool, now: datetime) -> None:
    first = to_come(now, "betpawa")
    moved = replace(first, prices=(replace(HOME, price=Decimal("2.55")),))
    await keep(pool, now - timedelta(minutes=9), first)
    await keep(pool, now - timedelta(minutes=4), moved)
    await keep(pool, now, replace(first, prices=()))

    by_match = await printed("odds", "history", "70000001", "1x2", "home")
    by_event = await printed("odds", "history", "betpawa/1", "over_under", "over", "--line", "2.5")

    assert all(word in by_match for word in ("2.40", "2.55", "withdrawn", "█"))
    assert "1.90" in by_event
