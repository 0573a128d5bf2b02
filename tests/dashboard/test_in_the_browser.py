"""The pages in a browser: in each state, without JavaScript, on a phone, and alive."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any, Literal

import pytest
from playwright.async_api import Browser, Page, expect

from app.core.enums import RunStatus, Scope, TickReason
from tests.dashboard.browser import DESK, PHONE, faults, too_wide
from tests.dashboard.fixtures import BAD, GOOD, Fate, Scene, alive
from tests.dashboard.server import Site
from tests.published import publish_all_jobs

pytestmark = pytest.mark.timeout(120)

State = Literal["empty", "healthy", "failing", "overdue", "paused", "outage"]
STATES: dict[State, str] = {
    "empty": "No jobs registered",
    "healthy": "All jobs are healthy",
    "failing": "1 of 2 jobs is unhealthy: poll_news failing since",
    "overdue": "1 of 2 jobs is unhealthy: poll_news overdue since",
    "paused": "All jobs are healthy",
    "outage": "No live worker since",
}


@asynccontextmanager
async def open_page(
    browser: Browser, site: Site, scope: Scope = Scope.OPERATE, **options: Any
) -> AsyncGenerator[Page]:
    """A page of somebody who signed in through the form. Fails if the browser complains."""
    width, height = options.pop("size", DESK)
    context = await browser.new_context(
        base_url=site.url, viewport={"width": width, "height": height}, **options
    )
    page = await context.new_page()
    complaints: list[str] = []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    await page.goto("/")
    await page.get_by_label("Token").fill(await site.token(scope))
    await page.get_by_role("button", name="Sign in").click()
    await page.wait_for_selector("#headline")
    await page.wait_for_load_state("load")  # the style too: it says where things are
    yield page
    await context.close()
    assert complaints == []


async def play(scene: Scene, state: State) -> None:
    """Set the jobs into a state."""
    if state == "empty":
        return
    mixed: list[Fate] = [GOOD] * 30 + [TickReason.OVERLAP] + [RunStatus.PARTIAL_FAILURE]
    await scene.job("scrape_all_platforms", [*mixed, *[GOOD] * 12])
    if state == "outage":
        await scene.beats((timedelta(hours=12), timedelta(minutes=3)))
        await scene.publish(workers=0)
        return
    await alive(scene)
    ill: dict[State, Sequence[Fate]] = {"failing": [GOOD] * 9 + [BAD] * 4}
    ago = timedelta(minutes=50) if state == "overdue" else timedelta(0)
    note = "they asked us to wait" if state == "paused" else None
    await scene.job("poll_news", ill.get(state, [GOOD] * 9), ago=ago, paused=note)
    await scene.publish()


@pytest.mark.parametrize("state", STATES)
async def test_each_state_is_said_in_the_headline_and_nothing_bars_a_reader(
    browser: Browser, site: Site, scene: Scene, state: State
) -> None:
    await play(scene, state)

    async with open_page(browser, site) as page:
        headline = await page.inner_text("#headline")
        found = await faults(page)
        wide = await too_wide(page)

    assert STATES[state] in headline
    assert found == []
    assert wide <= 0


async def test_the_jobs_table_has_room_for_times_of_another_day(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "overdue")

    async with open_page(browser, site) as page:
        await page.evaluate("""
        () => {
          const fill = (where, text) =>
            document.querySelectorAll(where).forEach((one) => { one.textContent = text; });
          fill('.jobs td time', '2026-11-26 23:35');
          fill('.jobs td.times .quiet', '50 min ago');
          document.querySelectorAll('.jobs td.state .quiet').forEach((one) => {
            one.lastChild.textContent = ' (50 min)';
          });
        }
        """)
        wide = await too_wide(page)
        strip = await page.locator(".jobs td.ticks").first.bounding_box()

    assert wide <= 0
    assert strip
    assert strip["width"] > 150


async def test_the_door_bars_nobody(browser: Browser, site: Site) -> None:
    context = await browser.new_context(base_url=site.url)
    page = await context.new_page()

    await page.goto("/collections")
    found = await faults(page)
    await page.get_by_label("Token").fill("rc_wrong")
    await page.get_by_role("button", name="Sign in").click()
    said = await page.get_by_role("alert").inner_text()
    await context.close()

    assert found == []
    assert "Invalid token" in said


async def test_on_a_phone_nothing_is_wider_than_the_screen(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "failing")
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs WHERE status = 'failure'")

    async with open_page(browser, site, size=PHONE, has_touch=True, is_mobile=True) as page:
        wide: dict[str, int] = {}
        for path in ("/", "/jobs/poll_news", f"/runs/{run_id}", "/collections"):
            await page.goto(path)
            wide[path] = await too_wide(page)
        found = await faults(page)

    assert all(extra <= 0 for extra in wide.values()), wide
    assert found == []


async def test_without_javascript_all_of_it_is_there_and_works(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "healthy")

    async with open_page(browser, site, java_script_enabled=False) as page:
        refreshes = await page.locator("noscript meta[http-equiv=refresh]").count()
        await page.get_by_role("table", name="Jobs").get_by_role("link", name="poll_news").click()
        await page.get_by_label("Reason").fill("a rest")
        await page.get_by_role("button", name="Pause").click()
        said = await page.inner_text("main")
        await page.get_by_role("button", name="Resume").click()
        again = await page.get_by_role("button", name="Pause").count()

    assert refreshes == 1
    assert "operator/ann: a rest" in said
    assert again == 1


async def test_a_run_asked_for_leads_to_its_page(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "healthy")

    async with open_page(browser, site) as page:
        await page.get_by_role("table", name="Jobs").get_by_role("link", name="poll_news").click()
        await page.get_by_role("button", name="Run now").click()
        await page.wait_for_url("**/runs/*")
        said = await page.inner_text("main")

    assert "queued" in said
    assert "requested: by operator/ann" in said


async def test_a_click_on_a_tick_tells_what_became_of_it(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "failing")

    async with open_page(browser, site) as page:
        strip = page.locator("[data-job=poll_news] svg.strip")
        box = await strip.bounding_box()
        assert box is not None
        await page.mouse.move(box["x"] + box["width"] - 3, box["y"] + 5)
        await expect(page.locator(".tip")).to_contain_text("ran: failure in 4.0 s")
        await page.mouse.move(box["x"] + box["width"] - 3 - 4 * box["width"] / 60, box["y"] + 5)
        await expect(page.locator(".tip")).to_contain_text("ran: success")
        await page.mouse.click(box["x"] + box["width"] - 3, box["y"] + 5)
        await page.wait_for_url("**/ticks/*")
        said = await page.inner_text("main")

    assert f"{scene.now:%Y-%m-%d %H:%M:%S}" in said
    assert "The run is failure" in said


async def test_the_page_changes_by_itself_after_a_run(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "healthy")

    async with open_page(browser, site) as page:
        await page.wait_for_timeout(1_500)  # until the stream has said what it began with
        await scene.pool.execute(
            "UPDATE runs SET status = 'failure', error_message = 'gone' WHERE job = 'poll_news'"
        )
        await publish_all_jobs(scene.pool, scene.redis)

        await expect(page.locator("#headline")).to_contain_text(
            "poll_news failing since", timeout=10_000
        )
        title = await page.title()

    assert "poll_news failing since" in title


async def test_a_note_that_is_being_typed_is_not_taken_away(
    browser: Browser, site: Site, scene: Scene
) -> None:
    await play(scene, "healthy")

    async with open_page(browser, site) as page:
        await page.goto("/jobs/poll_news")
        await page.get_by_label("Reason").fill("half a senten")
        await page.wait_for_timeout(1_500)
        await scene.pool.execute("UPDATE runs SET status = 'failure' WHERE job = 'poll_news'")
        await publish_all_jobs(scene.pool, scene.redis)
        await page.wait_for_timeout(2_500)
        kept = await page.get_by_label("Reason").input_value()
        await page.get_by_role("button", name="Pause").focus()

        await expect(page.locator("h1")).to_contain_text("unhealthy", timeout=10_000)
        await expect(page.get_by_label("Reason")).to_have_value("half a senten")
        await expect(page.get_by_role("button", name="Pause")).to_be_focused()

    assert kept == "half a senten"


@pytest.mark.parametrize(("path", "name"), [("/ticks", "day"), ("/jobs/poll_news", "until")])
async def test_each_part_of_a_date_shows_that_it_has_the_focus(
    browser: Browser, site: Site, scene: Scene, path: str, name: str
) -> None:
    await play(scene, "healthy")
    shown: list[str] = []

    async with open_page(browser, site) as page:
        await page.goto(path)
        await page.locator(f"input[name={name}]").first.focus()
        while await page.evaluate("document.activeElement.name") == name:
            shown.append(
                await page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            )
            await page.keyboard.press("Tab")

    assert len(shown) >= len(("day", "month", "year"))
    assert set(shown) == {"solid"}


async def test_a_keyboard_is_enough(browser: Browser, site: Site, scene: Scene) -> None:
    await play(scene, "healthy")

    async with open_page(browser, site) as page:
        await page.keyboard.press("Tab")
        first = await page.evaluate("document.activeElement.textContent")
        stops: list[str] = []
        for _ in range(24):
            await page.keyboard.press("Tab")
            stops.append(await page.evaluate("document.activeElement.getAttribute('href') ?? ''"))

    assert first == "Skip to content"
    assert "/jobs/poll_news" in stops
    assert "/jobs/scrape_all_platforms" in stops


@pytest.mark.timeout(180)
async def test_two_hundred_jobs_are_one_page(browser: Browser, site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("job_000", [GOOD] * 20 + [BAD] * 4)
    await _copied(scene, 199)
    await scene.publish()

    async with open_page(browser, site) as page:
        rows = await page.locator("table.jobs tbody tr:not(.group)").count()
        height = await page.evaluate("document.documentElement.scrollHeight")
        headline = await page.inner_text("#headline")
        wide = await too_wide(page)

    assert rows == 200
    assert height < 15_000
    assert "200 of 200 jobs are unhealthy" in headline
    assert wide <= 0


async def _copied(scene: Scene, times: int) -> None:
    """The same schedule under other names, with ticks and runs of their own."""
    await scene.pool.execute(
        "INSERT INTO schedules (key, job, spec, policies, params, version, effective_from,"
        " evaluated_through, next_tick_at, due_at, created_at, enabled)"
        " SELECT 'job_' || lpad(n::text, 3, '0'), job, spec, policies, params, version,"
        " effective_from, evaluated_through, next_tick_at, due_at, created_at, enabled"
        " FROM schedules, generate_series(1, $1::int) n",
        times,
    )
    await scene.pool.execute(
        "INSERT INTO runs (execution_id, job, schedule_id, scheduled_for, trigger, params, status,"
        " attempt, queued_at, started_at, completed_at, duration_seconds, error_message, stats,"
        " created_at, losses, max_attempts, timeout_seconds, lease_epoch)"
        " SELECT gen_random_uuid(), s.key, s.id, scheduled_for, trigger, r.params, status, attempt,"
        " queued_at, started_at, completed_at, duration_seconds, error_message, stats,"
        " r.created_at, losses, max_attempts, timeout_seconds, lease_epoch"
        " FROM runs r CROSS JOIN schedules s WHERE s.key <> r.job"
    )
    await scene.pool.execute(
        "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)"
        " SELECT schedule_id, scheduled_for, 1, 'ran', execution_id, created_at FROM runs"
        " ON CONFLICT DO NOTHING"
    )
