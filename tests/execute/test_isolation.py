"""A run whose worker died is executed in a process of its own, and can kill nothing else."""

import asyncio
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest
from structlog.testing import capture_logs

from app.context import ServerUrls, WorkerContext
from app.core.enums import COLLECTION_TASK
from app.queue import org_queue
from app.queue.org_queue import are_queued
from app.runs.leases import Leases
from app.store.runs import run_rows
from app.store.runs.run_rows import QueuedRun, RunRequest
from scripts.standin.testing import Standin
from tests.wait import until
from tests.worker_harness import ctx_of, job_of, run_row
from workers import odds, sweep
from workers.execute import execute
from workers.isolation import Isolation
from workers.job import Job
from workers.run import Run

LEASE_SECONDS = 1.0


def where(context: WorkerContext) -> ServerUrls:
    assert context.config.database_url is not None
    assert context.config.redis_url is not None
    return ServerUrls(
        context.config.database_url.get_secret_value(), context.config.redis_url.get_secret_value()
    )


async def suspect(
    context: WorkerContext, job: str = odds.scrape_all_platforms.name, seconds: float = 60
) -> UUID:
    """Queue a run whose worker has died."""
    run_id = uuid4()
    params = {"platforms": ["bet9ja"]}
    request = RunRequest(run_id, job, params, "test", 3, seconds)
    await run_rows.request(context.pool, request, context.clock())
    await context.pool.execute("UPDATE runs SET suspicions = 1")
    return run_id


def isolation_of(
    context: WorkerContext, module: str = "workers.isolated", extra_seconds: float = 60
) -> Isolation:
    """Leases that expire soon after a process has died."""
    leases = Leases(context.control, context.clock, LEASE_SECONDS, context.hide)
    return Isolation(where(context), leases, module, extra_seconds)


async def perform(
    context: WorkerContext,
    run_id: UUID,
    isolation: Isolation,
    job: Job = odds.scrape_all_platforms,
) -> None:
    ctx = {**ctx_of(context, arq_id=f"run:{run_id}:1"), "isolate": isolation}
    await execute(ctx, job, str(run_id))


async def test_a_suspect_is_executed_by_another_process(
    context: WorkerContext, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BET9JA_URL", standin.bet9ja_url)
    run_id = await suspect(context)

    await perform(context, run_id, isolation_of(context))

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["error_message"]) == ("success", None)
    assert row["stats"]["events_scraped"] > 0
    assert row["worker"] != context.worker


async def test_a_suspect_that_kills_its_process_three_times_rests_with_the_reason(
    context: WorkerContext,
) -> None:
    run_id = await suspect(context)
    isolation = isolation_of(context, "tests.execute.poison")

    async def lost() -> bool:
        await sweep.requeue_expired(context)
        return (await run_row(context.pool, run_id))["status"] != "running"

    with capture_logs() as logs:
        for _ in range(2):
            await perform(context, run_id, isolation)
            await until(lost)

    row = await run_row(context.pool, run_id)
    killed = [line for line in logs if line["event"] == "run.killed_its_process"]
    assert [line["exit_code"] for line in killed] == [-9, -9]
    assert (row["status"], row["losses"]) == ("lost", 2)
    assert "3 processes did so while they executed this run" in row["error_message"]
    assert await are_queued(context.redis, [f"run:{run_id}:2"]) == [True]


async def test_the_end_of_an_organisations_suspect_admits_the_next_run(
    context: WorkerContext,
) -> None:
    async def collect(_: Run) -> None: ...

    await org_queue.announce_slots(context.redis, context.worker, 1, 60)
    first, waiting = (
        QueuedRun(run_id, COLLECTION_TASK, 1)
        for run_id in (await suspect(context, COLLECTION_TASK), uuid4())
    )
    await org_queue.add_runs(context.redis, [first], {}, 0)
    await org_queue.admit_runs(context.redis)
    await org_queue.add_runs(context.redis, [waiting], {}, 0)

    isolation = isolation_of(context, "tests.execute.poison")
    await perform(context, first.run_id, isolation, job_of(collect, COLLECTION_TASK))

    names = await cast("Any", context.redis).zrange(context.redis.default_queue_name, 0, -1)
    assert waiting.arq_id.encode() in names


