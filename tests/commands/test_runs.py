"""`trigger`, `runs`, `run`, `cancel`, `retry`, `jobs`, `status`: typed, with a worker at work."""

import asyncio
import json
import os
import signal
import sys
from datetime import datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest
from arq.connections import ArqRedis

from app.core.enums import RunStatus
from app.core.errors import UnknownJob, WrongState
from app.health import keys
from app.health.facts import JobFacts
from app.ledger import edit
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import EPOCH, Schedule
from app.store.db import Pool
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from app.store.schedules import heartbeats
from tests.clock import NOON, SettableClock
from tests.commands.conftest import ROOT, Rollcall, RollcallJson, Working
from tests.wait import until

JOB = "scrape_all_platforms"


async def queued(pool: Pool, job: str = JOB) -> str:
    """A run that nobody has begun; its id."""
    run_id = uuid4()
    await run_rows.request(
        pool, RunRequest(run_id, job, {"platforms": ["bet9ja"]}, "ada", 3, 240), NOON
    )
    return str(run_id)


async def test_a_run_asked_for_is_done_listed_told_and_asked_for_again(
    rollcall: Rollcall, rollcall_json: RollcallJson, working: Working
) -> None:
    async with working():
        done = await rollcall_json("trigger", JOB, "platforms=betpawa", "--wait")
        again = await rollcall_json("retry", done["execution_id"], "--wait")
        listed = await rollcall_json("runs", "--trigger", "manual", "--since", "1h")
        result = await rollcall_json("run", done["execution_id"][:8])
        jobs = {one["job"]: one for one in await rollcall_json("jobs")}
        status = json.loads((await rollcall("status", "--json")).stdout)
        workers = await rollcall_json("workers")

    assert done["status"] == again["status"] == "success"
    assert [one["execution_id"] for one in listed] == [again["execution_id"], done["execution_id"]]
    assert again["params"] == {"platforms": ["betpawa"]}
    assert done["execution_id"] in again["requested_by"]
    assert [one["source"] for one in result["sources"]] == ["betpawa"]
    assert [one["event"] for one in result["events"]] == ["requested", "started", "finished"]
    assert jobs[JOB]["due"] == "every 5 minutes"
    assert jobs["poll_news"]["enabled"] is False
    assert len(status["workers"]) == 1
    assert [(one["running"], one["runs"]) for one in workers] == [(0, [])]


def libraries_of(pid: int) -> str:
    return Path(f"/proc/{pid}/maps").read_text("ascii", "replace")


@pytest.mark.skipif(not Path("/proc/self/maps").exists(), reason="needs /proc")
async def test_a_worker_without_own_jobs_does_not_load_sqlalchemy(
    rollcall_json: RollcallJson, working: Working
) -> None:
    # With this variable, the process is not forked from one that has loaded everything.
    async with working(PYTHONUTF8="1") as process:
        done = await rollcall_json("trigger", JOB, "platforms=betpawa", "--wait")
        loaded = libraries_of(process.pid)

    assert done["status"] == "success"
    assert "msgspec" in loaded
    assert "sqlalchemy" not in loaded


async def test_parameters_are_checked_before_anything_is_queued(
    rollcall: Rollcall, pool: Pool
) -> None:
    wrong = await rollcall("trigger", JOB, "platforms=nobody")
    no_pair = await rollcall("trigger", JOB, "platforms")

    assert "unknown nobody" in str(wrong.exception)
    assert no_pair.exit_code == 2
    assert await pool.fetchval("SELECT count(*) FROM runs") == 0


@pytest.mark.parametrize(
    ("status", "code"),
    [(RunStatus.SUCCESS, 0), (RunStatus.PARTIAL_FAILURE, 1), (RunStatus.CANCELLED, 1)],
)
async def test_a_command_that_waits_ends_with_the_code_of_the_run(
    rollcall: Rollcall, pool: Pool, status: RunStatus, code: int
) -> None:
    waiting = asyncio.ensure_future(rollcall("trigger", JOB, "--wait"))
    run_id = await until(lambda: pool.fetchval("SELECT execution_id FROM runs"))
    await pool.execute(
        "UPDATE runs SET status = $2, started_at = now(), completed_at = now()"
        " WHERE execution_id = $1",
        run_id,
        status,
    )

    assert (await waiting).exit_code == code


