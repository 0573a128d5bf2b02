"""Backfills from the page: counted first, requested then, executed by workers, stopped."""

from datetime import timedelta

import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.ledger import backfill
from app.web.dashboard import backfills_page
from tests.dashboard.fixtures import BAD, GOOD, STEP, Scene
from tests.dashboard.server import Site, csrf

pytestmark = pytest.mark.timeout(60)


async def test_it_counts_first_and_goes_on_without_the_browser(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    await scene.job("a", [GOOD] * 8 + [BAD] * 4)
    field = "%Y-%m-%dT%H:%M:%S"
    query = {
        "since": f"{scene.now - 11 * STEP:{field}}",
        "until": f"{scene.now:{field}}",
        "missing": "yes",
        "concurrency": "3",
    }
    async with site.signed_in(Scope.OPERATE) as operator:
        counted = (await operator.get("/jobs/a/backfill", params=query)).text
        before = await scene.pool.fetchval("SELECT count(*) FROM backfills")
        form = query | {"csrf": csrf(counted.split("<main")[1]), "note": "the site was down"}
        done = await operator.post("/jobs/a/backfill", data=form)
    await backfill.feed(scene.pool, redis, scene.now)  # as a worker does
    fed = await scene.pool.fetch("SELECT trigger, requested_by FROM runs WHERE trigger='backfill'")
    await scene.pool.execute("UPDATE runs SET status = 'success' WHERE trigger = 'backfill'")
    for _ in range(2):
        await backfill.feed(scene.pool, redis, scene.now + timedelta(seconds=1))
        await scene.pool.execute("UPDATE runs SET status = 'success' WHERE trigger = 'backfill'")
    async with site.signed_in(Scope.READ) as reader:
        listed = (await reader.get("/backfills")).text

    assert "4 runs to do" in counted
    assert (before, done.status_code) == (0, 303)
    assert [tuple(row) for row in fed] == [("backfill", "operator/ann")] * 3
    assert await scene.pool.fetchval("SELECT completed_at IS NOT NULL FROM backfills")
    assert "4 of 4" in listed
    assert "the site was down" in listed
    assert 'method="post" action="/backfills' not in listed


async def test_it_is_stopped_once(site: Site, scene: Scene) -> None:
    await scene.job("a", [BAD] * 3)
    request = backfill.BackfillRequest("a", scene.now - 2 * STEP, scene.now, "ada")
    plan = await backfill.make_plan(scene.pool, request, scene.now + timedelta(seconds=1))
    await backfill.start(scene.pool, plan, scene.now)
    backfill_id = plan.backfill.id
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/backfills")).text.split("<main")[1])}
        answers = [
            await operator.post(f"/backfills/{backfill_id}/stop", data=form) for _ in range(2)
        ]
        page = (await operator.get("/backfills")).text

    assert [answer.status_code for answer in answers] == [303, 409]
    assert "stopped by operator/ann" in page


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("since=2026-01-01&until=2999-01-01", "is in the future"),
        ("since=x&until=y", "Enter the first and the last instant"),
        ("since=2026-01-01&until=2026-01-02&concurrency=0", "1 to 100"),
    ],
)
async def test_what_cannot_be_done_is_said(site: Site, scene: Scene, query: str, said: str) -> None:
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.READ) as reader:
        page = await reader.get(f"/jobs/a/backfill?{query}")

    assert page.status_code == 200
    assert said in page.text


@pytest.mark.parametrize("runs", ["0", "101", "00101", "9" * 9, "x"])
async def test_the_number_of_runs_at_the_same_time_is_bounded(
    site: Site, scene: Scene, runs: str
) -> None:
    await scene.job("a", [GOOD] * 3)
    span = {"since": (scene.now - 2 * STEP).isoformat(), "until": scene.now.isoformat()}

    async with site.signed_in(Scope.OPERATE) as operator:
        page = (await operator.get("/jobs/a/backfill", params=span | {"concurrency": runs})).text

    assert "1 to 100" in page


async def test_backfills_of_collections_take_no_place_in_the_list(site: Site, scene: Scene) -> None:
    await scene.job("a", [BAD] * 3)
    await scene.job("collection:x", [BAD] * 3)
    await site.token(Scope.READ, "Acme")
    await scene.pool.execute(
        "UPDATE schedules SET org_id = (SELECT id FROM organizations WHERE name = 'Acme')"
        " WHERE key = 'collection:x'"
    )
    add = (
        "INSERT INTO backfills (id, schedule_id, name, since, until, total, params, requested_by,"
        " created_at, ticks, concurrency) SELECT gen_random_uuid(), s.id, 'n' || n, now(), now(),"
        " 1, '{}', 'ada', now() - n * interval '1 minute', '{}', 1"
        " FROM schedules s, generate_series(0, $2) n WHERE s.key = $1"
    )
    await scene.pool.execute(add, "collection:x", backfills_page.SHOWN)
    await scene.pool.execute(add, "a", backfills_page.SHOWN)
    async with site.signed_in(Scope.READ) as reader:
        page = (await reader.get("/backfills")).text

    assert page.count('aria-label="Ended runs of a"') == backfills_page.SHOWN
    assert f"The newest {backfills_page.SHOWN} are shown" in page