async def test_a_suspect_has_its_process_although_a_job_has_changed_the_working_directory(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run_id = await suspect(context)
    isolation = isolation_of(context, "tests.execute.poison")

    monkeypatch.chdir(tmp_path)
    with capture_logs() as logs:
        await perform(context, run_id, isolation)

    killed = [line for line in logs if line["event"] == "run.killed_its_process"]
    assert [line["exit_code"] for line in killed] == [-9]


async def test_a_worker_that_stops_has_the_run_handed_back(
    context: WorkerContext, standin: Standin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BET9JA_URL", standin.bet9ja_url)
    standin.fault("/bet9ja", "delay", seconds=30)
    run_id = await suspect(context)
    task = asyncio.create_task(perform(context, run_id, isolation_of(context)))

    async def running() -> bool:
        return (await run_row(context.pool, run_id))["status"] == "running"

    await until(running, 30)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["losses"], row["attempt"]) == ("queued", 0, 2)


async def test_a_worker_that_stops_while_the_process_is_started_has_the_run_handed_back(
    context: WorkerContext,
) -> None:
    run_id = await suspect(context)
    leases = Leases(context.control, context.clock, LEASE_SECONDS, context.hide)
    task = asyncio.create_task(perform(context, run_id, Isolation(where(context), leases)))
    while not leases.held:  # noqa: ASYNC110 - the very step after it
        await asyncio.sleep(0)

    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["losses"], row["attempt"]) == ("queued", 0, 2)


async def own_suspect(
    context: WorkerContext,
    folder: Path,
    text: str,
    isolation: Isolation | None = None,
    seconds: float = 60,
) -> UUID:
    """A run of the own job `mine`, whose file is as `text` says, and whose worker has died."""
    (folder / "mine.py").write_text(text)
    run_id = await suspect(context, "mine", seconds)
    loaded_before = job_of(Run.still_mine, "mine")
    await perform(context, run_id, isolation or isolation_of(context), loaded_before)
    return run_id


@pytest.mark.parametrize(
    ("text", "reason"),
    [("def broken(", "mine.py:1: '(' was never closed"), ("", "its file is gone")],
)
async def test_a_suspect_whose_job_cannot_be_loaded_any_more_fails_with_the_reason(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("JOBS", str(tmp_path))

    run_id = await own_suspect(context, tmp_path, text)

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["error_type"]) == ("failure", "BadJob")
    assert "the job 'mine' cannot be loaded any more" in row["error_message"]
    assert reason in row["error_message"]


EXITING = """
import asyncio
from app.jobs import Run, job

@job
async def mine(run: Run, *, platforms: list[str]) -> dict[str, int]:
    async def leave() -> None:
        raise SystemExit(3)
    child = asyncio.create_task(leave())
    await asyncio.wait({child})
    return {"went_on": int(child.done())}
"""


async def test_a_suspect_is_not_handed_back_because_a_task_of_it_exits(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS", str(tmp_path))

    run_id = await own_suspect(context, tmp_path, EXITING)

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["stats"]) == ("success", {"went_on": 1})


GOING_ON = """
import asyncio
from app.jobs import Run, job
from app.runs import attempts

attempts.OVERTIME_SECONDS = 0.1

@job(timeout=1)
async def mine(run: Run, *, platforms: list[str]) -> None:
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass
"""


async def test_a_suspect_that_goes_on_after_its_timeout_leaves_the_turn_to_others(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS", str(tmp_path))

    run_id = await own_suspect(context, tmp_path, GOING_ON)

    row = await run_row(context.pool, run_id)
    assert row["status"] == "timed_out"
    assert "the job suppresses its cancellation and goes on" in row["error_message"]


BLOCKING = """
import re, time
from app.jobs import Run, job

@job
async def mine(run: Run, *, platforms: list[str]) -> None:
    {blocks}
"""
BLOCKS = ["time.sleep(100)", "re.match('(a+)+b', 'a' * 100)"]  # the second keeps the GIL


@pytest.mark.parametrize("blocks", BLOCKS)
async def test_a_suspect_that_blocks_its_event_loop_is_killed_and_has_timed_out(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, blocks: str
) -> None:
    monkeypatch.setenv("JOBS", str(tmp_path))
    isolation, text = isolation_of(context, extra_seconds=8), BLOCKING.format(blocks=blocks)

    async with asyncio.timeout(60):
        run_id = await own_suspect(context, tmp_path, text, isolation, seconds=1)

    row = await run_row(context.pool, run_id)
    assert (row["status"], row["attempt"], row["losses"]) == ("timed_out", 1, 0)
    assert "its process was killed" in row["error_message"]


LEAVING_A_THREAD = """
import threading, time
from app.jobs import Run, job

@job
async def mine(run: Run, *, platforms: list[str]) -> None:
    threading.Thread(target=time.sleep, args=(1_000,)).start()
"""


async def test_the_process_of_a_suspect_ends_although_a_thread_of_the_job_does_not(
    context: WorkerContext, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS", str(tmp_path))

    async with asyncio.timeout(60):
        run_id = await own_suspect(context, tmp_path, LEAVING_A_THREAD)

    assert (await run_row(context.pool, run_id))["status"] == "success"