async def test_a_cancelled_run_has_ended_and_cannot_be_cancelled_again(
    rollcall: Rollcall, pool: Pool
) -> None:
    run_id = await queued(pool)

    first = await rollcall("cancel", run_id)
    second = await rollcall("cancel", run_id)

    assert first.exit_code == 0
    assert isinstance(second.exception, WrongState)
    assert (await run_rows.read_run(pool, run_id) or {})["status"] == "cancelled"  # pyright: ignore[reportArgumentType] - asyncpg reads text


async def test_an_open_run_is_not_asked_for_again(rollcall: Rollcall, pool: Pool) -> None:
    again = await rollcall("retry", await queued(pool))

    assert isinstance(again.exception, WrongState)


async def test_runs_are_filtered_by_job_status_and_number(
    rollcall_json: RollcallJson, rollcall: Rollcall, pool: Pool
) -> None:
    for _ in range(3):
        await queued(pool)
    await queued(pool, "poll_news")
    await rollcall("cancel", await queued(pool))

    assert len(await rollcall_json("runs", "--limit", "2")) == 2
    assert len(await rollcall_json("runs", "--job", "poll_news")) == 1
    assert len(await rollcall_json("runs", "--status", "cancelled")) == 1
    assert len(await rollcall_json("runs", "--status", "cancelled", "--status", "queued")) == 5


@pytest.mark.parametrize(
    "words",
    [
        ("runs", "--job", "nobody"),
        ("runs", "--job", "nobody", "--follow"),
        ("rejected", "--job", "nobody"),
        ("rejected", "--source", "nobody"),
        ("trigger", "collection:nobody"),
    ],
)
async def test_a_name_that_nothing_has_is_an_error_and_not_an_empty_list(
    rollcall: Rollcall, words: tuple[str, ...]
) -> None:
    result = await rollcall(*words)

    assert isinstance(result.exception, UnknownJob), result.output
    assert "nobody" in str(result.exception)


@pytest.mark.parametrize("option", [("--job", JOB), ("--job", "source"), ("--source", "bet9ja")])
async def test_a_name_without_rows_yet_is_an_empty_list(
    rollcall_json: RollcallJson, option: tuple[str, str]
) -> None:
    assert await rollcall_json("rejected", *option) == []


@pytest.mark.parametrize("words", [("run", "abc"), ("run", "not-an-id"), ("run", "0" * 8)])
async def test_an_id_that_is_none_is_refused_in_a_sentence(
    rollcall: Rollcall, words: tuple[str, ...]
) -> None:
    result = await rollcall(*words)

    assert result.exit_code != 0
    assert "run" in (str(result.exception) + result.output)


async def test_followed_runs_are_told_as_they_begin_and_end_until_interrupted(
    surroundings: dict[str, str], pool: Pool
) -> None:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "runs", "--follow", "--json"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | surroundings,  # noqa: TID251 - the child's
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    run_id = await queued(pool)
    try:
        async with asyncio.timeout(40):
            begun = json.loads(await process.stdout.readline())
            now = await heartbeats.database_now(pool)
            await run_rows.cancel_open(pool, [UUID(run_id)], now, by="ada")
            ended = json.loads(await process.stdout.readline())
            process.send_signal(signal.SIGINT)
            _, said = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()

    assert [(one["execution_id"], one["status"]) for one in (begun, ended)] == [
        (run_id, "queued"),
        (run_id, "cancelled"),
    ]
    assert process.returncode == 130
    assert b"Traceback" not in said


