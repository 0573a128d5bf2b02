"""The page of trends: counted as runs end, by source and job, with percentiles of known error."""

import random
import re
from collections import Counter
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest

from app.core.enums import RunStatus, Scope, TrendKind
from app.store.db import Pool
from app.store.reports import metrics, org_trends, trends
from app.web.dashboard import trends_page
from app.web.dashboard.trends_page import steps
from tests.clock import SettableClock
from tests.dashboard.server import Site
from tests.runs.harness import Desk, ended

pytestmark = pytest.mark.timeout(60)


@pytest.fixture
def desk(pool: Pool) -> Desk:
    """Runs of an hour ago."""
    return Desk(pool, SettableClock(datetime.now(UTC) - timedelta(hours=1)))


async def read(pool: Pool, kind: TrendKind, step: int = 86_400) -> dict[str, trends.TrendPoint]:
    async with pool.acquire() as connection:
        since = datetime.now(UTC) - timedelta(days=3)
        points = await trends.read(connection, step, kind, since)
    assert len({point.name for point in points}) == len(points), "more than one step"
    return {point.name: point for point in points}


async def test_runs_are_counted_by_source_and_by_job_once_however_often_it_is_folded(
    pool: Pool, desk: Desk
) -> None:
    desk.clock.now = desk.clock.now.replace(hour=9)
    await ended(desk, 2.0)
    await metrics.fold(pool)
    await ended(desk, 2.0, RunStatus.FAILURE)
    await metrics.fold(pool)
    await metrics.fold(pool)

    by_source, by_job = await read(pool, TrendKind.SOURCE), await read(pool, TrendKind.JOB)

    for one in (by_source["bet9ja"], by_job["job"]):
        counts = dict(zip(trends.COUNTS, one.totals, strict=True))
        assert counts == {
            "runs": 2,
            "failed": 1,
            "records": 60,
            "prices": 180,
            "changed": 10,
            "errors": 2,
            "bytes": 8_000,
        }
        assert one.took == {"4": 2}
        assert sum(one.waited.values()) == 2


async def test_what_was_counted_outlives_its_runs_and_old_steps_are_pruned(
    pool: Pool, desk: Desk
) -> None:
    await ended(desk, 1.0)
    desk.clock.now -= timedelta(days=5)
    await ended(desk, 1.0)
    await metrics.fold(pool)

    await pool.execute("DELETE FROM runs")
    await trends.prune(pool)

    counted = Counter(row[0] for row in await pool.fetch("SELECT step FROM trends"))
    assert counted == {3_600: 2, 21_600: 4, 86_400: 4}


async def test_recipes_of_organisations_are_one_source(pool: Pool, desk: Desk) -> None:
    await ended(desk, 1.0, source="recipe:our_rival")
    await metrics.fold(pool)

    assert set(await read(pool, TrendKind.SOURCE)) == {"recipe"}


def test_a_percentile_of_buckets_is_as_near_as_it_says() -> None:
    chance = random.Random(7)  # noqa: S311 - values for a test
    values = [chance.lognormvariate(1, 2) for _ in range(5_000)]
    counts = Counter(bucket(value) for value in values)

    exact = sorted(values)
    for share in (0.5, 0.95, 0.99):
        found = trends.percentile(counts.items(), share)
        true = exact[int(share * len(values)) - 1]
        assert found is not None
        assert abs(found / true - 1) <= trends.MAX_ERROR
    assert trends.percentile((), 0.5) is None


def bucket(seconds: float) -> str:
    number = -40
    while 2 ** ((number + 1) / 4) <= seconds:
        number += 1
    return str(number)


async def test_buckets_in_postgres_are_those_of_the_percentile(pool: Pool, desk: Desk) -> None:
    for seconds in (0.0, 0.002, 0.3, 4.0, 77.0, 3_000.0):
        await ended(desk, seconds)
        await metrics.fold(pool)

    points = await pool.fetch("SELECT took FROM trends WHERE step = 86400 AND kind = 'source'")

    known = Counter(number for row in points for number in row[0])
    assert known == Counter(bucket(s) for s in (0.001, 0.002, 0.3, 4.0, 77.0, 3_000.0))


def test_the_steps_of_a_day_begin_with_the_hour_a_day_ago() -> None:
    now = datetime(2026, 9, 5, 12, 34, tzinfo=UTC)

    found = steps(now, timedelta(days=1), 3_600)

    assert found[0] == datetime(2026, 9, 4, 12, tzinfo=UTC)
    assert found[-1] == datetime(2026, 9, 5, 12, tzinfo=UTC)
    assert len(found) == 25


