"""The data pages in a browser: on a phone in the dark, and without JavaScript."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal

import pytest
from playwright.async_api import Browser, Page

from app.core.enums import Scope
from app.core.records import JSON, Item
from tests.dashboard import browser as chromium
from tests.dashboard.browser import PHONE, faults, too_wide
from tests.dashboard.collected import AWAY, DRAW, HOME, HOSTILE, OVER, UNDER, collected, event
from tests.dashboard.fixtures import Scene
from tests.dashboard.server import Site

pytestmark = pytest.mark.timeout(180)

LONG = "An extraordinarily long name without end " * 6


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[Browser]:
    async with chromium.launched() as launched:
        yield launched


async def fill(scene: Scene) -> list[str]:
    """Some of everything, with hostile, long and right-to-left texts; the paths of the pages."""
    known = await collected(scene)
    start = event(known.now, "betpawa", home=HOSTILE, competition=LONG)
    for number in range(24):
        moved = tuple(
            replace(price, price=(price.price or Decimal(2)) + Decimal(number % 7) / 20)
            for price in (HOME, DRAW, AWAY, OVER, UNDER)
        )
        ago = timedelta(hours=24 - number)
        await known.odds(replace(start, prices=moved), ago, run=number % 3)
        other = (replace(moved[0], active=number % 9 > 2), *moved[1:])
        kept = other if number % 11 else other[1:]
        page = event(known.now, "bet9ja", *kept, competition=LONG)
        await known.odds(page, ago + timedelta(minutes=20), run=number % 3)
    dear = [replace(price, price=Decimal("3.60")) for price in (HOME, DRAW, AWAY)]
    await known.odds(
        replace(start, platform_event_id="2", sportradar_id="2", home="מכבי", prices=tuple(dear)),
        timedelta(minutes=1),
    )
    for number in range(12):
        await known.article(f"{HOSTILE} {number} {LONG}", number % 3 - 1, days=number)
    story = await known.story(HOSTILE, [-0.4, 0.2, 0.9, 0.1, -0.8])
    data: dict[str, JSON] = {
        "title": LONG,
        "price": 3,
        "author": HOSTILE,
        "tags": ["a", "b"],
        "url": "x" * 300,
    }
    await known.items("books", [Item("books", f"k{n}", data) for n in range(8)])
    await known.items("books", [Item("books", "k0", {**data, "price": 4})])
    await known.rejected(LONG, HOSTILE.encode())
    await known.source("bet9ja", error=LONG)
    page_id = await known.page(f"<html>{HOSTILE}</html>".encode(), {"content-type": "text/html"})
    item = await scene.pool.fetchval("SELECT id FROM items WHERE key = 'k0'")
    return [
        "/data/odds", "/data/matches/70000001", "/data/articles", "/data/stories",
        f"/data/stories/{story}", "/data/items", "/data/items/books", f"/data/item/{item}/books",
        "/data/rejected", "/data/sources/bet9ja", f"/data/pages/{page_id}",
        f"/runs/{known.runs[-1]}/pages",
    ]  # fmt: skip


async def sign_in(page: Page, site: Site) -> None:
    await page.goto("/login")
    await page.get_by_label("Token").fill(await site.token(Scope.READ))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_load_state("load")


async def test_a_reader_can_read_every_data_page_on_a_phone_in_the_dark(
    browser: Browser, site: Site, scene: Scene
) -> None:
    """The other looks are those of test_every_page.py, which has these pages too."""
    paths = await fill(scene)
    context = await browser.new_context(
        base_url=site.url,
        viewport={"width": PHONE[0], "height": PHONE[1]},
        color_scheme="dark",
    )
    page = await context.new_page()
    await sign_in(page, site)
    found: dict[str, list[str]] = {}
    for path in paths:
        answer = await page.goto(path)
        assert answer is not None
        assert answer.status == 200, path
        wide = await too_wide(page)
        found[path] = [*await faults(page), *([f"{wide} px too wide"] if wide > 0 else [])]
    await context.close()

    assert {path: what for path, what in found.items() if what} == {}


async def test_from_a_price_to_its_run_and_from_its_absence_to_a_tick_by_clicks_alone(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await fill(scene)
    context = await browser.new_context(base_url=site.url, java_script_enabled=False)
    page = await context.new_page()
    await sign_in(page, site)
    await page.goto("/data")
    await page.locator("td.best a").first.click()
    of_price = page.url
    await page.goto("/data")
    await page.get_by_label("No price: why?").first.click()
    reason = await page.locator("#sites + div").inner_text()
    await page.get_by_role("link", name="Ticks of bet9ja").click()
    await page.locator("tbody th a").first.click()
    of_absence = page.url
    await context.close()

    assert "/runs/" in of_price
    assert "sportybet" in reason
    assert "/ticks/" in of_absence