async def test_status_without_a_worker_is_not_well(rollcall: Rollcall) -> None:
    result = await rollcall("status")

    assert result.exit_code == 1
    assert "UNHEALTHY" in result.output


async def test_jobs_and_status_judge_by_the_settings(
    rollcall: Rollcall,
    rollcall_json: RollcallJson,
    pool: Pool,
    redis: ArqRedis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now: datetime = await pool.fetchval("SELECT clock_timestamp()")
    schedule = Schedule.every(60, anchor=EPOCH)
    await edit.register(pool, [DeclaredSchedule("scrape", "scrape", schedule, Policies())], now)
    facts = JobFacts(
        "scrape", last_run=now, last_success=now, interval_seconds=60,
        history=(RunStatus.FAILURE, RunStatus.SUCCESS),
    )  # fmt: skip
    await keys.write_jobs(redis, [("scrape", facts)])
    (by_default,) = await rollcall_json("jobs")

    monkeypatch.setenv("HEALTH_FAILING_AFTER", "1")
    (job,) = await rollcall_json("jobs")
    status = await rollcall_json("status", code=1)
    printed = (await rollcall("jobs")).output

    assert by_default["status"] == "healthy"
    assert (job["status"], job["reason"]) == ("unhealthy", "failing")
    assert status["jobs"][0]["health"] == "unhealthy (failing)"
    assert "unhealthy (failing)" in printed


@pytest.mark.parametrize(
    "command",
    [
        "status", "jobs", "runs", "run", "cancel", "retry", "trigger", "verify", "why", "pause",
        "resume", "retire", "backfill", "replay", "export", "doctor", "prune", "migrate",
    ],
)  # fmt: skip
async def test_each_command_has_help_with_an_example(rollcall: Rollcall, command: str) -> None:
    result = await rollcall(command, "--help")

    assert result.exit_code == 0
    assert "Example" in result.output
    assert f"rollcall {command}" in " ".join(result.output.replace("│", " ").split())


RECIPE = """
[source]
url = "https://books.test/api"
[records]
list = "items"
key = "id"
[fields]
id = "id"
"""


async def test_a_recipe_is_triggered_and_listed_under_the_name_of_its_schedule(
    rollcall: Rollcall, rollcall_json: RollcallJson, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "books.toml").write_text(RECIPE)
    monkeypatch.setenv("SOURCES_DIR", str(tmp_path))

    asked = await rollcall_json("trigger", "source:books")
    listed = await rollcall_json("runs", "--job", "source:books")
    unknown = await rollcall("trigger", "source:wares")

    assert (asked["job"], asked["task"]) == ("source:books", "source")
    assert [(run["job"], run["params"]) for run in listed] == [
        ("source:books", {"source": "books"})
    ]
    assert isinstance(unknown.exception, UnknownJob)


async def test_a_run_requested_for_later_waits_for_its_instant_without_redis(
    rollcall_json: RollcallJson, working: Working, pool: Pool, redis: ArqRedis
) -> None:
    soon = await heartbeats.database_now(pool) + timedelta(seconds=8)
    asked = await rollcall_json("trigger", JOB, "platforms=betpawa", "--at", soon.isoformat())
    (listed,) = await rollcall_json("runs", "--trigger", "manual")
    await redis.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here

    async with working():
        ended = await until(
            lambda: pool.fetchrow(
                "SELECT * FROM runs WHERE trigger = 'manual' AND completed_at IS NOT NULL"
            ),
            seconds=60,
        )
    events = await pool.fetch("SELECT event, detail FROM run_events ORDER BY id")

    assert listed["execution_id"] == asked["execution_id"]
    assert (listed["status"], datetime.fromisoformat(listed["not_before"])) == ("queued", soon)
    assert ended["started_at"] >= soon
    assert ended["status"] == "success"
    assert "deferred" in [event["event"] for event in events]


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--at", "2020-01-01T00:00Z"), "is in the past"),
        (("--at", "tomorrow"), "is not an instant"),
        (("--at", "2099-01-01T00:00Z", "--wait"), "leave it out with --at"),
    ],
)
async def test_a_run_for_later_is_refused_with_the_reason(
    rollcall: Rollcall, pool: Pool, options: tuple[str, ...], reason: str
) -> None:
    refused = await rollcall("trigger", JOB, *options)

    assert refused.exit_code == 2
    assert reason in " ".join(refused.output.replace("│", " ").split())
    assert await pool.fetchval("SELECT count(*) FROM runs") == 0


