"""What people do to their collection from its page is what they would do over its API."""

import re
from datetime import timedelta
from html import unescape
from typing import Any
from uuid import UUID

import pytest
from arq.connections import ArqRedis

from app.core.collection_keys import DEFAULT_COLLECTION, schedule_key
from app.core.enums import Scope
from app.orgs import collection, tokens
from app.orgs.collection import CollectionRequest
from app.queue import org_queue
from app.store.schedules import heartbeats
from tests.collections.harness import ODDS
from tests.configs import config_for
from tests.dashboard.fixtures import GOOD, Scene, alive
from tests.dashboard.server import Site, csrf, csrf_of

# A run of the same collection that failed so long before.
EARLIER = """
INSERT INTO runs (execution_id, job, org_id, schedule_id, trigger, params, status, attempt, losses,
                  max_attempts, timeout_seconds, lease_epoch, queued_at, completed_at, created_at,
                  stats)
SELECT gen_random_uuid(), job, org_id, schedule_id, trigger, params, 'failure', 1, 0, max_attempts,
       timeout_seconds, 1, created_at - before, now() - before, created_at - before, '{}'
FROM runs CROSS JOIN unnest($1::interval[]) AS before
"""
FAILED = "UPDATE runs SET status = 'failure', completed_at = now()"


async def chosen(site: Site, name: str = DEFAULT_COLLECTION, **changes: Any) -> str:
    """The organisation acme has chosen the odds, once a year; the schedule's name."""
    now = await heartbeats.database_now(site.pool)
    token = await site.token(Scope.ADMIN, "acme", label="bob")
    who = await tokens.authenticate(site.pool, token, now)
    assert who.org_id is not None
    wish = {"preset_id": ODDS, "cron_expression": "0 3 29 2 *", "enabled": True} | changes
    await collection.edit(
        site.pool,
        config_for("postgresql://nowhere/x", "redis://nowhere/0"),
        CollectionRequest(who.org_id, who.name, now, collection=name),
        wish,
    )
    return schedule_key(who.org_id, name)


async def edits(site: Site) -> list[tuple[Any, ...]]:
    rows = await site.pool.fetch("SELECT action, by, after FROM schedule_edits ORDER BY id")
    return [tuple(row) for row in rows][1:]


async def revision(site: Site) -> int:
    found: int = await site.pool.fetchval("SELECT revision FROM schedules WHERE org_id IS NOT NULL")
    return found


async def test_run_now_queues_one_run_in_the_organisations_line(
    site: Site, redis: ArqRedis
) -> None:
    key = await chosen(site)
    async with site.signed_in(Scope.OPERATE, "acme") as operator:
        page = (await operator.get("/collections")).text
        answer = await operator.post(f"/jobs/{key}/run", data={"csrf": csrf(page)})
        again = await operator.post(f"/jobs/{key}/run", data={"csrf": csrf(page)})

    rows = await site.pool.fetch("SELECT * FROM runs")
    assert f'action="/jobs/{key.replace(":", "%3A")}/run"' in page
    assert answer.status_code == 303
    assert again.headers["location"] == f"{answer.headers['location']}?done=open_run"
    assert [(r["requested_by"], r["trigger"]) for r in rows] == [("acme/ann", "manual")]
    assert [r["org_id"] for r in rows] == [UUID(key.partition(":")[2])]
    assert await redis.zscore(org_queue.ORG_QUEUE, f"run:{rows[0]['execution_id']}:1") is not None
    assert await redis.zcard("arq:queue") == 0


async def test_retry_all_repeats_the_newest_failed_run_of_each_collection(site: Site) -> None:
    keys = [await chosen(site), await chosen(site, "nightly")]
    async with site.signed_in(Scope.OPERATE, "acme") as operator:
        form = {"csrf": csrf_of(operator)}
        for key in keys:
            await operator.post(f"/jobs/{key}/run", data=form)
        await site.pool.execute(FAILED)
        newest = {row[0] for row in await site.pool.fetch("SELECT execution_id FROM runs")}
        await site.pool.execute(EARLIER, [timedelta(minutes=5), timedelta(minutes=9)])
        failed = form | {"status": "unsuccessful", "period": "1h", "action": "retry_all"}
        asked = (await operator.post("/runs/several", data=failed)).text
        confirmed = failed | {"confirmed": "yes", "note": "the site is back"}
        answer = await operator.post("/runs/several", data=confirmed)

    acts = await site.pool.fetch("SELECT reason, detail FROM audit_log WHERE action = 'retry'")
    retried = await site.pool.fetch("SELECT requested_by FROM runs WHERE status = 'queued'")
    assert "Retry 2 runs?" in asked
    assert "4 are left out" in asked
    assert answer.status_code == 303
    assert {UUID(act["detail"]["retry_of"]) for act in acts} == newest
    assert [act["reason"] for act in acts] == ["the site is back"] * 2
    assert {row[0] for row in retried} == {f"acme/ann (retry of {run_id})" for run_id in newest}


