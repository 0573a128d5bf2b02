"""What people do from the page is done, once, and written down with who did it."""

import re
from datetime import timedelta
from html import unescape

from arq.connections import ArqRedis

from app.core.enums import RunStatus, Scope
from tests.dashboard.fixtures import BAD, GOOD, Scene, alive
from tests.dashboard.server import Site, csrf, csrf_of, form_of


async def test_run_now_queues_one_run_and_tells_redis(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    await alive(scene)
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        form = form_of((await operator.get("/jobs/a")).text)
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
        form = form_of((await operator.get("/jobs/source:wares")).text)
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


async def test_all_of_two_hundred_jobs_are_paused_with_one_form(site: Site, scene: Scene) -> None:
    await scene.job("job_of_a_long_name_000", [GOOD])
    await scene.pool.execute(
        "INSERT INTO schedules (key, job, spec, policies, params, version, effective_from,"
        " evaluated_through, next_tick_at, due_at, created_at, enabled)"
        " SELECT 'job_of_a_long_name_' || lpad(n::text, 3, '0'), job, spec, policies, params,"
        " version, effective_from, evaluated_through, next_tick_at, due_at, created_at, enabled"
        " FROM schedules, generate_series(1, 199) n"
    )
    await scene.pool.execute(
        "INSERT INTO schedule_versions (schedule_id, version, spec, policies, effective_from)"
        " SELECT id, 1, spec, policies, effective_from FROM schedules ON CONFLICT DO NOTHING"
    )
    async with site.signed_in(Scope.OPERATE) as operator:
        page = (await operator.get("/jobs")).text
        jobs = re.findall(r'name="job" value="([^"]+)"', page)
        form = form_of(page) | {"action": "pause", "note": "a rest", "job": jobs}
        answer = await operator.post("/jobs/several", data=form)

    paused = await scene.pool.fetchval("SELECT count(*) FROM schedules WHERE paused_at IS NOT NULL")
    assert (len(jobs), answer.status_code, paused) == (200, 303, 200)


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


async def test_a_run_is_cancelled_once_with_its_reason(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD, RunStatus.RUNNING])
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs WHERE status = 'running'")
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get(f"/runs/{run_id}")).text), "note": "wrong site"}
        answer = await operator.post(f"/runs/{run_id}/cancel", data=form)
        again = await operator.post(f"/runs/{run_id}/cancel", data=form)
        log = unescape((await operator.get("/audit")).text)

    status = await scene.pool.fetchval("SELECT status FROM runs WHERE execution_id = $1", run_id)
    assert (answer.status_code, again.status_code, status) == (303, 409, "cancelled")
    assert log.count(f'href="/runs/{run_id}"') == 1
    assert "wrong site" in log
    assert "operator/ann" in log


async def test_a_retry_keeps_the_parameters_and_a_double_click_is_one_run(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    await scene.job("source:wares", [BAD])
    await scene.pool.execute("UPDATE schedules SET job = 'source'")
    await scene.pool.execute("UPDATE runs SET job = 'source'")
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")
    async with site.signed_in(Scope.OPERATE) as operator:
        page = (await operator.get(f"/runs/{run_id}")).text
        once = page.split('name="once" value="')[1].split('"')[0]
        form = {"csrf": csrf(page), "once": once, "note": "site is back"}
        answers = [await operator.post(f"/runs/{run_id}/retry", data=form) for _ in range(2)]

    rows = await scene.pool.fetch("SELECT * FROM runs WHERE trigger = 'manual'")
    acts = await scene.pool.fetch("SELECT action, job, reason, detail FROM audit_log")
    assert [answer.status_code for answer in answers] == [303, 303]
    assert answers[0].headers["location"] == answers[1].headers["location"]
    assert [row["params"] for row in rows] == [{"source": "wares"}]
    assert rows[0]["requested_by"] == f"operator/ann (retry of {run_id})"
    assert await redis.zscore("arq:queue", f"run:{rows[0]['execution_id']}:1") is not None
    assert [(act["action"], act["job"], act["reason"]) for act in acts] == [
        ("retry", "source:wares", "site is back")
    ]
    assert acts[0]["detail"]["retry_of"] == str(run_id)


def of_all(listed: str, action: str, **filters: str) -> dict[str, str]:
    """The form that acts on all runs of a list, as the page of the list has it."""
    as_of = listed.partition('name="as_of" value="')[2].partition('"')[0]
    return {"csrf": csrf(listed), "action": action, "as_of": as_of, **filters}


async def test_all_failed_runs_of_a_filter_are_counted_and_then_retried(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD, BAD, BAD, RunStatus.RUNNING])
    await scene.job("b", [BAD, RunStatus.LOST])
    async with site.signed_in(Scope.OPERATE) as operator:
        listed = (await operator.get("/runs?status=unsuccessful&period=1h")).text
        form = of_all(listed, "retry_all", status="unsuccessful", period="1h")
        asked = await operator.post("/runs/several", data=form)
        before = await scene.pool.fetchval("SELECT count(*) FROM runs WHERE trigger = 'manual'")
        confirmed = form | {"confirmed": "yes", "once": "x", "note": "all again"}
        done = [await operator.post("/runs/several", data=confirmed) for _ in range(2)]

    retried = await scene.pool.fetch(
        "SELECT job, count(*) FROM runs WHERE trigger = 'manual' GROUP BY job ORDER BY job"
    )
    acts = await scene.pool.fetchval("SELECT count(*) FROM audit_log WHERE reason = 'all again'")
    assert "Retry 4 runs?" in asked.text
    assert (asked.status_code, before) == (200, 0)
    assert [answer.status_code for answer in done] == [303, 303]
    assert [tuple(row) for row in retried] == [("a", 2), ("b", 2)]
    assert acts == 4


