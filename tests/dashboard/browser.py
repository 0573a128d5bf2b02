"""A real browser: the system's Chromium, driven by Playwright. Nothing is downloaded for it."""

import shutil
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from importlib.resources import files
from typing import Any

import pytest
from playwright.async_api import Browser, Page, async_playwright

# The shell first: the others also draw the window of a browser that nobody sees, which is half of
# the time of a page without scripts at most.
NAMES = (
    "chromium-headless-shell",
    *("chromium", "chromium-browser", "google-chrome", "google-chrome-stable"),
)
MISSING = (
    "no Chromium on PATH; get it with: apt-get install chromium-headless-shell (.ci/run does so)"
)
DESK, PHONE = (1280, 800), (375, 740)

GRAVE = frozenset({"serious", "critical"})
AXE = (files("axe_playwright_python") / "axe.min.js").read_text("utf-8")
# Rules that find nothing grave are left out: a rule's impact is that of all it finds. Most of the
# time goes to contrasts, which are judged once for siblings whose elements all have the same
# colours and letters, as the rows of a table; every other rule sees everything.
CHECK = """
async () => {
  const looks = new Map();
  const look = (one) => {
    const {color, backgroundColor, backgroundImage, opacity, fontSize, fontWeight, display}
      = getComputedStyle(one);
    const own = [one.tagName, color, backgroundColor, backgroundImage, opacity, fontSize,
      fontWeight, display].join();
    looks.set(one, `${own}(${[...one.children].map(look).join(';')})`);
    return looks.get(one);
  };
  look(document.body);
  for (const parent of looks.keys()) {
    const seen = new Set();
    for (const child of parent.children) {
      child.toggleAttribute('data-again', seen.has(looks.get(child)));
      seen.add(looks.get(child));
    }
  }
  const contrasts = ['color-contrast', 'link-in-text-block'], resultTypes = ['violations'];
  const others = axe._audit.rules.filter((rule) =>
    contrasts.includes(rule.id) || ['minor', 'moderate'].includes(rule.impact));
  const rules = Object.fromEntries(others.map((rule) => [rule.id, {enabled: false}]));
  const rest = await axe.run(document, {resultTypes, rules});
  const few = await axe.run(
    {include: document, exclude: '[data-again]'}, {resultTypes, runOnly: contrasts});
  return [...rest.violations, ...few.violations];
}
"""


def path() -> str:
    """The browser's program. Skips the test if there is none."""
    found = next(filter(None, map(shutil.which, NAMES)), None)
    if found is None:
        pytest.skip(MISSING)
    return found


@asynccontextmanager
async def launched() -> AsyncGenerator[Browser]:
    """A browser without a window."""
    program = path()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=program,
            args=["--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu"],
        )
        yield browser
        await browser.close()


async def faults(page: Page) -> list[str]:
    """What axe-core finds of serious or critical weight, as readable lines.

    It is put in past our policy, which forbids the page itself to do so. Where many pages are
    judged, `add_init_script(AXE)` does so in half the time.
    """
    if not await page.evaluate("'axe' in window"):
        await page.evaluate(AXE)
    found: list[dict[str, Any]] = await page.evaluate(CHECK)
    return [
        f"{one['id']}: {node['html'][:160]}"
        for one in found
        if one["impact"] in GRAVE
        for node in one["nodes"]
    ]


async def too_wide(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return await page.evaluate(
        "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    )
