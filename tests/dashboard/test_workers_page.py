"""The page of the live workers."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape

import pytest
from pydantic import SecretStr

from app.core.enums import RunStatus, Scope
from app.core.messages import HostLimits
from app.fetch.limiter import RedisLimiter
from app.fetch.retry import MIN_RETRIES
from app.health import keys
from app.health.facts import WorkerFacts
from app.store.db import Pool
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.dashboard.fixtures import Scene, alive
from tests.dashboard.server import Site
from tests.published import publish_all_jobs

pytestmark = pytest.mark.timeout(60)


async def test_each_worker_says_what_it_is_and_what_it_runs(site: Site, scene: Scene) -> None:
    now = datetime.now(UTC)
    facts = WorkerFacts(
        seen_at=now,
        started_at=now - timedelta(hours=3),
        host="one.example",
        running=1,
        zone_data="2020a",
        version="0.0.1",
        memory=142_400_000,
        clock_error=4.2,
        tasks=("poll_news", "source"),
    )
    await keys.write_worker(scene.redis, "w1", 60, facts)
    await keys.write_worker(scene.redis, "w2", 60, WorkerFacts(seen_at=now))
    await scene.job("poll_news", [RunStatus.RUNNING])
    await scene.pool.execute("UPDATE runs SET worker = 'w1'")
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")

    async with site.signed_in(Scope.READ) as reader:
        page = (await reader.get("/workers")).text

    first, second = page.split('scope="row">')[1:3]
    for fact in ("one.example", "142 MB", "4.2 s ahead of the database", "poll_news, source"):
        assert fact in first, fact
    assert first.count('class="fault below"') == 2  # another version, and older zone data
    assert f'href="/runs/{run_id}"' in first
    assert second.count("unknown") == 4
    assert "any" in second


async def test_the_file_that_orphans_a_job_is_found_from_the_front_page(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("mine", [RunStatus.SUCCESS])
    fault = "jobs/mine.py:12: invalid syntax: correct the <line>"
    facts = WorkerFacts(seen_at=datetime.now(UTC), jobs=(), faulty_jobs=(fault,))
    await keys.write_worker(scene.redis, "w0", 300, facts)
    await publish_all_jobs(scene.pool, scene.redis)

    async with site.signed_in(Scope.READ) as reader:
        front = unescape((await reader.get("/")).text)
        workers = (await reader.get("/workers")).text

    assert "or see Workers for a file that cannot be loaded" in front
    assert '<a href="/workers">mine: See whether its file could be loaded</a>' in front
    assert "jobs/mine.py:12: invalid syntax: correct the &lt;line&gt;" in workers


async def test_without_workers_or_redis_it_says_what_to_do(
    site: Site, dsn: str, redis_url: str, pool: Pool
) -> None:
    async with site.signed_in(Scope.READ) as reader:
        none = (await reader.get("/workers")).text
    cut_off = config_for(dsn, redis_url).model_copy(
        update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}
    )
    async with sites.opened(cut_off, pool) as alone, alone.signed_in(Scope.READ) as reader:
        unknown = (await reader.get("/workers")).text

    assert "arq app.workers.Settings" in none
    assert "unknown which workers live" in unknown


async def test_budgets_of_retries_and_of_the_month_are_shown(
    scene: Scene, dsn: str, redis_url: str, pool: Pool
) -> None:
    limiter = RedisLimiter(scene.redis)
    for _ in range(3):
        permit = await limiter.acquire("shop.example:443", HostLimits(100, 10, 4), again=True)
        limiter.release(permit)
    await limiter.close()
    settings = config_for(dsn, redis_url).model_copy(update={"monthly_requests": {"news": 400}})
    async with sites.opened(settings, pool) as site, site.signed_in(Scope.READ) as reader:
        page = (await reader.get("/workers")).text

    (retries, months) = page.split("Retries in this hour")[1].split("Requests in this month")
    assert re.findall(r'number(?: fault)?">(\d+)<', retries) == ["3", str(MIN_RETRIES)]
    assert "shop.example:443" in retries
    assert re.findall(r'number">(\w+)<', months) == ["Used", "Budget", "0", "400"]


async def test_a_job_without_a_schedule_is_run_from_its_page(site: Site, scene: Scene) -> None:
    await alive(scene)
    known = WorkerFacts(seen_at=datetime.now(UTC), tasks=("by_hand", "source", "collection"))
    await keys.write_worker(scene.redis, "w0", 300, known)

    async with site.signed_in(Scope.OPERATE) as operator:
        front = (await operator.get("/")).text
        page = await operator.get("/jobs/by_hand")
        csrf = re.search(r'name="csrf" value="([^"]+)"', page.text)
        assert csrf is not None
        form = {"csrf": csrf[1], "once": "1"}
        answers = [await operator.post("/jobs/by_hand/run", data=form) for _ in range(2)]
        run = await operator.get(answers[0].headers["location"])
        none = await operator.get("/jobs/nothing_of_this_name")

    assert '<a href="/jobs/by_hand">by_hand</a>' in front
    assert (page.status_code, none.status_code) == (200, 404)
    assert [answer.status_code for answer in answers] == [303, 303]
    assert "queued" in run.text
    assert await scene.pool.fetchval("SELECT count(*) FROM runs WHERE job = 'by_hand'") == 1