@pytest.mark.parametrize("period", ["24h", "7d", "30d"])
async def test_the_page_shows_percentiles_and_counts_in_a_table(
    site: Site, desk: Desk, period: str
) -> None:
    for seconds in [1.0] * 9 + [60.0]:
        await ended(desk, seconds)
    await ended(desk, 5.0, source="betpawa")
    await metrics.fold(desk.pool)

    async with site.signed_in(Scope.READ) as visitor:
        page = (await visitor.get(f"/trends?period={period}&name=bet9ja")).text
        jobs = (await visitor.get(f"/trends?period={period}&by=job")).text
        nothing = (await visitor.get(f"/trends?period={period}&name=unknown")).text

    assert "<dd>1.1 s / 59 s</dd>" in page
    assert "Duration, seconds of bet9ja" in page
    assert 'name=betpawa">betpawa</a>' in page
    assert "off by at most 9.1 %" in page
    assert 'name=job">job</a>' in jobs
    assert "No run of unknown that ended" in nothing


@pytest.mark.parametrize("query", ["period=1y", "by=worker"])
async def test_a_trend_that_is_not_counted_is_refused(site: Site, query: str) -> None:
    async with site.signed_in(Scope.READ) as visitor:
        assert (await visitor.get(f"/trends?{query}")).status_code == 400


async def test_an_organisation_reads_the_trends_of_its_own_collections_only(
    site: Site, pool: Pool, desk: Desk
) -> None:
    await site.token(Scope.READ, "acme")
    await site.token(Scope.READ, "rival")
    for org, seconds, source in (("acme", 2.0, "recipe:wares"), ("rival", 9.0, "recipe:secret")):
        for status in (RunStatus.SUCCESS, RunStatus.FAILURE):
            run_id = await ended(desk, seconds, status, source)
            await pool.execute(
                "UPDATE runs SET org_id = (SELECT id FROM organizations WHERE name = $2),"
                " job = 'collection:' || (SELECT id FROM organizations WHERE name = $2) || ':daily'"
                " WHERE execution_id = $1",
                run_id,
                org,
            )
    async with site.signed_in(Scope.READ, "acme") as reader:
        by_source = (await reader.get("/trends")).text
        by_collection = (await reader.get("/trends?by=job&period=30d")).text
        home = (await reader.get("/collections")).text

    for page, name in ((by_source, "recipe:wares"), (by_collection, "daily")):
        row = page.split(f">{name}</a></th>")[1].split("</tr>")[0]
        assert re.findall(r'"number">([^<]*)<', row)[:2] == ["2", "1"]
        assert re.findall(r'"number">([^<]*)<', row)[6:11] == ["60", "10", "180", "2", "8.0 kB"]
        assert "secret" not in page
    assert '<a href="/trends">Trends</a>' in home


def test_buckets_in_python_are_those_of_postgres() -> None:
    for seconds in (0.0, 0.001, 0.0024, 1.0, 1.19, 77.0, 3_000.0):
        assert list(org_trends.counted([seconds, None])) == [bucket(max(seconds, 0.001))]


async def test_a_table_of_many_jobs_has_pages_and_counts_all_of_them(
    site: Site, pool: Pool
) -> None:
    await pool.execute(
        "INSERT INTO trends (step, kind, at, name, runs, failed, records, prices, changed, errors,"
        " bytes) SELECT 3600, 'job', date_bin('1 hour', now(), 'epoch'), 'job ' || n, 2, 0, 1, 1,"
        " 1, 0, 1 FROM generate_series(101, 220) n"
    )
    path, named, totals = "/trends?by=job", list[str](), set[str]()
    async with site.signed_in(Scope.READ) as visitor:
        for _ in range(3):
            page = unescape((await visitor.get(path)).text)
            named += re.findall(r'scope="row"><a [^>]*>(job \d+)</a>', page)
            totals.add(page.split("<dt>Runs</dt><dd>")[1].split("<", maxsplit=1)[0].strip())
            following = re.search(r'rel="next" href="([^"#]*)', page)
            path = following[1] if following else ""

    assert named == [f"job {number}" for number in range(101, 221)]
    assert (totals, path) == ({"240"}, "")


async def test_the_sources_are_paged_and_the_first_page_is_linked(
    site: Site, desk: Desk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(trends_page, "PER_PAGE", 1)
    for source in ("bet9ja", "betpawa"):
        await ended(desk, 2.0, source=source)
    await metrics.fold(desk.pool)

    async with site.signed_in(Scope.READ) as visitor:
        first = (await visitor.get("/trends")).text
        (more,) = re.findall(r'rel="next" href="([^"]+)">More<', first)
        second = (await visitor.get(unescape(more))).text

    (back,) = re.findall(r'href="([^"]+)">First<', second)
    assert ">First<" not in first
    assert unescape(back).partition("#")[0] == "/trends?by=source&period=24h"
    assert 'rel="next"' not in second
