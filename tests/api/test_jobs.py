"""Operators steer jobs, runs and backfills over HTTP, as by command and on the pages."""

import time
from dataclasses import replace
from datetime import timedelta
from typing import Any
from uuid import UUID

import httpx
import pytest
from arq.connections import ArqRedis

from app.core.enums import Scope
from app.core.errors import WrongState
from app.ledger import backfill, edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.schedules import schedule_edits
from tests.api.clients import ODDS, Org, Visitor, fields, operator_with, problem
from tests.clock import NOON, SettableClock

JOB = "poll_news"
JOBS = f"/operator/jobs/{JOB}"
RUNS = "/operator/runs"
BACKFILLS = "/operator/backfills"
HOUR = timedelta(hours=1)


@pytest.fixture
async def operator(api: httpx.AsyncClient, pool: Pool, clock: SettableClock) -> Visitor:
    """An operator that may act, beside a job that is due every hour since the day before."""
    declared = DeclaredSchedule(JOB, JOB, Schedule.every(3600, name=JOB), Policies())
    await edit.register(pool, [declared], NOON - timedelta(days=1))
    return await operator_with(api, pool, clock, Scope.OPERATE)


async def done(who: Visitor, path: str, status: int = 200, **body: Any) -> Any:
    answer = await who("POST", path, json=body)
    assert answer.status_code == status, answer.text
    return answer.json()


async def had(who: Visitor, path: str) -> Any:
    answer = await who("GET", path)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def audited(pool: Pool) -> list[tuple[str, str, str | None]]:
    rows = await pool.fetch("SELECT action, by, reason FROM audit_log ORDER BY id")
    return [(row["action"], row["by"], row["reason"]) for row in rows]


async def test_a_job_is_paused_with_reason_and_end_and_resumed(
    operator: Visitor, pool: Pool
) -> None:
    until = NOON + HOUR
    paused = await done(operator, f"{JOBS}/pause", note="the site asked", until=until.isoformat())
    listed = (await had(operator, "/operator/jobs"))["jobs"]
    resumed = await done(operator, f"{JOBS}/resume", reason="it answers again")
    again = await done(operator, f"{JOBS}/resume")

    assert (paused["paused_by"], paused["paused_note"]) == ("operator/laptop", "the site asked")
    assert paused["paused_until"] == until.isoformat().replace("+00:00", "Z")
    assert (paused["next"], listed) == (None, [paused])
    assert (resumed["paused_at"], again["paused_at"]) == (None, None)
    assert resumed["next"] is not None
    recorded = await schedule_edits.edits(pool, JOB, 2)
    assert [(row["action"], row["after"]["note"]) for row in recorded] == [
        ("resume", "it answers again"),
        ("pause", "the site asked"),
    ]
    past = (NOON - HOUR).isoformat()
    for wrong in (past, "1577836800", "2026-12-01T00:00:00", 1):
        refused = await operator("POST", f"{JOBS}/pause", json={"note": "x", "until": wrong})
        assert fields(refused) == ["until"]


async def test_a_pause_in_force_is_replaced_only_by_who_has_paused(
    operator: Visitor, visitor: Visitor, org: Org, pool: Pool, clock: SettableClock
) -> None:
    await visitor.patch(preset_id=ODDS, enabled=True)
    await done(operator, f"{JOBS}/pause", note="the site asked", until=(NOON + HOUR).isoformat())
    await visitor("POST", "/collection/schedule/pause", json={"note": "moving house"})

    with pytest.raises(WrongState, match="paused already by operator/laptop: the site asked"):
        await edit.pause(pool, JOB, clock.now, by="another", note="for a minute")
    theirs = await operator("POST", f"/operator/jobs/collection:{org.id}/pause", json={"note": "x"})
    own = await visitor("POST", "/collection/schedule/pause", json={"note": "still"})

    assert "moving house" in problem(theirs, 409)["detail"]
    assert own.json()["note"] == "still"
    job = await had(operator, JOBS)
    assert (job["paused_note"], job["paused_until"] is None) == ("the site asked", False)
    assert len(await schedule_edits.edits(pool, JOB, 9)) == 1
    clock.now = NOON + 2 * HOUR
    await edit.pause(pool, JOB, clock.now, by="another", note="anew")
    assert (await had(operator, JOBS))["paused_note"] == "anew"


async def test_a_retired_job_is_shown_as_such_and_takes_no_run_pause_or_backfill(
    operator: Visitor, pool: Pool
) -> None:
    run_id = (await done(operator, f"{JOBS}/run", 202))["run_id"]
    await done(operator, f"{RUNS}/{run_id}/cancel")
    async with pool.acquire() as connection:
        await edit.retire_in(connection, JOB, NOON)
    span = {"job": JOB, "since": (NOON - 5 * HOUR).isoformat(), "until": (NOON - HOUR).isoformat()}

    for path, body in (
        (f"{JOBS}/run", {}),
        (f"{JOBS}/pause", {"note": "x"}),
        (f"{RUNS}/{run_id}/retry", {}),
        (BACKFILLS, span),
    ):
        refused = await operator("POST", path, json=body)
        assert "is retired" in problem(refused, 409)["detail"]

    job = await had(operator, JOBS)
    assert (job["retired_at"], job["enabled"]) == (NOON.isoformat().replace("+00:00", "Z"), False)
    assert await pool.fetchval("SELECT count(*) FROM runs WHERE trigger <> 'scheduled'") == 1


