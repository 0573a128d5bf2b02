"""What people come for takes few clicks from the first page, through links and forms on it."""

import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from uuid import UUID

import pytest
from arq.connections import ArqRedis
from playwright.async_api import Browser, Locator, Page, expect

from app.core.enums import RunStatus, Scope, TickReason
from app.core.records import Item
from app.store.db import Pool
from tests.api.clients import wares
from tests.configs import config_for
from tests.dashboard import browser as chromium
from tests.dashboard import server as sites
from tests.dashboard.collected import RUN_SOURCE, collected, event
from tests.dashboard.fixtures import BAD, GOOD, Scene, alive
from tests.dashboard.org_pages import digest, listing, org_page
from tests.dashboard.server import Site
from tests.recipes.shop import Shop, open_shop

pytestmark = pytest.mark.timeout(180)
MOST = 4  # clicks from the first page to the answer


@dataclass(slots=True)
class Visit:
    """A person before the first page. `clicks`: what they have clicked, in order."""

    page: Page
    began: float = field(default_factory=time.monotonic)
    clicks: list[str] = field(default_factory=list[str])

    async def link(self, name: str, *, within: str = "body") -> None:
        """Click the first link of this name."""
        await self.click(self.page.locator(within).get_by_role("link", name=name, exact=True))

    async def button(self, name: str) -> None:
        """Click the button of this name."""
        await self.click(self.page.get_by_role("button", name=name, exact=True))

    async def click(self, what: Locator) -> None:
        """Click the first of these, and wait for the page that follows."""
        self.clicks.append(await what.first.inner_text())
        await what.first.click()
        await self.page.wait_for_load_state("load")


@asynccontextmanager
async def visit(browser: Browser, site: Site, org: str | None = None) -> AsyncGenerator[Visit]:
    """The first page of somebody who has just signed in; prints how long the task took."""
    context = await browser.new_context(base_url=site.url)
    page = await context.new_page()
    await page.goto("/login")
    await page.get_by_label("Token").fill(await site.token(Scope.ADMIN, org))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_load_state("load")
    visitor = Visit(page)
    yield visitor
    took = time.monotonic() - visitor.began
    print(f"{len(visitor.clicks)} clicks, {took:.1f} s: {' > '.join(visitor.clicks)}")  # noqa: T201 - the figure that -rA shows
    await context.close()


async def test_why_last_nights_run_is_missing(browser: Browser, site: Site, scene: Scene) -> None:
    await alive(scene)
    night = timedelta(hours=24)
    await scene.job("poll_news", [GOOD, TickReason.SCHEDULER_DOWN, GOOD], ago=night)
    await scene.publish()
    missing = scene.now - night - timedelta(minutes=5)
    async with visit(browser, site) as visitor:
        await visitor.link("Not run")
        await visitor.click(visitor.page.locator(f'.calendar a[href*="day={missing:%Y-%m-%d}"]'))
        await visitor.click(visitor.page.locator("table.stack tbody th a"))
        said = await visitor.page.inner_text("main")

    assert "missed: no live worker" in said
    assert len(visitor.clicks) <= MOST


async def test_a_matchs_price_over_a_day(browser: Browser, site: Site, scene: Scene) -> None:
    known = await collected(scene)
    for hours in (9, 6, 3):
        await known.odds(event(known.now, "bet9ja"), timedelta(hours=hours))
    async with visit(browser, site) as visitor:
        await visitor.link("Data")
        await visitor.click(visitor.page.locator("table.odds tbody tr:not(.group) th a"))
        await visitor.link("day")
        chart = await visitor.page.locator("svg.chart").count()
        title = await visitor.page.locator("#course").inner_text()

    assert chart == 1
    assert "over time" in title
    assert len(visitor.clicks) <= MOST