async def test_a_manual_run_has_the_policies_of_its_schedule(
    rollcall: Rollcall, pool: Pool, clock: SettableClock
) -> None:
    schedule = Schedule.every(300, name=JOB)
    policies = Policies(timeout=77, max_attempts=2)
    await edit.register(pool, [DeclaredSchedule(JOB, JOB, schedule, policies)], clock())

    await rollcall("trigger", JOB)

    row = await pool.fetchrow("SELECT timeout_seconds, max_attempts FROM runs")
    assert tuple(row or ()) == (77, 2)


async def test_past_ticks_are_listed_by_outcome_and_reason(
    rollcall: Rollcall, rollcall_json: RollcallJson, pool: Pool
) -> None:
    schedule_id = await pool.fetchval(
        "INSERT INTO schedules (key, job, spec, policies, params, version, effective_from,"
        " evaluated_through, created_at, enabled) VALUES ('nightly', 'nightly', '{}', '{}', '{}',"
        " 1, now(), now(), now(), true) RETURNING id"
    )
    for hours, outcome, reason in ((3, "skipped", "paused"), (1, "missed", "scheduler_down")):
        await pool.execute(
            "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)"
            " VALUES ($1, now() - $2 * interval '1 hour', 1, $3, $4, now())",
            *(schedule_id, hours, outcome, reason),
        )
    await pool.execute(
        "INSERT INTO tick_gaps (schedule_id, first_tick, last_tick, count, version, outcome,"
        " reason, decided_at) VALUES ($1, now() - interval '9 hours', now() - interval '5 hours',"
        " 40, 1,"
        " 'missed', 'scheduler_down', now())",
        schedule_id,
    )

    every = await rollcall_json("ticks", "nightly")
    missed = await rollcall_json("ticks", "nightly", "--outcome", "missed")
    recent = await rollcall_json("ticks", "nightly", "--since", "2h")
    overlapping = await rollcall_json("ticks", "nightly", "--since", "6h", "--outcome", "missed")
    paused = await rollcall_json("ticks", "nightly", "--reason", "paused")
    shown = await rollcall("ticks", "nightly")
    unknown = await rollcall("ticks", "nobody")

    assert [row["count"] for row in every] == [1, 1, 40]
    assert [row["count"] for row in missed] == [1, 40]
    assert [row["reason"] for row in recent] == ["scheduler_down"]
    assert [row["count"] for row in overlapping] == [1, 40]
    assert [row["outcome"] for row in paused] == ["skipped"]
    assert "scheduler_down" in shown.stdout
    assert isinstance(unknown.exception, UnknownJob)


async def test_rejected_records_are_listed_with_their_run_and_shown_by_it(
    rollcall_json: RollcallJson, pool: Pool
) -> None:
    run_id = await queued(pool, "poll_news")
    await pool.execute(
        "INSERT INTO rejected_records (execution_id, source, partition, page, record_id, reason,"
        " data) VALUES ($1, 'asknews_news', 'all', 1, '7', 'no title', '{}')",
        UUID(run_id),
    )

    listed = await rollcall_json("rejected", "--job", "poll_news", "--since", "1h")
    run = await rollcall_json("run", run_id)

    assert [(one["execution_id"], one["reason"]) for one in listed] == [(run_id, "no title")]
    assert [one["record_id"] for one in run["rejected"]] == ["7"]
    assert run["log"] == []
    assert await rollcall_json("rejected", "--source", "bet9ja") == []
