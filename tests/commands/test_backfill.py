"""A backfill that is killed goes on where it was, and nothing runs twice."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from uuid import uuid4

import pytest

from app.context import WorkerContext
from app.core.enums import RunStatus
from app.core.errors import WrongState
from app.ledger import backfill, edit
from app.ledger.backfill import BackfillRequest
from app.ledger.edit import DeclaredSchedule
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.runs import run_rows
from app.store.runs.run_rows import RunRequest
from app.store.schedules import backfills
from tests import worker_harness
from tests.commands.conftest import ROOT, Rollcall, RollcallJson
from tests.wait import until
from workers.execute import execute
from workers.run import Run

QUEUED = "SELECT execution_id FROM runs WHERE status = 'queued' ORDER BY queued_at LIMIT 20"


@pytest.fixture
async def minute(pool: Pool) -> datetime:
    """A schedule of one minute exists; a whole minute of the past."""
    now: datetime = await pool.fetchval("SELECT date_trunc('minute', clock_timestamp())")
    schedule = Schedule.every(60, name="scrape")
    await edit.register(pool, [DeclaredSchedule("scrape", "scrape", schedule, Policies())], now)
    return now - timedelta(minutes=1)


def stretch(minute: datetime, ticks: int) -> tuple[str, ...]:
    since = minute - timedelta(minutes=ticks - 1)
    return ("scrape", "--from", since.isoformat(), "--to", minute.isoformat())


@asynccontextmanager
async def executing(
    context: WorkerContext, status: RunStatus = RunStatus.SUCCESS
) -> AsyncGenerator[Counter[datetime]]:
    """A worker that does every queued run in no time; counts how often each instant was done."""
    done: Counter[datetime] = Counter()
    stop = asyncio.Event()

    async def count(run: Run) -> None:
        assert run.tick is not None
        done[run.tick] += 1
        run.outcome.status = status

    async def work() -> None:
        ctx, job = worker_harness.ctx_of(context), worker_harness.job_of(count)
        while not stop.is_set():
            await backfill.feed(context.pool, context.redis, context.clock())
            for row in await context.pool.fetch(QUEUED):
                await execute(ctx, job, str(row["execution_id"]))
            await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(work())
        yield done
        stop.set()


async def started(
    surroundings: dict[str, str], words: tuple[str, ...]
) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "app", "backfill", *words, "--yes", "--json"),
        cwd=ROOT,
        env={"PATH": os.environ["PATH"]} | surroundings,  # noqa: TID251 - the child's
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )


async def test_killed_in_the_midst_it_goes_on_and_doubles_nothing(
    context: WorkerContext, surroundings: dict[str, str], minute: datetime
) -> None:
    words = (*stretch(minute, 200), "--concurrency", "5")
    async with executing(context) as done:
        killed = await started(surroundings, words)

        async def some() -> bool:
            return sum(done.values()) >= 40

        await until(some, 30, "the first runs")
        killed.send_signal(signal.SIGKILL)
        await killed.wait()
        so_far = sum(done.values())
        again = await started(surroundings, words)
        printed, _ = await asyncio.wait_for(again.communicate(), 50)

    kept = await context.pool.fetchrow(
        "SELECT count(*) AS runs, count(DISTINCT scheduled_for) AS instants,"
        " count(DISTINCT trigger) AS triggers FROM runs WHERE trigger = 'backfill'"
    )
    begun = await context.pool.fetchval("SELECT count(*) FROM run_events WHERE event = 'started'")
    assert kept is not None
    assert 40 <= so_far < 200
    assert again.returncode == 0
    assert json.loads(printed)["ended"] == {"success": 200}
    assert (kept["runs"], kept["instants"], begun) == (200, 200, 200)
    assert set(done.values()) == {1}


async def test_interrupted_by_hand_it_says_so_with_130_and_the_workers_go_on(
    context: WorkerContext, surroundings: dict[str, str], minute: datetime
) -> None:
    process = await started(surroundings, stretch(minute, 3))

    async def begun() -> bool:
        return bool(await context.pool.fetchval("SELECT count(*) FROM backfills"))

    await until(begun, 20, "the backfill")
    process.send_signal(signal.SIGINT)
    code = await asyncio.wait_for(process.wait(), 20)

    async def complete() -> bool:
        return bool(await context.pool.fetchval("SELECT completed_at FROM backfills"))

    async with executing(context) as done:
        await until(complete, 20, "the end of the backfill")

    assert code == 130
    assert len(done) == 3


async def test_a_stopped_backfill_adds_no_runs_and_is_continued_by_the_same_request(
    context: WorkerContext, rollcall: Rollcall, rollcall_json: RollcallJson, minute: datetime
) -> None:
    pool, words = context.pool, stretch(minute, 4)
    request = BackfillRequest("scrape", minute - 3 * timedelta(minutes=1), minute, "ada")
    plan = await backfill.make_plan(pool, request, context.clock())
    await backfill.start(pool, plan, context.clock())
    await backfill.feed(pool, context.redis, context.clock())

    stopped = await rollcall_json("backfill", *words, "--stop")
    again = await rollcall("backfill", *words, "--stop")
    await pool.execute("UPDATE runs SET status = 'success'")
    await backfill.feed(pool, context.redis, context.clock())
    fed = await pool.fetchval("SELECT count(*) FROM runs")
    async with executing(context):
        rest = await rollcall_json("backfill", *words, "--yes")
    (listed,) = await rollcall_json("backfills")

    acts = await pool.fetch("SELECT action FROM audit_log ORDER BY id")
    assert stopped == {"schedule": "scrape", "backfill_id": str(plan.backfill.id), "stopped": True}
    assert (again.exit_code != 0, fed) == (True, 1)
    assert rest["ended"] == {"success": 4}
    assert (listed["job"], listed["ended"], listed["failed"], listed["open"]) == ("scrape", 4, 0, 0)
    assert [act[0] for act in acts] == ["backfill", "stop_backfill", "backfill"]


async def test_a_backfill_of_a_range_that_ends_now_is_stopped_later_by_the_same_words(
    context: WorkerContext, rollcall: Rollcall, minute: datetime
) -> None:
    pool, hour = context.pool, timedelta(hours=1)
    request = BackfillRequest("scrape", minute - hour, minute, "ada")
    other = BackfillRequest("scrape", minute - hour, minute, "ada", name="other")
    for each in (request, other):
        plan = await backfill.make_plan(pool, each, context.clock())
        await backfill.start(pool, plan, context.clock())

    stopped = await rollcall("backfill", "scrape", "--from", "1h", "--stop")

    rows = await pool.fetch("SELECT name, stopped_by IS NOT NULL FROM backfills ORDER BY name")
    assert stopped.exit_code == 0
    assert [tuple(row) for row in rows] == [("backfill", True), ("other", False)]


async def test_a_range_that_ends_before_it_begins_is_refused(
    rollcall: Rollcall, minute: datetime
) -> None:
    del minute  # there is a schedule

    result = await rollcall("backfill", "scrape", "--from", "1h", "--to", "2h", "--yes")

    assert result.exit_code == 2
    assert "Invalid value for --to: it is before --from" in result.stderr


async def test_the_count_is_shown_and_no_means_nothing_is_queued(
    rollcall: Rollcall, pool: Pool, minute: datetime
) -> None:
    result = await rollcall("backfill", *stretch(minute, 7), answer="n\n")

    assert isinstance(result.exception, WrongState)
    assert "7 instants of scrape" in result.output
    assert await pool.fetchval("SELECT count(*) FROM runs") == 0


async def test_overlapping_stretches_share_their_runs_and_another_name_does_not(
    context: WorkerContext, rollcall_json: RollcallJson, minute: datetime
) -> None:
    async with executing(context) as done:
        await rollcall_json("backfill", *stretch(minute, 5), "--yes")
        await rollcall_json("backfill", *stretch(minute, 8), "--yes")
        once = Counter(done)
        await rollcall_json("backfill", *stretch(minute, 2), "--yes", "--name", "second")

    assert len(once) == 8
    assert set(once.values()) == {1}
    assert sum(done.values()) == 10


async def test_only_the_missing_are_run(
    context: WorkerContext, pool: Pool, rollcall_json: RollcallJson, minute: datetime
) -> None:
    await pool.execute(
        "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)"
        " SELECT id, $1, 1, 'ran', gen_random_uuid(), now() FROM schedules",
        minute,
    )

    async with executing(context):
        result = await rollcall_json("backfill", *stretch(minute, 3), "--yes", "--missing")

    assert result["total"] == 2


async def test_a_backfill_has_its_concurrency_and_the_list_its_limit(
    context: WorkerContext, rollcall_json: RollcallJson, minute: datetime
) -> None:
    async with executing(context):
        await rollcall_json("backfill", *stretch(minute, 2), "--yes", "--concurrency", "2")
        await rollcall_json("backfill", *stretch(minute, 3), "--yes", "--name", "second")

    listed = await rollcall_json("backfills", "--limit", "1")

    rows = await context.pool.fetch("SELECT concurrency FROM backfills ORDER BY created_at")
    assert [row["concurrency"] for row in rows] == [2, 1]
    assert [row["name"] for row in listed] == ["second"]


async def test_runs_that_fail_are_told_by_the_exit_code(
    context: WorkerContext, rollcall_json: RollcallJson, minute: datetime
) -> None:
    async with executing(context, RunStatus.FAILURE):
        result = await rollcall_json("backfill", *stretch(minute, 2), "--yes", code=1)

    assert result["ended"] == {"failure": 2}


async def test_one_run_that_did_not_succeed_among_others_is_exit_code_1(
    context: WorkerContext, pool: Pool, rollcall: Rollcall, minute: datetime
) -> None:
    words = stretch(minute, 3)
    async with executing(context):
        good = await rollcall("backfill", *words, "--yes")
    await pool.execute(
        "UPDATE runs SET status = 'partial_failure' WHERE scheduled_for = $1", minute
    )

    partly = await rollcall("backfill", *words)

    assert (good.exit_code, good.stdout) == (0, "3 runs: 3 success\n")
    assert (partly.exit_code, partly.stdout) == (1, "3 runs: 1 partial_failure, 2 success\n")


async def test_what_has_run_is_counted_and_nothing_to_do_needs_no_answer(
    context: WorkerContext, pool: Pool, rollcall: Rollcall, minute: datetime
) -> None:
    async with executing(context):
        await rollcall("backfill", *stretch(minute, 2), "--yes")
    begun = await pool.fetchval("SELECT count(*) FROM backfills")

    more = await rollcall("backfill", *stretch(minute, 3), answer="n\n")
    same = await rollcall("backfill", *stretch(minute, 2))
    empty = await rollcall("backfill", "scrape", "--from", "1s", "--to", "1s")

    assert "3 instants of scrape" in more.stderr
    assert "; 2 have run, 0 are open, 1 to do" in more.stderr
    assert (more.exit_code != 0, same.exit_code, empty.exit_code) == (True, 0, 0)
    assert empty.stdout == "0 runs: nothing to do\n"
    assert await pool.fetchval("SELECT count(*) FROM backfills") == begun


async def test_missing_are_ticks_that_were_skipped_and_those_whose_run_failed(
    context: WorkerContext, pool: Pool, rollcall_json: RollcallJson, minute: datetime
) -> None:
    fates = ("success", "partial_failure", "running", "failure", "lost", "cancelled")
    for number, status in enumerate(fates):
        run_id, at = uuid4(), minute - timedelta(minutes=number)
        await run_rows.request(pool, RunRequest(run_id, "other", {}, "", 3, 240), minute)
        await pool.execute("UPDATE runs SET status = $2 WHERE execution_id = $1", run_id, status)
        await pool.execute(
            "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, run_id, decided_at)"
            " SELECT id, $1, 1, 'ran', $2, now() FROM schedules",
            at,
            run_id,
        )
    skipped = minute - timedelta(minutes=len(fates))
    await pool.execute(
        "INSERT INTO ticks (schedule_id, scheduled_for, version, outcome, reason, decided_at)"
        " SELECT id, $1, 1, 'skipped', 'paused', now() FROM schedules",
        skipped,
    )

    async with executing(context) as done:
        await rollcall_json("backfill", *stretch(minute, len(fates) + 1), "--yes", "--missing")

    assert sorted(done) == [skipped, *(minute - timedelta(minutes=n) for n in (5, 4, 3))]


async def test_the_list_has_the_newest_first_and_counts_what_did_not_succeed(
    context: WorkerContext, pool: Pool, rollcall_json: RollcallJson, minute: datetime
) -> None:
    async with executing(context):
        await rollcall_json("backfill", *stretch(minute, 3), "--yes")
        await rollcall_json("backfill", *stretch(minute, 2), "--yes", "--name", "second")
    await pool.execute(
        "UPDATE runs SET status = 'failure' WHERE scheduled_for = $1 AND backfill_id ="
        " (SELECT id FROM backfills WHERE name = 'backfill')",
        minute,
    )

    listed = await rollcall_json("backfills")

    facts = [
        (row["name"], row["total"], row["fed"], row["ended"], row["failed"], row["open"])
        for row in listed
    ]
    assert facts == [("second", 2, 2, 2, 0, 0), ("backfill", 3, 3, 3, 1, 0)]


async def test_nothing_is_added_while_a_scheduled_run_waits(
    context: WorkerContext, surroundings: dict[str, str], minute: datetime
) -> None:
    waits = RunRequest(uuid4(), "other", {}, "", 3, 240)
    await run_rows.request(context.pool, waits, minute - timedelta(seconds=9))
    await context.pool.execute("UPDATE runs SET trigger = 'scheduled'")
    process = await started(surroundings, stretch(minute, 3))

    async def begun() -> bool:
        return bool(await context.pool.fetchval("SELECT count(*) FROM backfills"))

    await until(begun, 20, "the backfill")
    await backfill.feed(context.pool, context.redis, context.clock())
    waiting = await context.pool.fetchval("SELECT count(*) FROM runs WHERE trigger = 'backfill'")
    await context.pool.execute("UPDATE runs SET status = 'success' WHERE job = 'other'")
    async with executing(context):
        assert await asyncio.wait_for(process.wait(), 20) == 0

    assert waiting == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("nobody", "--from", "1h"), "there is no schedule"),
        (("scrape", "--from", "1h", "--to", "2999-01-01"), "is in the future"),
        (("scrape", "--from", "1900-01-01"), "more than 100,000 ticks"),
    ],
)
async def test_what_cannot_be_backfilled_is_refused(
    rollcall: Rollcall, minute: datetime, words: tuple[str, ...], said: str
) -> None:
    del minute

    result = await rollcall("backfill", *words, "--yes")

    assert said in str(result.exception)


async def test_a_backfill_of_a_recipe_says_which_source_it_asks(
    context: WorkerContext, surroundings: dict[str, str], minute: datetime
) -> None:
    del minute
    pool = context.pool
    await pool.execute("UPDATE schedules SET key = 'source:wares', job = 'source'")
    process = await started(surroundings, ("source:wares", "--from", "90s", "--to", "20s"))
    async with executing(context):
        await asyncio.wait_for(process.wait(), 30)

    asked = await pool.fetch("SELECT params FROM runs WHERE trigger = 'backfill'")
    assert asked
    assert all(row["params"] == {"source": "wares"} for row in asked)


async def test_a_backfill_does_not_wait_for_the_organisations_line(pool: Pool) -> None:
    org, now = uuid4(), await pool.fetchval("SELECT clock_timestamp()")
    await pool.execute("INSERT INTO organizations (id, name) VALUES ($1, 'acme')", org)
    await pool.execute(
        "INSERT INTO runs (execution_id, job, org_id, trigger, params, status, attempt, losses,"
        " max_attempts, timeout_seconds, lease_epoch, queued_at, stats)"
        " VALUES ($1, 'collection', $2, 'scheduled', '{}', 'queued', 1, 0, 3, 60, 0, $3, '{}')",
        uuid4(), org, now - timedelta(minutes=1),
    )  # fmt: skip

    async with pool.acquire() as connection, connection.transaction():
        free = await backfills.free_slots(connection, now, 3)

    assert free == 3
