"""The pages of the odds: prices side by side, one match over time, and why a price is missing."""

import re
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from html import unescape

import pytest

from app.core.enums import Scope, TickReason
from app.store.content import listings
from app.store.content.listings import Listing
from tests.dashboard.collected import AWAY, DRAW, HOME, HOSTILE, JOB, collected, event
from tests.dashboard.fixtures import GOOD, STEP, Scene
from tests.dashboard.server import Site, cells, shown

MINUTES = timedelta(minutes=1)
MATCH = "/data/matches/70000001"


async def test_a_match_has_its_prices_side_by_side_with_best_age_and_margin(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    better = replace(HOME, price=Decimal("2.55"))
    await known.odds(event(known.now, "betpawa"), 2 * MINUTES)
    await known.odds(event(known.now, "bet9ja", better, DRAW, AWAY), 3 * MINUTES)

    page = await shown(site, "/data/odds")

    text = cells(page)
    assert re.search("Home United . Away City", text)
    assert re.search(r"home 2\.55 best [34] min ago 2\.40 [23] min ago . 2\.55 bet9ja", text), text
    assert "4.8 %" in text  # 1/2.55 + 1/3.10 + 1/3.00 - 1
    assert f'href="/runs/{known.runs[-1]}"' in page


async def test_prices_that_surely_win_are_marked_as_arbitrage(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    high = [replace(price, price=Decimal("3.60")) for price in (HOME, DRAW, AWAY)]
    await known.odds(event(known.now, "betpawa", *high), MINUTES)

    assert "arbitrage -16.7 %" in cells(await shown(site, "/data/odds"))


async def test_market_competition_teams_and_day_select_matches(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    await known.odds(event(known.now, "betpawa"), MINUTES)
    day = f"{known.now + timedelta(days=1):%Y-%m-%d}"

    found = {
        query: "Home United" in await shown(site, f"/data/odds?{query}")
        for query in (
            "competition=npfl", "competition=Serie", "teams=city", "teams=other", f"day={day}",
            "day=2020-01-01",
        )
    }  # fmt: skip
    goals = cells(await shown(site, "/data/odds?market=over_under"))

    assert found == {
        "competition=npfl": True,
        "competition=Serie": False,
        "teams=city": True,
        "teams=other": False,
        f"day={day}": True,
        "day=2020-01-01": False,
    }
    assert "over 2.5" in goals
    assert "1.90" in goals


async def test_pages_of_matches_follow_one_another_without_gap_or_repetition(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    for number in range(60):
        match = event(known.now, "betpawa", HOME)
        kickoff = known.now + timedelta(hours=2 + number // 7)
        await known.odds(
            replace(
                match,
                platform_event_id=str(number),
                sportradar_id=str(number),
                kickoff=kickoff,
                home=f"Team{number}x",
            ),
            MINUTES,
        )
    seen: list[str] = []
    path = "/data/odds"
    async with site.signed_in(Scope.READ) as visitor:
        for _ in range(5):
            page = (await visitor.get(path)).text
            seen += re.findall(r"Team(\d+)x", page)
            older = re.search(r'rel="next" href="([^"]+)"', page)
            if older is None:
                break
            path = unescape(older[1])

    assert sorted(map(int, seen)) == list(range(60))


async def test_the_page_of_a_match_draws_every_price_with_suspension_and_withdrawal(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    first = event(known.now, "betpawa", HOME, DRAW, AWAY)
    await known.odds(first, 60 * MINUTES, run=0)
    await known.odds(
        replace(first, prices=(replace(HOME, active=False), DRAW, AWAY)), 40 * MINUTES, 1
    )
    await known.odds(replace(first, prices=(DRAW, AWAY)), 20 * MINUTES, run=2)
    await known.odds(event(known.now, "bet9ja", HOME), 50 * MINUTES)

    page = await shown(site, f"{MATCH}?market=1x2&outcome=home")

    text = cells(page)
    assert "1x2 home over time" in text
    assert "All 4 changes" in text
    assert page.count('<path class="end') == 1
    assert 'class="line held line-0" d="M' in page
    assert "betpawa 2.4 suspended" in text
    assert "betpawa withdrawn" in text
    for run in known.runs:
        assert f'href="/runs/{run}"' in page
    ticks = re.findall(rf'href="/jobs/{JOB}/ticks/([^"]+)"', page)
    assert len(set(ticks)) == 3


@pytest.mark.parametrize("why", ["no event", "not offered", "withdrawn", "suspended", "stale"])
async def test_why_a_price_is_missing_ends_at_a_tick(site: Site, scene: Scene, why: str) -> None:
    known = await collected(scene)
    await known.odds(event(known.now, "betpawa"), 2 * MINUTES)
    await known.source("bet9ja", error="the site answered 503")
    ago = 3 * 24 * 60 * MINUTES if why == "stale" else 2 * MINUTES
    prices = {"not offered": (DRAW,), "suspended": (replace(HOME, active=False), DRAW)}
    if why != "no event":
        await known.odds(event(known.now, "bet9ja", *prices.get(why, (HOME, DRAW))), ago, run=1)
    if why == "withdrawn":
        await known.odds(event(known.now, "bet9ja", DRAW), MINUTES, run=1)

    listed = await shown(site, "/data/odds")
    if why in {"no event", "not offered", "withdrawn"}:
        assert f'href="{MATCH}?market=1x2&outcome=home#sites" aria-label="No price: why?"' in listed
    page = await shown(site, f"{MATCH}?market=1x2&outcome=home")
    row = re.search(r'<th scope="row">bet9ja</th><td>(.*?)</tr>', page, re.DOTALL)
    ticks = cells(await shown(site, "/data/sources/bet9ja"))

    assert row is not None
    assert row[1].startswith(why)
    if why != "no event":
        assert f"/runs/{known.runs[1]}" in row[1]
        assert f"/jobs/{JOB}/ticks/" in row[1]
    assert 'href="/data/sources/bet9ja"' in row[1]
    assert "http status the site answered 503" in ticks


async def test_the_ticks_of_a_source_are_all_listed_when_two_jobs_are_due_at_once(
    site: Site, scene: Scene
) -> None:
    await scene.job(JOB, [TickReason.OVERLAP] * 30)
    await scene.job("source:bet9ja", [TickReason.OVERLAP] * 30, ago=STEP)

    first = await shown(site, "/data/sources/bet9ja")
    older = re.search(r'rel="next" href="([^"]+)"', first)
    assert older is not None
    second = await shown(site, unescape(older[1]))

    ticks = re.findall(r'href="(/jobs/[^"]+/ticks/[^"]+)"', first + second)
    assert (len(ticks), len(set(ticks))) == (60, 60)


async def test_a_match_that_left_the_listing_is_withdrawn_by_the_listings_run(
    site: Site, scene: Scene
) -> None:
    known = await collected(scene, [GOOD] * 4)
    await known.odds(event(known.now, "betpawa"), 30 * MINUTES, run=0)
    await known.pool.execute("UPDATE odds_events SET partition = 'all'")
    for run, ago in ((1, 10), (2, 5)):
        listing = Listing("betpawa", "all", [], [], known.now - ago * MINUTES)
        async with known.pool.acquire() as connection, connection.transaction():
            await listings.record_listing(connection, listing, known.runs[run])

    page = await shown(site, MATCH)

    assert "gone from complete listings" in page
    assert f'/runs/{known.runs[2]}"' in page


async def test_names_of_strangers_are_text_in_their_own_direction(site: Site, scene: Scene) -> None:
    known = await collected(scene)
    match = event(known.now, "betpawa", home=HOSTILE, competition=HOSTILE)
    await known.odds(match, MINUTES)

    async with site.signed_in(Scope.READ) as visitor:
        pages = [(await visitor.get(path)).text for path in ("/data/odds", MATCH)]

    for page in pages:
        assert "<script>alert" not in page
        assert '<bdi dir="auto">&lt;script&gt;' in page


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/data/matches/unknown", 404),
        ("/data/matches/bet9ja/unknown", 404),
        ("/data/odds?market=corners", 400),
        ("/data/odds?day=tomorrow", 400),
        ("/data/odds?day=9999-12-31", 400),
        ("/data/odds?after=x", 400),
        ("/data/odds?teams=%00", 400),
        ("/data/matches/%00", 400),
        (f"{MATCH}?line=NaN", 400),
        (f"{MATCH}?line=1e9999999", 400),
    ],
)
async def test_an_address_that_means_nothing_is_an_error_of_the_reader(
    site: Site, scene: Scene, path: str, status: int
) -> None:
    known = await collected(scene)
    await known.odds(event(known.now, "betpawa"), MINUTES)

    await shown(site, path, status)