async def test_all_failed_runs_of_an_hour_are_retried(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("poll_news", [BAD, GOOD, BAD, RunStatus.TIMED_OUT, GOOD])
    await scene.publish()
    async with visit(browser, site) as visitor:
        await visitor.link("Runs")
        await visitor.link("last hour")
        await visitor.button("Retry all")
        await visitor.button("Retry 3 runs")

    asked = "SELECT count(*) FROM runs WHERE trigger = 'manual'"
    assert await scene.pool.fetchval(asked) == 3
    assert len(visitor.clicks) <= MOST


@pytest.fixture
async def near(dsn: str, redis_url: str, pool: Pool, redis: ArqRedis) -> AsyncGenerator[Site]:
    """A web whose dry runs may visit loopback."""
    del redis  # emptied first
    async with sites.opened(config_for(dsn, redis_url, guard_allow=("127.0.0.1",)), pool) as opened:
        yield opened


async def test_an_organisation_mends_a_recipe_and_sees_its_rows(
    browser: Browser, near: Site
) -> None:
    async with open_shop(Shop()) as shop, visit(browser, near, "acme") as visitor:
        page, text = visitor.page, wares(url=f"{shop.base}/wares")
        await page.goto("/edit/recipes")
        await page.get_by_label("Recipe in TOML").fill(text.replace('"name"', '"gone"'))
        await page.get_by_role("button", name="Save").click()
        await page.goto("/")
        visitor.clicks.clear()
        await visitor.link("Recipes")
        await visitor.link("wares")
        await page.get_by_label("Recipe in TOML").fill(text)
        await visitor.button("Try on the real page")
        await expect(page.locator("#tried")).to_be_visible()
        rows = await page.locator('[aria-labelledby="tried"] tbody tr').count()
        await visitor.button("Save")
        said = await page.inner_text("main")

    assert rows > 0
    assert "Saved." in said
    assert len(visitor.clicks) <= MOST


async def test_an_operator_runs_a_mended_recipe_and_sees_its_rows(
    browser: Browser, site: Site, scene: Scene
) -> None:
    known = await collected(scene)
    await scene.job("source:wares", [GOOD])
    await scene.pool.execute("UPDATE schedules SET job = 'source' WHERE key = 'source:wares'")
    await scene.publish()
    async with visit(browser, site) as visitor:
        await visitor.link("source:wares")
        await visitor.button("Run now")
        # The worker's part: it runs the mended recipe.
        run_id = visitor.page.url.rpartition("/")[2]
        ended = "UPDATE runs SET status = 'success', completed_at = now() WHERE execution_id = $1"
        await scene.pool.execute(ended, UUID(run_id))
        await known.items("wares", [Item("wares", "k", {"title": "a mended title"})])
        await scene.pool.execute(RUN_SOURCE, UUID(run_id), "wares", "success", None, None)
        await visitor.page.reload()
        await visitor.link("its rows")
        said = await visitor.page.inner_text("main")

    assert "a mended title" in said
    assert len(visitor.clicks) <= MOST


async def test_what_todays_parser_would_read_from_a_kept_page(browser: Browser, site: Site) -> None:
    await org_page(site, listing(3))
    stored = await digest(site.pool)
    async with visit(browser, site, "acme") as visitor:
        page = visitor.page
        await visitor.link("Runs")
        await visitor.click(page.locator("table.stack tbody th a"))
        await visitor.link("Kept pages of this run")
        await visitor.click(page.locator("main table tbody th a"))
        await visitor.button("What would today's parser read?")
        differences = page.locator('[aria-labelledby="difference"] tbody')
        differing, said = await differences.locator("tr").count(), await differences.inner_text()
        rows = await page.locator('[aria-labelledby="rows"] tbody tr').count()
        faults = await chromium.faults(page)
        await visitor.link("The page")
        back = await page.inner_text("h1")

    assert rows == 3
    assert differing > 0
    assert "<b>as it was read once</b>" in said  # as text
    assert back == "Page of recipe:wares"
    assert faults == []
    assert await digest(site.pool) == stored