async def test_what_is_confirmed_is_done_to_the_runs_that_were_counted_and_to_no_others(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD])
    await scene.job("b", [RunStatus.RUNNING] * 450)
    async with site.signed_in(Scope.OPERATE) as operator:
        listed = (await operator.get("/runs?status=running&period=")).text
        form = of_all(listed, "cancel_all", status="running", period="")
        asked = (await operator.post("/runs/several", data=form)).text
        await scene.pool.execute("UPDATE runs SET status = 'running' WHERE job = 'a'")
        hidden = asked.partition('<form class="actions"')[2]
        fields: dict[str, list[str]] = {"note": ["again"]}
        for name, value in re.findall(r'name="(\w+)" value="([^"]*)"', hidden):
            fields.setdefault(name, []).append(unescape(value))
        done = await operator.post("/runs/several", data=fields)

    left = await scene.pool.fetch("SELECT job FROM runs WHERE status = 'running'")
    assert "Cancel 450 runs?" in asked
    assert done.status_code == 303
    assert [row["job"] for row in left] == ["a"]


async def test_runs_that_came_after_the_list_was_read_are_not_cancelled_with_it(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [RunStatus.RUNNING])
    async with site.signed_in(Scope.OPERATE) as operator:
        listed = (await operator.get("/runs?status=running")).text
        form = of_all(listed, "cancel_all", status="running", period="24h")
        asked = (await operator.post("/runs/several", data=form)).text
        await scene.job("b", [RunStatus.RUNNING])
        await scene.pool.execute("UPDATE runs SET created_at = now() WHERE job = 'b'")
        await operator.post("/runs/several", data=form | {"confirmed": "yes"})

    rows = await scene.pool.fetch("SELECT job, status FROM runs ORDER BY job")
    assert "Cancel 1 run?" in asked
    assert [tuple(row) for row in rows] == [("a", "cancelled"), ("b", "running")]


async def test_selected_runs_are_cancelled_and_ended_ones_are_left_out(
    site: Site, scene: Scene
) -> None:
    await scene.job("a", [GOOD, RunStatus.RUNNING])
    await scene.job("b", [RunStatus.RUNNING])
    ids = [str(row[0]) for row in await scene.pool.fetch("SELECT execution_id FROM runs")]
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/runs")).text), "action": "cancel", "run": ids}
        asked = (await operator.post("/runs/several", data=form)).text
        done = await operator.post("/runs/several", data=form | {"confirmed": "yes"})
        none = await operator.post("/runs/several", data=form | {"run": []})
        odd = await operator.post("/runs/several", data=form | {"action": "burn"})

    cancelled = "SELECT count(*) FROM runs WHERE status = 'cancelled'"
    assert "Cancel 2 runs?" in asked
    assert "1 is left out" in asked
    assert (done.status_code, none.status_code, odd.status_code) == (303, 422, 422)
    assert await scene.pool.fetchval(cancelled) == 2


async def test_nobody_cancels_or_retries_another_organisations_run(
    site: Site, scene: Scene
) -> None:
    await site.token(Scope.READ, org="other")
    await scene.job("theirs", [RunStatus.RUNNING])
    org_id = await scene.pool.fetchval("SELECT id FROM organizations WHERE name = 'other'")
    await scene.pool.execute("UPDATE runs SET org_id = $1", org_id)
    await scene.pool.execute("UPDATE schedules SET org_id = $1", org_id)
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")
    await scene.job("house", [GOOD])
    async with site.signed_in(Scope.ADMIN, "acme") as admin:
        form = {"csrf": csrf_of(admin), "confirmed": "yes"}
        answers = [
            await admin.post(f"/runs/{run_id}/{action}", data=form)
            for action in ("cancel", "retry")
        ]
        several = form | {"action": "cancel", "run": str(run_id)}
        await admin.post("/runs/several", data=several)
        await admin.post("/runs/several", data=form | {"action": "cancel_all"})
        audit = (await admin.get("/audit")).text

    assert [answer.status_code for answer in answers] == [404, 404]
    assert await scene.pool.fetchval("SELECT status FROM runs WHERE job = 'theirs'") == "running"
    assert "theirs" not in audit


