"""What the pages say of jobs that are healthy, unhealthy or paused, and when a server is away."""

import re
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import timedelta
from html import unescape
from uuid import UUID, uuid4
from zoneinfo import ZoneInfo

import httpx
import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.core.enums import RunStatus, Scope, TickReason
from app.scheduling.exclusions import Exclusions
from app.scheduling.policies import Policies
from app.store.db import Pool
from tests.configs import config_for
from tests.dashboard import server as sites
from tests.dashboard.fixtures import BAD, ERROR, GOOD, STEP, Scene, alive
from tests.dashboard.server import Site
from tests.redis_process import redis_process
from tests.wait import until

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"


@asynccontextmanager
async def reader(site: Site) -> AsyncGenerator[httpx.AsyncClient]:
    async with site.signed_in(Scope.READ) as visitor:
        yield visitor


async def home(site: Site) -> str:
    async with reader(site) as visitor:
        return unescape((await visitor.get("/")).text)


async def test_an_empty_dashboard_says_how_to_begin(site: Site) -> None:
    page = await home(site)

    assert "No jobs registered: no worker has started yet" in page
    assert "arq app.workers.Settings" in page


async def test_a_system_that_is_healthy_says_so(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD] * 8)
    await scene.publish()

    page = await home(site)

    assert "All jobs are healthy" in page
    assert "The last 8 ticks: 8 ran, 0 skipped, 0 missed" in page
    assert "every 5 minutes" in page
    assert page.count("100 %") == 2


async def test_the_headline_names_who_is_ill_and_since_when(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD] * 8)
    await scene.job("b", [GOOD, GOOD, BAD, BAD, BAD, BAD])
    await scene.publish()

    page = await home(site)

    assert "1 of 2 jobs is unhealthy: b failing since " in page
    assert " more" not in page[: page.index("</h1>")]
    assert f"4 consecutive failures: {ERROR}" in page
    assert page.index('href="/jobs/b"') < page.index('href="/jobs/a"')


async def test_the_headline_names_three_and_counts_the_others(site: Site, scene: Scene) -> None:
    await alive(scene)
    for number in range(5):
        await scene.job(f"b{number} <b> & co", [GOOD, BAD, BAD, BAD, BAD])
    await scene.publish()

    async with reader(site) as visitor:
        page = (await visitor.get("/")).text

    title = page[page.index("<title>") : page.index("</title>")]
    heading = page[page.index("<h1") : page.index("</h1>")]
    for text in (title, heading):
        assert "5 of 5 jobs are unhealthy: b0 &lt;b&gt; &amp; co failing since " in text
        assert text.rstrip().endswith(" and 2 more")
    assert "<time" not in title
    assert heading.count("</time> UTC (") == 3


def drawn(page: str, kind: str) -> int:
    """How many slots of this kind the page draws."""
    return sum(path.count("M") for path in re.findall(rf'<path class="{kind}" d="([^"]*)"', page))


async def test_a_silent_job_is_overdue_and_its_undecided_ticks_are_shown(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("a", [GOOD] * 4, ago=timedelta(hours=1))
    await scene.publish()

    page = await home(site)

    assert "overdue" in page
    assert drawn(page, "due") >= 10
    assert "undecided" in page


async def test_a_paused_job_is_shown_with_who_and_why(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD] * 4, paused="they asked us to wait")
    await scene.pool.execute("UPDATE schedules SET paused_until = '2999-12-24 08:00Z'")
    await scene.publish()

    page = await home(site)

    assert "by operator/ann: they asked us to wait" in page
    assert "paused" in page
    assert "until 2999-12-24 08:00:00 UTC" in page