async def test_a_backfill_of_a_job_that_is_retired_meanwhile_ends(
    operator: Visitor, pool: Pool, redis: ArqRedis
) -> None:
    span = {"job": JOB, "since": (NOON - 5 * HOUR).isoformat(), "until": (NOON - HOUR).isoformat()}
    await done(operator, BACKFILLS, 202, **span)
    async with pool.acquire() as connection:
        await edit.retire_in(connection, JOB, NOON)

    await backfill.feed(pool, redis, NOON)

    (listed,) = (await had(operator, BACKFILLS))["backfills"]
    assert (listed["fed"], listed["stopped_by"]) == (0, "rollcall (the job is retired)")
    assert listed["completed_at"] is not None


async def test_a_collection_is_steered_by_its_own_rules(
    operator: Visitor, visitor: Visitor, org: Org
) -> None:
    await visitor.patch(preset_id=ODDS, enabled=True)
    path = f"/operator/jobs/collection:{org.id}"

    await done(operator, f"{path}/pause", note="too many requests")
    theirs = (await visitor("GET", "/collection/schedule/pause")).json()
    edits = (await visitor("GET", "/collection/schedule/edits")).json()["edits"]
    run = await done(operator, f"{path}/run", 202)
    open_ = problem(await operator("POST", f"{path}/run"), 409)
    params = await operator("POST", f"{path}/run", json={"params": {"x": 1}})
    mine = (await visitor("GET", f"/collection/runs/{run['run_id']}")).json()

    assert (theirs["paused_by"], theirs["note"]) == ("operator/laptop", "too many requests")
    assert (edits[0]["action"], edits[0]["by"]) == ("paused", "operator/laptop")
    assert open_["blocking_run_id"] == run["run_id"]
    assert params.status_code == 422
    assert (mine["trigger"], mine["requested_by"]) == ("manual", "operator/laptop")


async def test_a_run_is_requested_with_parameters_cancelled_and_retried(
    operator: Visitor, pool: Pool
) -> None:
    at = NOON + HOUR
    params = {"entities": ["Arsenal"]}
    queued = await done(
        operator, f"{JOBS}/run", 202, params=params, at=at.isoformat(), reason="a new club"
    )
    run = await had(operator, f"{RUNS}/{queued['run_id']}")
    early = await operator("POST", f"{RUNS}/{queued['run_id']}/retry")
    cancelled = await done(operator, f"{RUNS}/{queued['run_id']}/cancel", reason="no")
    over = await operator("POST", f"{RUNS}/{queued['run_id']}/cancel")
    retried = await done(operator, f"{RUNS}/{queued['run_id']}/retry", 202)
    listed = (await had(operator, f"{RUNS}?job={JOB}&limit=1"))["runs"]
    one = await had(operator, f"{RUNS}/{retried['run_id']}")

    assert (run["params"], run["status"], run["job"]) == (params, "queued", JOB)
    assert run["not_before"] == at.isoformat().replace("+00:00", "Z")
    assert (run["deferred_until"], run["org_id"]) == (None, None)
    problem(early, 409)
    assert cancelled["status"] == "cancelled"
    assert {"requested", "cancelled"} <= {event["event"] for event in cancelled["events"]}
    problem(over, 409)
    assert (one["params"], listed) == (params, [one_of_list(one)])
    assert await audited(pool) == [
        ("run", "operator/laptop", "a new club"),
        ("cancel", "operator/laptop", "no"),
        ("retry", "operator/laptop", None),
    ]


def one_of_list(run: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in run.items() if name not in ("sources", "events")}


async def test_wrong_parameters_jobs_and_runs_are_refused(operator: Visitor) -> None:
    wrong = await operator("POST", f"{JOBS}/run", json={"params": {"nothing": 1}})

    assert "nothing" in problem(wrong, 422)["detail"]
    problem(await operator("POST", "/operator/jobs/nothing/run"), 404)
    problem(await operator("GET", "/operator/jobs/collection:x"), 404)
    problem(await operator("GET", f"{RUNS}/{UUID(int=1)}"), 404)


async def test_a_job_whose_schedule_cannot_be_read_is_not_run(
    operator: Visitor, pool: Pool
) -> None:
    await pool.execute("""UPDATE schedules SET policies = '{"overlap": "maybe"}'""")

    refused = await operator("POST", f"{JOBS}/run")

    assert "the schedule cannot be read" in problem(refused, 409)["detail"]


