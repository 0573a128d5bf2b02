"""Every page of the routes as people see it: wide and narrow, light and dark, in living states."""

from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

import pytest
from playwright.async_api import Browser, ConsoleMessage, Page
from pydantic import SecretStr

from app.core.enums import Scope
from app.store.db import Pool
from tests.api.clients import wares
from tests.configs import NO_POSTGRES, config_for
from tests.dashboard import server as sites
from tests.dashboard.browser import AXE, DESK, faults, too_wide
from tests.dashboard.collected import HOSTILE
from tests.dashboard.filled import LONG, LONG_JOB, live, pages
from tests.dashboard.fixtures import BAD, GOOD, Scene
from tests.dashboard.server import Site, csrf_of

pytestmark = pytest.mark.timeout(300)
NARROW = (390, 800)
CUT = """
() => [...document.querySelectorAll('main *')].filter((one) => {
  const style = getComputedStyle(one);
  return ['hidden', 'clip'].includes(style.overflowX) && style.position !== 'absolute'
    && one.scrollWidth > one.clientWidth + 1 && one.textContent.trim();
}).map((one) => one.outerHTML.slice(0, 120))
"""
# Cells so narrow that their text is a column of letters, and what no scrolling brings into sight.
OUT_OF_SIGHT = """
() => [
  ...[...document.querySelectorAll('main td, main th')].filter((one) =>
    one.clientWidth < 80 && one.clientHeight > 160 && one.textContent.length > 20),
  ...[...document.querySelectorAll('.newest-right svg, .chart-frame svg')].filter((one) => {
    const frame = one.closest('.newest-right, .chart-frame');
    return frame.scrollLeft === 0
      && one.getBoundingClientRect().right > frame.getBoundingClientRect().right + 1;
  }),
].map((one) => one.outerHTML.slice(0, 120))
"""
# Where the letters of "since" are, after the error of a site that overrides their direction.
PLACES = """
() => {
  const text = document.querySelector('p.why .quiet').firstChild;
  return [0, 1, 2, 3, 4].map((n) => {
    const range = document.createRange();
    range.setStart(text, n);
    range.setEnd(text, n + 1);
    return range.getBoundingClientRect().left;
  });
}
"""


@dataclass(frozen=True, slots=True)
class Look:
    """How a page is looked at."""

    size: tuple[int, int]
    schemes: tuple[Literal["light", "dark"], ...]
    scripts: bool


LOOKS = {
    "desk, also in the dark": Look(DESK, ("light", "dark"), scripts=True),
    "phone": Look(NARROW, ("light",), scripts=True),
    "phone without scripts": Look(NARROW, ("dark",), scripts=False),
}
DESK_LOOK = Look(DESK, ("light",), scripts=True)


@asynccontextmanager
async def looked_at(
    browser: Browser, url: str, cookies: dict[str, str], look: Look
) -> AsyncGenerator[tuple[Page, list[str]]]:
    """A page of somebody who is signed in, and what the browser complains of."""
    context = await browser.new_context(
        base_url=url,
        viewport={"width": look.size[0], "height": look.size[1]},
        java_script_enabled=look.scripts,
    )
    for name, value in cookies.items():
        await context.add_cookies([{"name": name, "value": value, "url": url}])
    await context.add_init_script(AXE)
    page, complaints = await context.new_page(), list[str]()

    def note(said: ConsoleMessage) -> None:
        if said.type == "error" and "status of 503" not in said.text:
            complaints.append(said.text)

    page.on("console", note)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page, complaints
    await context.close()


async def barriers(page: Page, look: Look) -> list[str]:
    """What bars a reader of this page. Without scripts only its width is known."""
    wide = await too_wide(page)
    found = [f"{wide} px too wide"] if wide > 0 else []
    cut: list[str] = await page.evaluate(CUT)
    cut += await page.evaluate(OUT_OF_SIGHT)
    return [*found, *(f"cut: {one}" for one in cut), *(await faults(page) if look.scripts else [])]


async def wrong(
    browser: Browser, url: str, cookies: dict[str, str], paths: list[str], look: Look
) -> dict[str, list[str]]:
    """What is wrong with each of the pages."""
    found: dict[str, list[str]] = {}
    async with looked_at(browser, url, cookies, look) as (page, complaints):
        for path in paths:
            await page.emulate_media(color_scheme=look.schemes[0])
            answer = await page.goto(path)
            status = 0 if answer is None else answer.status
            faulty = [] if status in {200, 503} else [f"status {status}"]
            for scheme in look.schemes:
                await page.emulate_media(color_scheme=scheme)
                found[f"{path} {scheme}"] = [*faulty, *await barriers(page, look), *complaints]
            complaints.clear()
    return {path: what for path, what in found.items() if what}


