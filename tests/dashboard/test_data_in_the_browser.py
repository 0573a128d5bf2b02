"""The data pages in a browser: on a phone in the dark, and without JavaScript."""

import pytest
from playwright.async_api import Browser, Page

from app.core.enums import Scope
from tests.dashboard.browser import AXE, PHONE, faults, too_wide
from tests.dashboard.filled import fill
from tests.dashboard.fixtures import Scene
from tests.dashboard.server import Site

pytestmark = pytest.mark.timeout(180)


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
    await context.add_init_script(AXE)
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