async def test_runs_of_all_are_paged_and_filtered(
    operator: Visitor, visitor: Visitor, org: Org
) -> None:
    await visitor.patch(preset_id=ODDS)
    ids = [(await visitor("POST", "/collection/run")).json()["run_id"]]
    ids += [(await done(operator, f"{JOBS}/run", 202))["run_id"] for _ in range(2)]

    first = await had(operator, f"{RUNS}?limit=2")
    rest = await had(operator, f"{RUNS}?limit=2&cursor={first['next_cursor']}")
    theirs = (await had(operator, f"{RUNS}?job=collection:{org.id}"))["runs"]

    assert {run["id"] for run in first["runs"] + rest["runs"]} == set(ids)
    assert rest["next_cursor"] is None
    assert [(run["id"], run["org_id"]) for run in theirs] == [(ids[0], str(org.id))]
    assert (await had(operator, f"{RUNS}?status=success"))["runs"] == []


async def test_runs_of_all_are_filtered_by_status_trigger_source_and_time(
    operator: Visitor, pool: Pool
) -> None:
    old, new = [UUID((await done(operator, f"{JOBS}/run", 202))["run_id"]) for _ in range(2)]
    await pool.execute(
        "UPDATE runs SET created_at = $2, trigger = 'backfill', status = 'success',"
        " completed_at = $2 WHERE execution_id = $1",
        old,
        NOON - 3 * HOUR,
    )
    await pool.execute(
        "INSERT INTO run_sources (execution_id, source, status, partitions, partitions_failed,"
        " pages, records, inserted, changed, unchanged, rejected, requests, retries, bytes,"
        " throttled_ms, duration_seconds) VALUES ($1, 'asknews_news', 'success', 1, 0, 0, 0, 0, 0,"
        " 0, 0, 0, 0, 0, 0, 0)",
        old,
    )
    border = (NOON - HOUR).isoformat().replace("+00:00", "Z")

    async def ids(query: str) -> list[UUID]:
        return [UUID(run["id"]) for run in (await had(operator, f"{RUNS}?{query}"))["runs"]]

    assert await ids("trigger=backfill") == [old]
    assert await ids("trigger=manual") == [new]
    assert await ids("status=success") == [old]
    assert await ids("source=asknews_news") == [old]
    assert await ids(f"until={border}") == [old]
    assert await ids(f"since={border}") == [new]


async def test_a_retry_is_located_and_a_problem_is_not_cached(
    operator: Visitor, pool: Pool
) -> None:
    run_id = (await done(operator, f"{JOBS}/run", 202))["run_id"]
    await pool.execute("UPDATE runs SET status = 'failure', completed_at = now()")

    retried = await operator("POST", f"{RUNS}/{run_id}/retry")
    unknown = await operator("GET", f"{RUNS}/{UUID(int=1)}")

    assert retried.headers["location"] == f"{RUNS}/{retried.json()['run_id']}"
    assert unknown.headers["cache-control"] == "no-store"


async def test_a_backfill_is_planned_started_read_and_stopped(operator: Visitor) -> None:
    span = {"job": JOB, "since": (NOON - 5 * HOUR).isoformat(), "until": (NOON - HOUR).isoformat()}
    planned = await done(operator, BACKFILLS, 202, **span, plan=True)
    none = (await had(operator, BACKFILLS))["backfills"]
    started = await done(operator, BACKFILLS, 202, **span, concurrency=2, reason="an outage")
    (listed,) = (await had(operator, BACKFILLS))["backfills"]
    path = f"{BACKFILLS}/{started['id']}"
    stopped = await done(operator, f"{path}/stop", reason="enough")
    over = await operator("POST", f"{path}/stop")

    assert (planned["started"], planned["todo"], none) == (False, 5, [])
    assert (started["started"], started["id"]) == (True, planned["id"])
    assert (listed["total"], listed["fed"], listed["reason"]) == (5, 0, "an outage")
    assert listed["requested_by"] == "operator/laptop"
    assert (stopped["stopped_by"], await had(operator, path)) == ("operator/laptop", stopped)
    problem(over, 409)
    future = span | {"until": (NOON + HOUR).isoformat()}
    assert fields(await operator("POST", BACKFILLS, json=future)) == ["until"]
    problem(await operator("POST", BACKFILLS, json=span | {"job": "nothing"}), 404)
    problem(await operator("GET", f"{BACKFILLS}/{UUID(int=1)}"), 404)


async def test_a_backfill_of_many_ticks_is_planned_in_little_time_of_the_web(
    operator: Visitor, pool: Pool, clock: SettableClock
) -> None:
    declared = DeclaredSchedule(JOB, JOB, Schedule.cron("* * * * *", "Europe/Berlin"), Policies())
    await edit.edit(pool, declared, clock())
    since = (NOON - timedelta(days=30)).isoformat()
    began = time.thread_time()

    planned = await done(
        operator, BACKFILLS, 202, job=JOB, plan=True, since=since, until=NOON.isoformat()
    )

    took = time.thread_time() - began
    assert planned["todo"] == 30 * 24 * 60 + 1
    assert took < 0.5, "seconds of this thread's processor"


async def test_workers_are_listed_with_what_waits(operator: Visitor) -> None:
    await done(operator, f"{JOBS}/run", 202)

    found = await had(operator, "/operator/workers")

    assert (found["workers"], found["queued"], found["running"]) == ([], 1, 0)
    reader = replace(operator, secret="rc_wrong")  # noqa: S106 - it opens nothing
    problem(await reader("GET", "/operator/workers"), 401)