async def test_a_reader_is_offered_no_actions_and_may_not_act(site: Site, scene: Scene) -> None:
    await scene.job("a", [RunStatus.RUNNING])
    run_id = await scene.pool.fetchval("SELECT execution_id FROM runs")
    async with site.signed_in(Scope.READ) as reader:
        pages = [(await reader.get(path)).text for path in ("/runs", f"/runs/{run_id}", "/audit")]
        answers = [
            await reader.post(path, data={"csrf": "x"})
            for path in ("/runs/several", f"/runs/{run_id}/cancel", f"/runs/{run_id}/retry")
        ]

    assert all('method="post" action="/runs' not in page for page in pages)
    assert [answer.status_code for answer in answers] == [403, 403, 403]


async def test_a_job_that_cannot_be_run_does_not_keep_the_others_from_it(
    site: Site, scene: Scene
) -> None:
    for key in ("a", "b", "c"):
        await scene.job(key, [GOOD])
    await scene.pool.execute(
        """UPDATE schedules SET policies = '{"overlap": "?"}' WHERE key = 'b'"""
    )
    async with site.signed_in(Scope.OPERATE) as operator:
        form = form_of((await operator.get("/jobs")).text) | {"action": "run"}
        answer = await operator.post("/jobs/several", data=form | {"job": ["a", "b", "c"]})

    runs = await scene.pool.fetch("SELECT job FROM runs WHERE trigger = 'manual' ORDER BY job")
    assert [row[0] for row in runs] == ["a", "c"]
    assert answer.status_code == 409
    assert "2 of 3 are done. b: The schedule cannot be read" in unescape(answer.text)


async def test_a_run_that_cannot_be_retried_does_not_keep_the_others_from_it(
    site: Site, scene: Scene
) -> None:
    for key in ("a", "b", "c"):
        await scene.job(key, [BAD, BAD])
    await scene.pool.execute(
        """UPDATE schedules SET policies = '{"overlap": "?"}' WHERE key = 'b'"""
    )
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf_of(operator), "action": "retry_all", "confirmed": "yes", "once": "x"}
        answer = await operator.post("/runs/several", data=form)

    retried = await scene.pool.fetch("SELECT job FROM runs WHERE trigger = 'manual' ORDER BY job")
    assert [row[0] for row in retried] == ["a", "a", "c", "c"]
    assert answer.status_code == 409
    assert "4 of 6 are done. b: The schedule cannot be read" in unescape(answer.text)


