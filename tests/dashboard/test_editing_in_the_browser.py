"""Trends, alerts and forms in a browser: light and dark, wide and narrow, with scripts or not."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest
from playwright.async_api import Browser, Page, expect

from app.core.enums import Scope
from app.health.alerts.watch import AlertContext, check
from app.store.reports import metrics
from tests.api.clients import wares
from tests.clock import SettableClock
from tests.dashboard.browser import AXE, DESK, faults, too_wide
from tests.dashboard.fixtures import BAD, GOOD, Scene, alive
from tests.dashboard.server import Site
from tests.runs.harness import Desk, ended

pytestmark = pytest.mark.timeout(240)
LONG = "an extraordinarily long reason without end " * 10


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at."""

    size: tuple[int, int]
    dark: bool
    scripts: bool


LOOKS = {
    "desk": Look(DESK, dark=False, scripts=True),
    "phone": Look((390, 800), dark=True, scripts=False),
}


async def opened(browser: Browser, site: Site, look: Look) -> Page:
    context = await browser.new_context(
        base_url=site.url,
        viewport={"width": look.size[0], "height": look.size[1]},
        color_scheme="dark" if look.dark else "light",
        java_script_enabled=look.scripts,
    )
    await context.add_init_script(AXE)
    return await context.new_page()


async def sign_in(page: Page, token: str) -> None:
    await page.goto("/login")
    await page.get_by_label("Token").fill(token)
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_load_state("load")


async def press(page: Page, name: str) -> None:
    await page.get_by_role("button", name=name, exact=True).click()
    await page.wait_for_load_state("load")


async def barriers(page: Page, look: Look) -> list[str]:
    """What bars a reader of this page. Without scripts, axe cannot run."""
    extra = await too_wide(page)
    found = [f"{extra} px too wide"] if extra > 0 else []
    return found + (await faults(page) if look.scripts else [])


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_an_organisation_edits_with_scripts_and_without(
    browser: Browser, site: Site, look: Look
) -> None:
    page = await opened(browser, site, look)
    found: dict[str, list[str]] = {}
    await sign_in(page, await site.token(Scope.ADMIN, "acme"))

    await page.goto("/edit/schedules/default")
    await page.get_by_label("Cron expression").fill("*/20 6-22 * * mon-fri")
    if look.scripts:
        await expect(page.locator("#preview")).to_contain_text("Monday to Friday", timeout=10_000)
    else:
        await press(page, "Preview")
    instants = await page.locator("#preview li").count()
    found["schedule"] = await barriers(page, look)
    await press(page, "Save")
    saved = await page.inner_text("main")

    await page.goto("/edit/recipes")
    await page.get_by_label("Recipe in TOML").fill("name = 7")
    await press(page, "Check")
    found["faults"] = await barriers(page, look)
    await page.get_by_label("Recipe in TOML").fill(wares())
    await press(page, "Save")
    await page.get_by_label("Recipe in TOML").fill(wares() + f"# {LONG}")
    await press(page, "Check")
    checked = await page.inner_text("main")
    found["recipe"] = await barriers(page, look)

    await page.goto("/edit/presets")
    await page.get_by_label("Name").fill("ours")
    await page.get_by_label("Sources").fill("bet9ja {")
    await press(page, "Save")
    found["preset"] = await barriers(page, look)
    await page.goto("/collections")
    found["collections"] = await barriers(page, look)
    await page.context.close()

    assert {name: what for name, what in found.items() if what} == {}
    assert instants == 10
    assert "Saved." in saved
    assert "The recipe has no faults" in checked
    assert f"+ # {LONG.strip()}" in checked


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_the_operator_reads_trends_and_acknowledges(
    browser: Browser, site: Site, scene: Scene, look: Look
) -> None:
    desk = Desk(scene.pool, SettableClock(datetime.now(UTC) - timedelta(hours=20)))
    for number in range(24):
        await ended(desk, 1.0 + number % 5, source=("bet9ja", "betpawa")[number % 2])
        desk.clock.now += timedelta(minutes=40)
    await metrics.fold(scene.pool)
    await alive(scene)
    await scene.job("poll_news", [GOOD] * 5 + [BAD] * 4)
    await scene.publish()
    await check(AlertContext(scene.pool, scene.redis))
    page = await opened(browser, site, look)
    found: dict[str, list[str]] = {}
    await sign_in(page, await site.token(Scope.OPERATE))

    for path in ("/trends", "/trends?period=30d&name=bet9ja", "/trends?by=job&period=7d"):
        await page.goto(path)
        found[path] = await barriers(page, look)
    charts = await page.locator("svg.chart").count()
    await page.goto("/alerts")
    found["/alerts"] = await barriers(page, look)
    await page.get_by_label("Reason").fill(LONG)
    await press(page, "Acknowledge")
    said = await page.inner_text("main")
    found["acknowledged"] = await barriers(page, look)
    await page.context.close()

    assert {name: what for name, what in found.items() if what} == {}
    assert charts == 6
    assert "Acknowledged by operator/ann" in said
