"""The page of all runs: filters, search in errors, paging, and whose runs it shows."""

import re
from datetime import timedelta
from html import unescape

import pytest

from app.core.enums import RunStatus, Scope, TickReason
from tests.dashboard.fixtures import BAD, GOOD, Scene
from tests.dashboard.server import Site

pytestmark = pytest.mark.timeout(60)


def count(page: str) -> int:
    """How many runs a page lists."""
    return page.count('href="/runs/')


async def test_each_filter_narrows_the_list(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD] * 3 + [BAD] * 2 + [RunStatus.LOST])
    await scene.job("b", [GOOD, TickReason.OVERLAP, RunStatus.RUNNING])
    await scene.pool.execute("UPDATE runs SET worker = 'w7' WHERE job = 'b'")
    await scene.pool.execute("UPDATE runs SET error_message = 'no 100% match' WHERE status='lost'")
    await scene.pool.execute("UPDATE runs SET trigger = 'manual' WHERE status = 'running'")
    await scene.pool.execute(
        "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
        " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
        " throttled_ms, duration_seconds)"
        " SELECT execution_id, 'bet9ja', 'failure', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0"
        " FROM runs WHERE status = 'failure' LIMIT 1"
    )
    wanted = {
        "": 8,
        "job=a": 6,
        "status=failure": 2,
        "status=unsuccessful": 3,
        "trigger=manual": 1,
        "worker=w7": 2,
        "source=bet9ja": 1,
        "error=answered+503": 2,
        "error=100%25": 1,
        "error=HTTP_STATUS": 3,
        "job=a&status=failure&error=503": 2,
        "status=nonsense": 8,
        f"until={scene.now - timedelta(minutes=4):%Y-%m-%dT%H:%M}": 6,
    }

    async with site.signed_in(Scope.READ) as visitor:
        found = {query: count((await visitor.get(f"/runs?{query}")).text) for query in wanted}

    assert found == wanted


async def test_the_period_is_a_day_unless_another_is_chosen(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD], ago=timedelta(days=3))
    await scene.job("b", [GOOD])

    async with site.signed_in(Scope.READ) as visitor:
        pages = {
            query: (await visitor.get(f"/runs?{query}")).text
            for query in ("", "period=7d", "period=", "period=1h")
        }

    assert [count(page) for page in pages.values()] == [1, 2, 2, 1]
    assert '<option value="24h" selected>' in pages[""]


async def test_the_links_show_what_did_not_succeed_in_the_period_that_they_name(
    site: Site, scene: Scene
) -> None:
    for name, age in (("a", timedelta(0)), ("b", timedelta(hours=5)), ("c", timedelta(days=6))):
        await scene.job(name, [GOOD, BAD], ago=age)
    await scene.job("d", [BAD], ago=timedelta(days=8))

    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get("/runs")).text
        links: list[tuple[str, str]] = re.findall(
            r'<a href="([^"]+)">(last [^<]+)</a>', unescape(page)
        )
        found = {text: count((await visitor.get(path)).text) for path, text in links}

    assert found == {"last hour": 1, "last 24 hours": 2, "last 7 days": 3}


async def test_older_runs_keep_the_filters(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD, BAD] * 55)

    async with site.signed_in(Scope.READ) as visitor:
        first = (await visitor.get("/runs?status=failure&period=7d")).text
        older = unescape(first.split('rel="next" href="')[1].split('"')[0])
        second = (await visitor.get(older)).text
        back = unescape(second.split('">Newest</a>')[0].rsplit('href="', 1)[1])
        again = (await visitor.get(back)).text

    assert (count(first), count(second), count(again)) == (50, 5, 50)
    assert 'rel="next"' not in second
    assert "status=failure" in older


async def test_an_organisation_sees_its_own_runs_only(site: Site, scene: Scene) -> None:
    for org in ("acme", "other"):
        await site.token(Scope.READ, org=org)
        schedule_id = await scene.job(f"of_{org}", [GOOD])
        for table, column in (("schedules", "id"), ("runs", "schedule_id")):
            await scene.pool.execute(
                f"UPDATE {table} SET org_id = (SELECT id FROM organizations WHERE name = $1)"  # noqa: S608 - our own
                f" WHERE {column} = $2",
                org,
                schedule_id,
            )
    await scene.job("house", [GOOD])

    async with site.signed_in(Scope.READ, "acme") as visitor:
        own = (await visitor.get("/runs")).text
    async with site.signed_in(Scope.READ) as operator:
        every = (await operator.get("/runs")).text

    assert (count(own), count(every)) == (1, 3)
    assert "of_acme" in own
    assert "of_other" not in own
    assert "house" not in own


@pytest.mark.parametrize(
    ("query", "status"),
    [
        ("since=yesterday", 404),
        ("before=2026-01-01_x", 400),
        ("before=x_y", 404),
        ("error=%00", 200),
    ],
)
async def test_a_filter_that_cannot_be_read_is_no_fault_of_ours(
    site: Site, query: str, status: int
) -> None:
    async with site.signed_in(Scope.READ, "acme") as visitor:
        answer = await visitor.get(f"/runs?{query}")

    assert answer.status_code == status
