"""What people do from the page is done, once, and written down with who did it."""

from arq.connections import ArqRedis

from app.core.enums import Scope
from tests.dashboard.fixtures import GOOD, Scene, alive
from tests.dashboard.server import Site, csrf, csrf_of


async def test_run_now_queues_one_run_and_tells_redis(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text)}
        answer = await operator.post("/jobs/a/run", data=form)
        again = await operator.post("/jobs/a/run", data=form)
        page = (await operator.get(answer.headers["location"])).text

    rows = await site.pool.fetch("SELECT * FROM runs WHERE trigger = 'manual'")
    events = await site.pool.fetch("SELECT event, detail FROM run_events")
    assert (answer.status_code, again.headers["location"]) == (303, answer.headers["location"])
    assert [row["requested_by"] for row in rows] == ["operator/ann"]
    assert [tuple(event) for event in events] == [("requested", "by operator/ann")]
    assert await redis.zscore("arq:queue", f"run:{rows[0]['execution_id']}:1") is not None
    assert "operator/ann" in page


async def test_run_now_of_a_recipe_says_which_and_is_not_put_off_by_another_ones(
    site: Site, scene: Scene
) -> None:
    await alive(scene)
    for key in ("source:wares", "source:daily"):
        await scene.job(key, [GOOD])
    await scene.pool.execute("UPDATE schedules SET job = 'source'")
    await scene.pool.execute("UPDATE runs SET job = 'source'")
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/source:wares")).text)}
        answers = [
            await operator.post(f"/jobs/source:{name}/run", data=form)
            for name in ("wares", "daily", "wares")
        ]
        listed = (await operator.get("/jobs/source:wares")).text
        run = (await operator.get(answers[1].headers["location"])).text

    first, other, again = (answer.headers["location"] for answer in answers)
    asked = await site.pool.fetch("SELECT params FROM runs WHERE trigger = 'manual' ORDER BY 1")
    assert [row["params"] for row in asked] == [{"source": "daily"}, {"source": "wares"}]
    assert (first == again, first == other) == (True, False)
    assert (first in listed, other in listed) == (True, False)
    assert listed.count('href="/runs/') == 2
    assert 'href="/jobs/source%3Adaily"' in run


async def test_pause_wants_a_reason_and_says_who(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text)}
        without = await operator.post("/jobs/a/pause", data=form)
        blank = await operator.post("/jobs/a/pause", data=form | {"note": "  "})
        answer = await operator.post("/jobs/a/pause", data=form | {"note": "they asked"})
        page = (await operator.get(answer.headers["location"])).text

    row = await site.pool.fetchrow("SELECT paused_at, paused_by, paused_note FROM schedules")
    assert without.status_code == blank.status_code == 422
    assert row is not None
    assert (row["paused_by"], row["paused_note"]) == ("operator/ann", "they asked")
    assert "Resume" in page
    assert "operator/ann: pause" in page


async def test_resume_lets_it_go_on_and_says_who(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD], paused="wait")
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text)}
        answer = await operator.post("/jobs/a/resume", data=form)

    edit = await site.pool.fetchrow("SELECT by, action FROM schedule_edits")
    assert answer.status_code == 303
    assert await site.pool.fetchval("SELECT paused_at FROM schedules") is None
    assert edit is not None
    assert tuple(edit) == ("operator/ann", "resume")


async def test_nobody_acts_on_another_organisations_schedule(site: Site, scene: Scene) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    await site.token(Scope.READ, org="other")
    await scene.pool.execute(
        "UPDATE schedules SET job = 'collection',"
        " org_id = (SELECT id FROM organizations WHERE name = 'other')"
    )
    await scene.job("b", [GOOD])
    async with site.signed_in(Scope.ADMIN, "acme") as admin:
        form = {"csrf": csrf_of(admin), "note": "x"}
        answers = [
            await admin.post(f"/jobs/{job}/{action}", data=form)
            for action in ("run", "pause", "resume")
            for job in ("a", "b")  # another organisation's, and a built-in one
        ]

    assert [answer.status_code for answer in answers] == [404] * 6


async def test_a_huge_form_is_refused(site: Site) -> None:
    async with site.signed_in(Scope.OPERATE) as operator:
        answer = await operator.post("/jobs/a/run", data={"csrf": "x" * 50_000})

    assert answer.status_code == 413