async def cookies_of(site: Site, org: str | None = None) -> dict[str, str]:
    """The cookies of a session, also for another web with the same secret."""
    async with site.signed_in(Scope.ADMIN, org) as client:
        return dict(client.cookies)


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_nothing_bars_a_reader_of_any_page_of_the_operator(
    browser: Browser, site: Site, scene: Scene, look: Look
) -> None:
    names = await live(scene)

    found = await wrong(browser, site.url, await cookies_of(site), pages(names, org=False), look)

    assert found == {}


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS)
async def test_nothing_bars_a_reader_of_any_page_of_an_organisation(
    browser: Browser, site: Site, scene: Scene, look: Look
) -> None:
    names = await live(scene)
    async with site.signed_in(Scope.ADMIN, "acme") as admin:
        for path, form in (
            ("recipes", {"recipe": wares() + f"# {LONG}\n"}),
            ("presets", {"name": "ours", "sources": "bet9ja"}),
            ("schedules/default", {"cron_expression": "*/20 6-22 * * mon-fri", "timezone": "UTC"}),
            (
                "notifications/channels",
                {"label": "<b>מכבי</b> " + LONG[:60], "url": "ifttt://key@event"},
            ),
            ("notifications/webhooks", {"url": f"https://example.com/{'in' * 200}"}),
        ):
            sent = {"csrf": csrf_of(admin), "do": "save", **form}
            answer = await admin.post(f"/edit/{path}", data=sent)
            assert answer.status_code in {200, 303}, answer.text
        names["webhook_id:uuid"] = str(await scene.pool.fetchval("SELECT id FROM webhooks"))
        hook = f"/edit/notifications/webhooks/{names['webhook_id:uuid']}"
        await admin.post(hook, data={"csrf": csrf_of(admin), "do": "test"})
        await scene.pool.execute("UPDATE webhook_deliveries SET reason = $1", f"{HOSTILE} {LONG}")
        cookies = dict(admin.cookies)

    found = await wrong(browser, site.url, cookies, pages(names, org=True), look)

    assert found == {}


@pytest.mark.parametrize("away", ["redis", "postgres", "both"])
async def test_nothing_bars_a_reader_while_a_server_is_away(
    browser: Browser, site: Site, scene: Scene, dsn: str, redis_url: str, away: str
) -> None:
    names = await live(scene)
    cookies = await cookies_of(site)
    nowhere = {
        "redis": {"redis_url": SecretStr("redis://127.0.0.1:1/0")},
        "postgres": {"database_url": SecretStr(NO_POSTGRES)},
    }
    gone = {
        name: url for one in nowhere if away in {one, "both"} for name, url in nowhere[one].items()
    }
    config = config_for(dsn, redis_url).model_copy(update=gone)
    found: dict[str, dict[str, list[str]]] = {}
    async with sites.opened(config, scene.pool) as alone:
        paths = pages(names, org=False)
        for name in ["phone without scripts"]:
            found[name] = await wrong(browser, alone.url, cookies, paths, LOOKS[name])

    assert {name: what for name, what in found.items() if what} == {}


@pytest.mark.parametrize("look", [DESK_LOOK, LOOKS["phone"]], ids=["desk", "phone"])
async def test_nothing_bars_a_reader_of_200_jobs_without_a_worker(
    browser: Browser, site: Site, scene: Scene, pool: Pool, look: Look
) -> None:
    await scene.job(LONG_JOB, [GOOD] * 8)
    for number in range(20):
        await scene.job(f"job_{number:03}", [GOOD] * 12 + [BAD] * (number % 5))
    await pool.execute(
        "INSERT INTO schedules (key, job, spec, policies, params, version, effective_from, enabled,"
        " evaluated_through, next_tick_at, due_at, created_at) SELECT 'many_' || n, 'many', spec,"
        " policies, params, 1, effective_from, true, evaluated_through, next_tick_at, due_at,"
        " created_at FROM schedules, generate_series(1, 180) n WHERE key = 'job_000'"
    )
    await scene.beats((timedelta(hours=12), timedelta(minutes=30)))
    await scene.publish(workers=0)
    paths = ["/", "/?status=unhealthy&sort=took", "/jobs", "/workers", "/ticks", "/alerts"]

    found = await wrong(browser, site.url, await cookies_of(site), paths, look)

    assert found == {}


async def test_a_foreign_text_does_not_turn_ours_around(
    browser: Browser, site: Site, scene: Scene
) -> None:
    names = await live(scene)
    async with looked_at(browser, site.url, await cookies_of(site), DESK_LOOK) as (page, _):
        await page.goto(f"/jobs/{names['key']}")
        places: list[float] = await page.evaluate(PLACES)

    assert places == sorted(places)


@pytest.mark.parametrize(("style", "grave"), [("", 0), ("color: #999", 1)], ids=["dark", "pale"])
async def test_one_pale_row_among_many_is_found(browser: Browser, style: str, grave: int) -> None:
    rows = "<tr><td>dark</td></tr>" * 30
    row = f"<tr><td style='{style}'>row</td></tr>"
    page = await browser.new_page()
    await page.set_content(
        f"<html lang=en><title>Rows</title><main><h1>Rows</h1><table>{rows}{row}{rows}</table>"
    )

    assert len(await faults(page)) == grave
    await page.close()