async def test_missed_and_skipped_ticks_hold_their_slots_compressed_ones_too(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    fates = [GOOD, TickReason.OVERLAP, GOOD, TickReason.LATE, RunStatus.PARTIAL_FAILURE]
    schedule_id = await scene.job("a", fates)
    await scene.gap(schedule_id, STEP * 5, 20)
    await scene.publish()

    page = await home(site)
    async with reader(site) as visitor:
        job = unescape((await visitor.get("/jobs/a")).text)

    assert drawn(page, "miss") - 1 == 21  # one is in the legend
    assert "missed: no live worker, or none reached Postgres (one of 20 from" in job
    assert "skipped: the previous run was still running" in job
    assert "The last 25 ticks: 3 ran, 1 skipped, 21 missed" in page


async def test_an_excluded_tick_holds_a_quiet_slot_and_is_not_shown_as_the_next_run(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    schedule_id = await scene.job("a", [GOOD, TickReason.EXCLUDED])
    start = scene.now + timedelta(days=2)
    hours = Exclusions(start=start.isoformat())
    await scene.pool.execute(
        "UPDATE schedules SET policies = $2 WHERE id = $1",
        schedule_id,
        Policies(exclude=hours).to_spec(),
    )
    await scene.publish()

    page = await home(site)
    async with reader(site) as visitor:
        job = unescape((await visitor.get("/jobs/a")).text)

    assert "skipped: an excluded time, or outside start and end" in job
    assert drawn(page, "miss") == 1  # the legend's
    assert f"{start:%Y-%m-%dT%H:%M}" in page
    assert f"{start:%Y-%m-%dT%H:%M}" in job
    assert f"{start:%Y-%m-%d %H:%M:%S} upcoming" in job
    assert f"{scene.now + STEP:%Y-%m-%d %H:%M:%S} upcoming" not in job


async def test_an_outage_is_a_band_in_every_row(site: Site, scene: Scene) -> None:
    await scene.beats((timedelta(hours=10), timedelta(minutes=40)), (timedelta(minutes=20), -STEP))
    await scene.job("a", [GOOD] * 12)
    await scene.job("b", [GOOD] * 12)
    await scene.publish()

    page = await home(site)

    assert page.count('class="outage"') == 2
    assert "No live worker from " in page


async def test_when_every_worker_is_dead_the_headline_says_since_when(
    site: Site, scene: Scene
) -> None:
    await scene.beats((timedelta(hours=10), timedelta(minutes=3)))
    await scene.job("a", [GOOD] * 12, ago=timedelta(minutes=4))
    await scene.publish(workers=0)

    page = await home(site)

    assert "No live worker since " in page


async def test_what_a_site_said_is_shown_as_text(site: Site, scene: Scene) -> None:
    nasty = "<script>alert(1)</script>"
    await alive(scene)
    await scene.job(nasty.replace("/", "|"), [GOOD])
    await scene.pool.execute("UPDATE runs SET error_message = $1, status = 'failure'", nasty)
    await scene.publish()

    async with reader(site) as visitor:
        page = (await visitor.get("/")).text

    assert "<script>" not in page
    assert "&lt;script&gt;" in page


async def test_the_page_of_a_job_pages_and_filters_its_runs(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD] * 30 + [BAD] * 3)

    async with reader(site) as visitor:
        newest = (await visitor.get("/jobs/a")).text
        older = unescape(newest.split('rel="next" href="')[1].split('"')[0])
        rest = (await visitor.get(older)).text
        back = unescape(rest.split(">Newest</a>")[0].rsplit('href="', 1)[1].split('"')[0])
        first = (await visitor.get(back.partition("#")[0])).text
        failed = (await visitor.get("/jobs/a?status=failure")).text
        nonsense = await visitor.get("/jobs/a?status=nonsense&before=x_y")

    assert (newest.count('href="/runs/'), rest.count('href="/runs/')) == (25, 8)
    assert ">Newest</a>" not in newest
    assert first.count('href="/runs/') == 25
    assert failed.count('href="/runs/') == 3
    assert 'rel="next"' not in rest
    assert 'class="nowline"' in newest
    assert nonsense.status_code in {400, 404}


async def test_a_job_without_a_schedule_has_the_list_of_its_runs_as_its_page(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    await scene.pool.execute("UPDATE runs SET job = 'by_hand', trigger = 'manual'")

    async with site.signed_in(Scope.READ) as visitor:
        answer = await visitor.get("/jobs/by_hand")
        shown = await visitor.get(answer.headers.get("location", "/"))
        unknown = await visitor.get("/jobs/none")

    assert (answer.status_code, shown.status_code) == (303, 200)
    assert answer.headers["location"] == "/runs?job=by_hand&period="
    assert shown.text.count('href="/runs/') == 1
    assert unknown.status_code == 404


async def test_a_tick_tells_its_story(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD, TickReason.SCHEDULER_DOWN])
    last, before = scene.now, scene.now - STEP

    async with reader(site) as visitor:
        missed = (await visitor.get(f"/jobs/a/ticks/{last:%Y-%m-%dT%H:%M:%SZ}")).text
        ran = (await visitor.get(f"/jobs/a/ticks/{before:%Y-%m-%dT%H:%M:%SZ}")).text
        between = last - timedelta(seconds=1)
        never = await visitor.get(f"/jobs/a/ticks/{between:%Y-%m-%dT%H:%M:%SZ}")

    assert "missed (scheduler_down)" in missed
    assert 'href="/runs/' in ran
    assert never.status_code == 404
    assert "is not a tick of a, which is due" in never.text


async def test_a_tick_that_a_run_blocked_links_to_that_run(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD, TickReason.OVERLAP])
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")
    await scene.pool.execute(
        "UPDATE ticks SET blocking_run_id = $1 WHERE reason = 'overlap'", run_id
    )

    async with reader(site) as visitor:
        blocked = (await visitor.get(f"/jobs/a/ticks/{scene.now:%Y-%m-%dT%H:%M:%SZ}")).text
        run = (await visitor.get(f"/runs/{run_id}")).text

    assert f'<a href="/runs/{run_id}">Blocking run</a>' in blocked
    attempts = await scene.pool.fetchval("SELECT max_attempts FROM runs")
    assert f'<span class="quiet">of {attempts}</span>' in run