@pytest.mark.parametrize("org", [None, "acme"])
async def test_a_collection_is_called_by_its_name_and_its_owners(
    site: Site, org: str | None
) -> None:
    key = await chosen(site, "nightly")
    async with site.signed_in(Scope.OPERATE, "acme") as operator:
        await operator.post(f"/jobs/{key}/run", data={"csrf": csrf_of(operator)})
        await operator.post(f"/jobs/{key}/pause", data={"csrf": csrf_of(operator), "note": "x"})
    run_id = await site.pool.fetchval("SELECT execution_id FROM runs")
    paths = ("/runs", f"/runs/{run_id}", f"/runs/{run_id}/pages", f"/jobs/{key}", "/audit")
    async with site.signed_in(Scope.READ, org) as reader:
        pages = {path: unescape((await reader.get(path)).text) for path in paths}

    texts = {path: re.sub(r"<[^>]*>", "\n", page) for path, page in pages.items()}
    assert {path for path, text in texts.items() if "acme / nightly" in text} == set(paths)
    assert {path for path, text in texts.items() if key in text} == set()


async def test_actions_are_found_by_the_collection_that_the_page_names(site: Site) -> None:
    for name in ("nightly", "hourly"):
        key = await chosen(site, name)
        async with site.signed_in(Scope.OPERATE, "acme") as operator:
            await operator.post(f"/jobs/{key}/pause", data={"csrf": csrf_of(operator), "note": "x"})
    async with site.signed_in(Scope.READ, "acme") as reader:
        page = (await reader.get("/audit")).text
        offered = {
            name: value for value, name in re.findall(r'<option value="([^"]+)">(.*?)<', page)
        }
        found = (await reader.get("/audit", params={"job": offered["acme / nightly"]})).text

    assert set(re.findall(r'class="job"><a [^>]*>(.*?)<', found)) == {"acme / nightly"}


async def test_pause_and_resume_are_edits_of_the_collection(site: Site) -> None:
    key = await chosen(site)
    before = await revision(site)
    async with site.signed_in(Scope.OPERATE, "acme") as operator:
        form = {"csrf": csrf((await operator.get("/collections")).text)}
        holidays = form | {"note": "holidays", "until": "2999-12-24T08:00"}
        paused = await operator.post(f"/jobs/{key}/pause", data=holidays)
        page = (await operator.get(paused.headers["location"])).text
        resumed = await operator.post(f"/jobs/{key}/resume", data=form)

    assert paused.headers["location"] == "/collections?done=paused"
    assert resumed.headers["location"] == "/collections?done=resumed"
    assert "Paused. Its ticks" in page
    assert "holidays" in page
    assert "2999-12-24 08:00:00" in page
    assert "<code>note</code> &#34;holidays&#34;" in page
    assert "→" not in page
    assert "Resume" in page
    assert await edits(site) == [
        ("paused", "acme/ann", {"note": "holidays", "until": "2999-12-24T08:00:00+00:00"}),
        ("resumed", "acme/ann", {"note": None}),
    ]
    assert await revision(site) == before + 2
    assert await site.pool.fetchval("SELECT paused_at FROM schedules") is None


async def test_where_nothing_is_chosen_there_is_nothing_to_run(site: Site) -> None:
    key = await chosen(site, preset_id=None)
    async with site.signed_in(Scope.OPERATE, "acme") as operator:
        form = {"csrf": csrf((await operator.get("/collections")).text)}
        answer = await operator.post(f"/jobs/{key}/run", data=form)

    assert answer.status_code == 409
    assert "There is nothing to run" in answer.text


async def test_who_has_had_the_days_runs_is_told_so(site: Site) -> None:
    key = await chosen(site)
    await site.pool.execute("""UPDATE organizations SET limits = '{"runs_per_day": 0}'""")
    async with site.signed_in(Scope.OPERATE, "acme") as operator:
        form = {"csrf": csrf((await operator.get("/collections")).text)}
        answer = await operator.post(f"/jobs/{key}/run", data=form)

    assert answer.status_code == 429
    assert await site.pool.fetchval("SELECT count(*) FROM runs") == 0


async def test_who_may_only_read_is_shown_no_button_and_refused(site: Site, scene: Scene) -> None:
    key = await chosen(site)
    await alive(scene)
    await scene.job("a", [GOOD])
    async with site.signed_in(Scope.READ, "acme") as reader:
        page = (await reader.get("/collections")).text
        answer = await reader.post(f"/jobs/{key}/run", data={"csrf": "x"})

    assert "Run now" not in page
    assert "require the scope operate" in page
    assert answer.status_code == 403
    assert await site.pool.fetchval("SELECT count(*) FROM runs WHERE org_id IS NOT NULL") == 0
