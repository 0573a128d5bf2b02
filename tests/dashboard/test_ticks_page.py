"""The page of ticks that did not run: the calendar, the day, and whose ticks it shows."""

from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest

from app.core.enums import Scope, TickReason
from app.store.reports.tick_listing import UnservedTicks
from app.web.dashboard.ticks_page import calendar_days
from tests.dashboard.fixtures import GOOD, STEP, Scene
from tests.dashboard.server import Site

pytestmark = pytest.mark.timeout(60)
NOON = datetime(2026, 9, 5, 12, tzinfo=UTC)


async def test_a_day_lists_what_did_not_run_with_reason_and_job(site: Site, scene: Scene) -> None:
    noon = scene.now.replace(hour=12, minute=0)
    ago = scene.now - noon + timedelta(days=1)
    await scene.job("a", [GOOD, TickReason.SCHEDULER_DOWN, TickReason.OVERLAP, GOOD], ago=ago)
    schedule_id = await scene.job("b", [GOOD, GOOD], ago=ago)
    await scene.gap(schedule_id, ago + timedelta(hours=1), 60)
    day = (noon - timedelta(days=1)).date()

    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get(f"/ticks?day={day}")).text
        missed = (await visitor.get(f"/ticks?day={day}&outcome=missed&job=a")).text
        overlap = (await visitor.get(f"/ticks?day={day}&reason=overlap")).text
        empty = (await visitor.get(f"/ticks?day={day - timedelta(days=1)}")).text

    at = f"{noon - timedelta(days=1) - 2 * STEP:%Y-%m-%dT%H:%M:%SZ}"
    assert f'href="/jobs/a/ticks/{at}"' in missed
    assert [text.count("/ticks/2") for text in (page, missed, overlap, empty)] == [3, 1, 1, 0]
    assert "61 missed: no live worker" in page
    assert "60 ticks" in page
    assert f'<time datetime="{day}">' in page
    assert "was missed or skipped" in empty


async def test_older_ticks_of_a_day_follow_on_the_next_page(site: Site, scene: Scene) -> None:
    noon = scene.now.replace(hour=23, minute=0)
    ago = scene.now - noon + timedelta(days=1)
    for job in ("a", "b"):
        await scene.job(job, [TickReason.PAUSED] * 70, ago=ago)

    async with site.signed_in(Scope.READ) as visitor:
        first = (await visitor.get(f"/ticks?day={(noon - timedelta(days=1)).date()}")).text
        older = unescape(first.split('">Older ticks')[0].rsplit('href="', 1)[1])
        second = (await visitor.get(older)).text

    rows = {
        part.split('"')[0]
        for page in (first, second)
        for part in page.split('scope="row"><a href="')[1:]
    }
    assert first.count('scope="row"') == 100
    assert len(rows) == 140


async def test_ticks_of_another_organisation_are_not_listed(site: Site, scene: Scene) -> None:
    await site.token(Scope.READ, org="other")
    schedule_id = await scene.job("theirs", [TickReason.LATE])
    org_id = await scene.pool.fetchval("SELECT id FROM organizations WHERE name = 'other'")
    await scene.pool.execute("UPDATE schedules SET org_id = $1 WHERE id = $2", org_id, schedule_id)

    async with site.signed_in(Scope.READ, "acme") as visitor:
        page = (await visitor.get(f"/ticks?day={scene.now.date()}&job=theirs")).text

    assert "theirs" not in page.split('name="outcome"')[0].split("selected")[0]
    assert "/jobs/theirs" not in page


@pytest.mark.parametrize("query", ["day=tomorrow", "day=0001-01-01", "after=2026-01-01_x"])
async def test_a_day_that_cannot_be_read_is_no_fault_of_ours(site: Site, query: str) -> None:
    async with site.signed_in(Scope.READ, "acme") as visitor:
        answer = await visitor.get(f"/ticks?{query}")

    assert answer.status_code in {400, 404}


def test_a_gap_over_several_days_is_counted_on_each() -> None:
    gap = UnservedTicks("missed", "scheduler_down", NOON, NOON + timedelta(hours=47), 48)

    days = calendar_days([gap], date(2026, 9, 4), date(2026, 9, 8))
    later = calendar_days([gap], date(2026, 9, 6), date(2026, 9, 6))

    assert [day.missed for day in days] == [0, 12, 24, 12, 0]
    assert [day.missed for day in later] == [24]