async def test_the_page_of_a_run_shows_all_that_is_kept(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    await alive(scene)
    await scene.job("a", [BAD])
    run_id: UUID = await scene.pool.fetchval("SELECT execution_id FROM runs")
    await _filled(scene.pool, run_id)
    await redis.execute_command("RPUSH", f"rollcall:log:{run_id}", "12:00 page.rejected")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    await redis.expire(f"rollcall:log:{run_id}", 60)

    async with reader(site) as visitor:
        page = unescape((await visitor.get(f"/runs/{run_id}")).text)
        unknown = await visitor.get(f"/runs/{uuid4()}")

    for fact in (ERROR, "finished", "w1", "sportybet", "no odds", "page.rejected", '{"id": 7}'):
        assert fact in page, fact
    assert unknown.status_code == 404


async def _filled(pool: Pool, run_id: UUID) -> None:
    await pool.execute(
        "INSERT INTO run_events (execution_id, at, event, attempt, worker)"
        " VALUES ($1, now(), 'finished', 1, 'w1')",
        run_id,
    )
    await pool.execute(
        "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
        " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
        " throttled_ms, counts, duration_seconds, errors, done_counts)"
        " VALUES ($1, 'sportybet', 'failure', 1, 1, 3, 2, 1, 0, 1, 1, 4, 0, 9, 0, '{}', 1.5,"
        " '{\"p1\": \"gone\"}', '{}')",
        run_id,
    )
    await pool.execute(
        "INSERT INTO rejected_records (execution_id, source, partition, page, reason, data)"
        " VALUES ($1, 'sportybet', 'p1', 1, 'no odds', $2)",
        run_id,
        b'{"id": 7}',
    )


async def test_another_organisations_collection_does_not_exist(site: Site, scene: Scene) -> None:
    await site.token(Scope.READ, org="other")
    schedule_id = await scene.job("collection:other", [GOOD])
    org_id = await scene.pool.fetchval("SELECT id FROM organizations WHERE name = 'other'")
    await scene.pool.execute(
        "UPDATE schedules SET org_id = $1, job = 'collection' WHERE id = $2", org_id, schedule_id
    )
    await scene.pool.execute("UPDATE runs SET org_id = $1, job = 'collection'", org_id)
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")
    at = f"{scene.now:%Y-%m-%dT%H:%M:%SZ}"
    paths = ("/jobs/collection:other", f"/jobs/collection:other/ticks/{at}", f"/runs/{run_id}")

    async with site.signed_in(Scope.READ, "acme") as visitor:
        answers = [await visitor.get(path) for path in paths]
        pages = [(await visitor.get(path)).text for path in ("/", "/collections")]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
    assert all("collection:other" not in page and str(run_id) not in page for page in pages)


async def test_nor_does_it_under_a_role_that_bypasses_row_level_security(
    site: Site, scene: Scene, dsn: str, redis_url: str
) -> None:
    await site.token(Scope.READ, org="other")
    await scene.job("mine", [GOOD])
    schedule_id = await scene.job("theirs", [GOOD])
    org_id = await scene.pool.fetchval("SELECT id FROM organizations WHERE name = 'other'")
    await scene.pool.execute(
        "UPDATE schedules SET org_id = $1, job = 'collection' WHERE id = $2", org_id, schedule_id
    )
    await scene.pool.execute(
        "UPDATE runs SET org_id = $1, job = 'collection' WHERE schedule_id = $2",
        org_id,
        schedule_id,
    )
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs WHERE org_id = $1", org_id)
    at = f"{scene.now:%Y-%m-%dT%H:%M:%SZ}"
    paths = ("/jobs/theirs", f"/jobs/theirs/ticks/{at}", f"/runs/{run_id}")
    assert run_id is not None
    superuser = config_for(dsn.replace("//rollcall@", "//postgres@", 1), redis_url)

    async with (
        sites.opened(superuser, scene.pool) as bypassed,
        bypassed.signed_in(Scope.OPERATE, "acme") as visitor,
    ):
        answers = [await visitor.get(path) for path in paths]
        form = {"csrf": sites.csrf_of(visitor), "note": "x"}
        answers += [
            await visitor.post(f"/jobs/theirs/{deed}", data=form) for deed in ("pause", "resume")
        ]

    assert [answer.status_code for answer in answers] == [404] * 5
    paused = "SELECT count(*) FROM schedules WHERE paused_at IS NOT NULL"
    assert await scene.pool.fetchval(paused) == 0


@pytest.mark.parametrize(
    "path",
    [
        "/jobs/a/ticks/0001-01-01",
        "/jobs/a/ticks/0001-01-01T00:00:00+23:59",
        "/jobs/a/ticks/9999-12-31T23:59:59.999999Z",
        "/jobs/a/ticks/9999-12-31T23:59:59-23:59",
        "/jobs/a?before=0001-01-01T00:00:00%2B23:59_00000000-0000-4000-8000-000000000001",
        "/jobs/%00",
        "/jobs/%00/ticks/2026-01-01",
    ],
)
async def test_an_address_that_means_nothing_is_no_fault_of_ours(
    site: Site, scene: Scene, path: str
) -> None:
    await scene.job("a", [GOOD])

    async with reader(site) as visitor:
        answer = await visitor.get(path)

    assert answer.status_code == 404


async def test_an_organisation_sees_its_own_collection(site: Site, scene: Scene) -> None:
    await site.token(Scope.READ, "acme")
    schedule_id = await scene.job("collection:acme", [GOOD, BAD])
    org_id = await scene.pool.fetchval("SELECT id FROM organizations WHERE name = 'acme'")
    await scene.pool.execute(
        "UPDATE schedules SET org_id = $1, job = 'collection' WHERE id = $2", org_id, schedule_id
    )
    await scene.pool.execute(
        "UPDATE runs SET org_id = $1, job = 'collection', schedule_id = $2", org_id, schedule_id
    )

    async with site.signed_in(Scope.READ, "acme") as visitor:
        page = (await visitor.get("/collections")).text
        ticks = await visitor.get("/jobs/collection:acme")

    assert page.count('href="/runs/') == 2
    assert "every 5 minutes" in page
    assert ticks.status_code == 200
    assert ticks.text.count('href="/runs/') == 2


@pytest.mark.parametrize(("count", "said"), [(20, False), (21, True)])
async def test_the_page_of_collections_says_if_there_are_more_than_it_shows(
    site: Site, scene: Scene, count: int, said: bool
) -> None:
    await site.token(Scope.READ, "acme")
    for number in range(count):
        await scene.job(f"collection:acme:{number}", [])
    await scene.pool.execute(
        "UPDATE schedules SET org_id = (SELECT id FROM organizations), job = 'collection'"
    )

    async with site.signed_in(Scope.READ, "acme") as visitor:
        page = (await visitor.get("/collections")).text

    assert ("The first 20 are shown" in page) is said


async def test_without_postgres_the_page_shows_what_redis_knows(
    dsn: str, redis_url: str, pool: Pool, scene: Scene
) -> None:
    await scene.job("a", [GOOD] * 3)
    await scene.publish()
    config = config_for(dsn, redis_url)
    async with sites.opened(config, pool) as well, reader(well) as visitor:
        cookies = dict(visitor.cookies)
    cut_off = config.model_copy(update={"database_url": SecretStr(NOWHERE)})

    async with sites.opened(cut_off, pool) as site, site.visitor() as visitor:
        visitor.cookies.update(cookies)
        page = await visitor.get("/")
        job = await visitor.get("/jobs/a")

    assert page.status_code == 200
    assert "Postgres does not answer" in page.text
    assert 'href="/jobs/a"' in page.text
    assert job.status_code == 503
    assert "127.0.0.1" not in page.text + job.text


async def test_without_redis_the_page_shows_what_postgres_knows(
    dsn: str, redis_url: str, pool: Pool, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("a", [GOOD] * 3)
    config = config_for(dsn, redis_url)
    alone = config.model_copy(update={"redis_url": SecretStr("redis://127.0.0.1:1/0")})

    async with sites.opened(alone, pool) as site:
        page = await home(site)

    assert "Redis does not answer" in page
    assert "The last 3 ticks: 3 ran" in page


async def test_each_reason_for_which_a_tick_did_not_run_is_on_the_pages_in_words(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("a", [GOOD, *TickReason])

    async with reader(site) as visitor:
        pages = [await visitor.get(path) for path in ("/", "/jobs/a")]

    assert [page.status_code for page in pages] == [200, 200]
    assert "missed: its schedule could not be read" in pages[1].text


async def test_a_redis_that_takes_no_writes_is_on_the_pages_instead_of_a_missing_worker(
    dsn: str, pool: Pool, scene: Scene
) -> None:
    await scene.job("a", [GOOD] * 3)
    with redis_process() as server:
        async with sites.opened(config_for(dsn, server.url), pool) as site, reader(site) as visitor:

            async def says_so() -> bool:
                return "Redis refuses writes: no run" in (await visitor.get("/")).text

            await server.refuse_writes()
            await until(says_so, 10, "the front page")
            home_page, workers = [(await visitor.get(path)).text for path in ("/", "/workers")]

    assert "Redis refuses writes" in workers
    assert "No worker lives" not in workers
    assert "Start a worker" not in home_page


async def test_the_front_page_groups_filters_and_sorts_its_jobs(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("well_a", [GOOD] * 9)
    await scene.job("well_b", [GOOD] * 6 + [BAD] + [GOOD] * 2)
    await scene.job("ill", [GOOD] + [BAD] * 4)
    await scene.job("resting", [GOOD], paused="a rest")
    await scene.publish()

    async with reader(site) as visitor:
        pages = {
            query: (await visitor.get(f"/?{query}")).text
            for query in ("", "name=WELL", "status=paused", "sort=failed", "sort=nonsense")
        }
        none = (await visitor.get("/?name=nosuch")).text

    def names(page: str) -> list[str]:
        return re.findall(r'scope="row"><a href="/jobs/(\w+)"', page)

    groups = re.findall(r'scope="rowgroup" colspan="8">(\w+)', pages[""])
    assert groups == ["Unhealthy", "Healthy", "Paused"]
    assert names(pages[""]) == ["ill", "well_a", "well_b", "resting"]
    assert names(pages["name=WELL"]) == ["well_a", "well_b"]
    assert names(pages["status=paused"]) == ["resting"]
    assert names(pages["sort=failed"]) == ["ill", "well_b", "well_a", "resting"]
    assert names(pages["sort=nonsense"]) == names(pages[""])
    assert "No matching jobs." in none
    assert "No matching jobs." not in pages[""]


async def test_a_retired_job_is_called_so_on_its_page_and_is_offered_no_actions(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    await scene.pool.execute(
        "UPDATE schedules SET retired_at = $1, next_tick_at = NULL, due_at = NULL, enabled = false",
        scene.now,
    )

    async with site.signed_in(Scope.OPERATE) as visitor:
        page = unescape((await visitor.get("/jobs/a")).text)

    text = " ".join(re.sub(r"<[^>]*>", " ", page).split())
    assert "a ■ retired since" in text
    assert f"since {scene.now:%Y-%m-%d %H:%M:%S} UTC" in text
    assert "disabled in the settings" not in text
    assert "Run now" not in text
    assert "require the scope" not in text


async def test_the_front_page_says_what_to_do_first(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("poll_news", [GOOD] + [BAD] * 4)
    await scene.publish(workers=0)
    dead = await home(site)
    await scene.publish()

    async def step() -> str:  # of the next snapshot
        page = await home(site)
        return page if "Start a worker" not in page else ""

    failing = await until(step, 10, "another first step")

    assert "Start a worker: arq app.workers.Settings" in dead
    assert 'href="/runs?status=unsuccessful&period=&job=poll_news"' in failing
    assert "poll_news: Read the error of its last run" in failing


async def test_the_first_step_leads_to_a_failure_that_is_older_than_a_day(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("poll_news", [GOOD] + [BAD] * 4)
    await scene.pool.execute("UPDATE runs SET created_at = created_at - interval '3 days'")
    await scene.publish()

    page = await home(site)
    step = re.search(r'<strong>First:</strong> <a href="([^"]+)"', page)
    assert step is not None
    async with reader(site) as visitor:
        runs = (await visitor.get(step[1])).text

    assert runs.count('href="/runs/') == 4


async def test_a_run_has_the_same_job_on_the_front_page_and_in_the_list_of_runs(
    site: Site, scene: Scene
) -> None:
    await scene.job("export", [GOOD])
    await scene.pool.execute(
        """UPDATE runs SET trigger = 'manual', schedule_id = NULL, params = '{"source": "wares"}'"""
    )

    async with reader(site) as visitor:
        front, listed = [(await visitor.get(path)).text for path in ("/", "/runs")]

    job = re.compile(r'class="job"><a href="([^"]+)"')
    assert job.findall(front) == job.findall(listed) == ["/jobs/export"]


async def test_times_are_in_the_readers_zone_with_utc_beside(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    await scene.publish()
    ended = scene.now + timedelta(seconds=4)

    async with reader(site) as visitor:
        run = (await visitor.get("/runs")).text
        await visitor.post("/zone", data={"zone": "Africa/Lagos", "back": "/runs"})
        local = (await visitor.get("/runs")).text
        front = (await visitor.get("/")).text
        odd = await visitor.post("/zone", data={"zone": "Nowhere/<b>", "back": "/runs"})
        kept = (await visitor.get("/runs")).text
        back = await visitor.post("/zone", data={"zone": "", "back": "//evil.example"})
        again = (await visitor.get("/runs")).text

    at = scene.now.astimezone(ZoneInfo("Africa/Lagos"))
    assert "Times are in UTC" in run
    assert f">{at:%Y-%m-%d %H:%M:%S}</time>" in local
    assert f"{scene.now:%Y-%m-%d %H:%M:%S} UTC</span>" in local
    assert "Times are in Africa/Lagos, with UTC beside" in local
    assert ", UTC</th>" not in local + front
    assert f"{ended:%H:%M:%S} UTC</span>" in front
    assert odd.status_code == 422
    assert "There is no time zone &#39;Nowhere/&lt;b&gt;&#39;" in odd.text
    assert "Times are in Africa/Lagos" in kept
    assert back.headers["location"] == "/"
    assert "Times are in UTC" in again


async def test_the_zone_form_leads_back_to_its_page_with_what_that_shows(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    async with reader(site) as visitor:
        page = (await visitor.get("/runs?job=a&period=7d")).text
        found = re.search(r'name="back" value="([^"]+)"', page)
        assert found is not None
        form = {"zone": "Africa/Lagos", "back": unescape(found[1])}
        answer = await visitor.post("/zone", data=form)

    assert answer.headers["location"] == "/runs?job=a&period=7d"


async def test_the_zone_form_of_another_site_is_refused(site: Site) -> None:
    async with reader(site) as visitor:
        answer = await visitor.post(
            "/zone", data={"zone": "Africa/Lagos"}, headers={"origin": "https://evil.example"}
        )

    assert answer.status_code == 403


async def test_without_redis_the_last_run_comes_from_postgres_and_the_rest_is_unknown(
    dsn: str, redis_url: str, pool: Pool, scene: Scene
) -> None:
    await alive(scene)
    await scene.job("ran", [GOOD] * 3)
    await scene.job("skipped", [TickReason.OVERLAP])
    alone = config_for(dsn, redis_url).model_copy(
        update={"redis_url": SecretStr("redis://127.0.0.1:1/0")}
    )

    async with sites.opened(alone, pool) as site:
        page = await home(site)

    ran, skipped = page.split('scope="row"><a href="/jobs/')[1:]
    assert f"{scene.now + timedelta(seconds=4):%H:%M:%S}" in ran
    assert "never" not in page
    assert '<span class="label">last</span>unknown' in skipped
    assert "Start Redis, or check REDIS_URL" in page