async def test_a_run_takes_typed_parameters_and_names_a_wrong_one(site: Site, scene: Scene) -> None:
    await scene.job("scrape_all_platforms", [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        page = (await operator.get("/jobs/scrape_all_platforms")).text
        form = {"csrf": csrf(page)}
        wrong = await operator.post(
            "/jobs/scrape_all_platforms/run", data=form | {"param.platforms": "bet9ja, nosuch"}
        )
        right = await operator.post(
            "/jobs/scrape_all_platforms/run",
            data=form | {"param.platforms": "bet9ja, betpawa", "note": "check"},
        )

    params = await scene.pool.fetchval("SELECT params FROM runs WHERE trigger = 'manual'")
    assert 'name="param.platforms"' in page
    assert wrong.status_code == 422
    assert "platforms" in wrong.text
    assert right.status_code == 303
    assert params == {"platforms": ["bet9ja", "betpawa"]}


async def test_the_audit_page_pages_through_acts_of_one_instant(site: Site, scene: Scene) -> None:
    await scene.pool.execute(
        "INSERT INTO audit_log (at, by, action, job) SELECT now(), 'ada', 'cancel', 'j' || n"
        " FROM generate_series(1, 120) n"
    )
    seen: list[str] = []
    path = "/audit"
    async with site.signed_in(Scope.READ) as reader:
        while path:
            page = unescape((await reader.get(path)).text)
            seen += re.findall(r'href="/jobs/(j\d+)"', page)
            path = page.split('rel="next" href="')[1].split('"')[0] if 'rel="next"' in page else ""
        mine = (await reader.get("/audit?by=ada&job=j7")).text
        others = (await reader.get("/audit?by=bob")).text

    assert len(seen) == len(set(seen)) == 120
    assert (mine.count('href="/jobs/j'), others.count('href="/jobs/j')) == (1, 0)


async def test_a_pause_has_an_end_and_a_past_one_is_refused(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    until = scene.now + timedelta(hours=2)
    async with site.signed_in(Scope.OPERATE) as operator:
        form = {"csrf": csrf((await operator.get("/jobs/a")).text), "note": "they asked"}
        past = await operator.post("/jobs/a/pause", data=form | {"until": "2020-01-01T00:00"})
        odd = await operator.post("/jobs/a/pause", data=form | {"until": "soon"})
        done = await operator.post(
            "/jobs/a/pause", data=form | {"until": f"{until:%Y-%m-%dT%H:%M}"}
        )
        page = (await operator.get("/jobs/a")).text
        health = (await operator.get("/health/scheduler")).json()

    assert (past.status_code, odd.status_code, done.status_code) == (422, 422, 303)
    assert await scene.pool.fetchval("SELECT paused_until FROM schedules") == until
    assert f"{until:%Y-%m-%d %H:%M:%S}" in page.split("Resumes by itself")[1].split("</p>")[0]
    assert health["jobs"]["a"]["status"] == "paused"  # although no worker lives


async def test_several_jobs_are_paused_run_and_resumed_from_a_filtered_list(
    site: Site, scene: Scene
) -> None:
    for key in ("odds_a", "odds_b", "news"):
        await scene.job(key, [GOOD])
    async with site.signed_in(Scope.OPERATE) as operator:
        listed = (await operator.get("/jobs?name=ODDS&state=enabled")).text
        form = {"csrf": csrf(listed), "job": ["odds_a", "odds_b", "nosuch"]}
        without = await operator.post("/jobs/several", data=form | {"action": "pause"})
        none = await operator.post("/jobs/several", data={"csrf": form["csrf"], "action": "run"})
        await operator.post("/jobs/several", data=form | {"action": "pause", "note": "rest"})
        paused = (await operator.get("/jobs?state=paused")).text
        await operator.post("/jobs/several", data=form | {"action": "resume"})
        await operator.post("/jobs/several", data=form | {"action": "run"})
        log = unescape((await operator.get("/audit")).text)

    runs = await scene.pool.fetch("SELECT job FROM runs WHERE trigger = 'manual' ORDER BY job")
    assert (listed.count('name="job"'), paused.count('name="job"')) == (2, 2)
    assert (without.status_code, none.status_code) == (422, 422)
    assert [row["job"] for row in runs] == ["odds_a", "odds_b"]
    assert await scene.pool.fetchval("SELECT count(*) FROM schedules WHERE paused_at IS NULL") == 3
    assert [log.count(f'<td role="cell">{word}</td>') for word in ("pause", "resume", "run")] == [
        2,
        2,
        2,
    ]


async def test_a_job_that_is_disabled_or_runs_is_run_by_hand_as_by_the_api(
    site: Site, scene: Scene, redis: ArqRedis
) -> None:
    del redis  # emptied first
    await scene.job("poll_news", [GOOD])
    await scene.pool.execute("UPDATE schedules SET enabled = false")
    await scene.pool.execute("UPDATE runs SET status = 'running', completed_at = NULL")
    bearer = {"authorization": f"Bearer {await site.token(Scope.OPERATE)}"}
    async with site.signed_in(Scope.OPERATE) as operator:
        form = form_of((await operator.get("/jobs/poll_news")).text)
        page = await operator.post("/jobs/poll_news/run", data=form)
        listed = form_of((await operator.get("/jobs")).text)
        for _ in range(2):
            several = {**listed, "action": "run", "job": "poll_news"}
            await operator.post("/jobs/several", data=several)
        api = await operator.post("/operator/jobs/poll_news/run", headers=bearer)

    asked = "SELECT count(*) FROM runs WHERE trigger = 'manual'"
    noted = "SELECT count(*) FROM audit_log WHERE action = 'run'"
    assert (page.status_code, api.status_code) == (303, 202)
    assert await site.pool.fetchval(asked) == 3
    assert await site.pool.fetchval(noted) == 3


async def test_a_run_by_hand_has_the_parameters_of_its_schedule(site: Site, scene: Scene) -> None:
    await scene.job("a", [GOOD])
    await scene.pool.execute("UPDATE schedules SET params = '{\"depth\": 2}'")
    async with site.signed_in(Scope.OPERATE) as operator:
        form = form_of((await operator.get("/jobs/a")).text)
        await operator.post("/jobs/a/run", data=form)

    asked = "SELECT params FROM runs WHERE trigger = 'manual'"
    noted = "SELECT detail FROM audit_log"
    assert await site.pool.fetchval(asked) == {"depth": 2}
    assert await site.pool.fetchval(noted) == {"params": {"depth": 2}}
