"""What a page says after an action: how much was done, and that nothing was, if so."""

from datetime import timedelta

import pytest
from arq.connections import ArqRedis

from app.core.enums import RunStatus, Scope
from app.ledger import backfill, edit
from app.web.dashboard import notices
from tests.dashboard.fixtures import BAD, GOOD, STEP, Scene
from tests.dashboard.server import Site, csrf_of

pytestmark = pytest.mark.timeout(60)


def said(page: str) -> str:
    """The notice of the page, without its tags."""
    return page.split('class="notice" role="status">')[1].split("</p>", maxsplit=1)[0]


async def test_jobs_that_are_gone_are_named_and_not_counted(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf_of(operator), "action": "run", "once": "x"}
        none = await operator.post("/jobs/several", data=form | {"job": ["gone"]})
        some = await operator.post("/jobs/several", data=form | {"job": ["a", "gone"]})

    assert (none.status_code, some.status_code) == (409, 409)
    assert "0 of 1 are done. gone: There is no such job." in none.text
    assert "1 of 2 are done. gone: There is no such job." in some.text


async def test_several_jobs_say_how_many_were_done(site: Site, scene: Scene) -> None:
    for key in ("a", "b"):
        await scene.job(key, [GOOD])
    await scene.job("asleep", [GOOD], paused="wait")
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf_of(operator), "note": "rest", "job": ["a", "b", "asleep"]}
        answers = [
            await operator.post("/jobs/several", data=form | {"action": action})
            for action in ("pause", "pause", "resume", "run")
        ]
        pages = [said((await operator.get(one.headers["location"])).text) for one in answers]

    assert [page.partition(" See")[0] for page in pages] == [
        "2 jobs paused. Left as before: 1, paused already.",
        "Nothing was done. Left as before: 3, paused already.",
        "3 jobs resumed.",
        "3 jobs requested.",
    ]


async def test_a_pause_of_a_paused_job_is_not_lost_silently(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf_of(operator)}
        places, pages = list[str](), list[str]()
        for act, note in (
            ("pause", "first"),
            ("pause", "first"),
            ("pause", "second"),
            ("resume", ""),
            ("resume", ""),
        ):
            answer = await operator.post(f"/jobs/a/{act}", data=form | {"note": note})
            places.append(answer.headers["location"])
            pages.append(said((await operator.get(places[-1])).text))
        later = [(await operator.get(place)).text for place in places[:3]]

    assert not any('class="notice"' in page for page in later)  # it is resumed
    assert pages[0] == pages[1]  # a double click
    assert pages[0].startswith("Paused.")
    assert pages[2].startswith("Nothing was changed: it was paused already")
    assert pages[3:] == ["Resumed.", "Nothing was changed: it was not paused."]


async def test_the_edits_of_a_collection_say_until_when_it_was_paused(
    site: Site,
) -> None:
    async with site.signed_in(Scope.ADMIN, "acme") as visitor:
        form = {"csrf": csrf_of(visitor), "note": "a rest", "until": "2999-01-01T00:00"}
        wanted = {"do": "save", "cron_expression": "@daily", "timezone": "UTC", "revision": "0"}
        await visitor.post("/edit/schedules/default", data=form | wanted)
        key = await site.pool.fetchval("SELECT key FROM schedules")
        paused = await visitor.post(f"/jobs/{key}/pause", data=form)
        page = (await visitor.get("/collections")).text.split("Edits</h3>")[1]

    assert paused.status_code == 303
    assert "2999-01-01T00:00:00+00:00" in page


async def test_a_retired_job_is_not_paused_from_an_old_page(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    async with scene.pool.acquire() as connection, connection.transaction():
        await edit.retire_in(connection, "a", scene.now + timedelta(seconds=1))
    bearer = {"authorization": f"Bearer {await site.token(Scope.OPERATE)}"}
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf_of(operator), "note": "wait"}
        answer = await operator.post("/jobs/a/pause", data=form)
        api = await operator.post("/operator/jobs/a/pause", json={"note": "x"}, headers=bearer)

    assert (answer.status_code, api.status_code) == (409, 409)
    assert "A is retired" in answer.text
    assert await scene.pool.fetchval("SELECT paused_at FROM schedules") is None


@pytest.mark.parametrize("org", [None, "acme"])
async def test_a_refusal_is_a_page_with_the_navigation_of_the_user(
    site: Site, scene: Scene, org: str | None
) -> None:
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE, org) as visitor:
        form = {"csrf": csrf_of(visitor), "note": ""}
        answer = await visitor.post("/jobs/a/pause", data=form)
        gone = await visitor.get("/jobs/nobody")

    assert (answer.status_code, gone.status_code) == (422, 404)
    assert "Enter a reason" in answer.text
    for page in (answer.text, gone.text):
        assert '<nav aria-label="Pages">' in page
        assert ('href="/workers"' in page) is (org is None)


async def test_runs_say_how_many_were_done(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD, BAD, BAD, RunStatus.RUNNING])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf_of(operator), "confirmed": "yes", "once": "x", "back": "/runs?job=a"}
        answers = [
            await operator.post("/runs/several", data=form | {"action": action, "status": status})
            for action, status in (
                ("cancel_all", ""),
                ("cancel_all", ""),
                ("retry_all", "failure"),
            )
        ]
        pages = [said((await operator.get(one.headers["location"])).text) for one in answers]

    assert all(one.headers["location"].startswith("/runs?job=a&done=") for one in answers)
    assert pages == [
        "1 run cancelled. Left as before: 3, ended already.",
        "Nothing was done. Left as before: 4, ended already.",
        "2 runs requested.",
    ]


async def test_a_backfill_that_others_have_made_meanwhile_is_not_said_to_begin(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    await scene.job("a", [BAD] * 3)
    form = {"since": (scene.now - 2 * STEP).isoformat(), "until": scene.now.isoformat()}
    async with site.signed_in(Scope.OPERATE) as operator:
        form["csrf"] = csrf_of(operator)
        first = await operator.post("/jobs/a/backfill", data=form)
        for _ in range(4):
            await backfill.feed(scene.pool, redis, scene.now)
            await scene.pool.execute(
                "UPDATE runs SET status = 'success' WHERE trigger = 'backfill'"
            )
        second = await operator.post("/jobs/a/backfill", data=form)
        pages = [
            said((await operator.get(one.headers["location"])).text) for one in (first, second)
        ]

    assert pages == [
        "Requested. The workers go on with it.",
        "Nothing was requested: each of these ticks has a run.",
    ]


@pytest.mark.parametrize(
    "query", [{}, {"done": "x"}, {"done": "run"}, {"done": "run", "count": "²", "of": "1" * 9}]
)
def test_an_address_that_says_nothing_known_has_no_notice(query: dict[str, str]) -> None:
    assert notices.notice(query) == ""
