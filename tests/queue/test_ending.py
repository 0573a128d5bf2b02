"""SIGTERM: nothing new, a grace for what runs, nothing left behind, exit code 0."""

import asyncio
import signal
import subprocess
import time
from datetime import datetime
from pathlib import Path

import pytest

from app.queue.jobs import enqueue, enqueue_many
from app.queue.worker import SurvivingWorker
from tests.queue.harness import Queue, queue_of, settings, worker_process, working
from tests.redis_process import RedisProcess
from tests.wait import until


async def ended(process: subprocess.Popen[str], seconds: float = 10) -> str:
    """What it wrote to stderr, once it has ended well: no other code than 0, no traceback."""
    _, lines = await asyncio.to_thread(process.communicate, timeout=seconds)
    assert process.returncode == 0, lines
    assert "Traceback" not in lines
    assert "never retrieved" not in lines
    assert "destroyed" not in lines
    return lines


async def left_behind(queue: Queue) -> list[str]:
    return await queue.keys("arq:in-progress:*")


async def test_an_idle_worker_ends_without_waiting_for_its_grace(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=25) as worker:
            await until(lambda: queue.notes("startup"))
            sent = time.monotonic()
            worker.terminate()
            await ended(worker)
            took = time.monotonic() - sent

        assert took < 5, "seconds, of a grace of 25"
        assert await queue.notes("shutdown")


@pytest.mark.parametrize("grace", [0, 5])
async def test_a_burst_of_short_jobs_ends_without_an_orphan_or_a_new_start(
    redis_server: RedisProcess, tmp_path: Path, grace: int
) -> None:
    wanted = [("brief", ("brief", 0.01), f"b{i}") for i in range(2_000)]

    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=grace) as worker:
            await until(lambda: queue.notes("startup"))
            await enqueue_many(queue.redis, wanted)
            await until(lambda: queue.notes("brief", least=50))
            worker.terminate()
            lines = await ended(worker)

        notes = await queue.notes("brief")
        [heard] = [line.split()[0] for line in lines.splitlines() if "worker.draining" in line]
        since = datetime.fromisoformat(heard).timestamp()
        # Those of its ten slots may be claimed already, and begin.
        assert sum(started > since for started in notes) <= 10
        assert len(notes) < 2_000
        assert await left_behind(queue) == []
        assert await queue.keys("arq:retry:*") == []
        assert await queue.notes("shutdown")


async def test_a_running_job_may_end_within_its_grace(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=10) as worker:
            await enqueue(queue.redis, "handing_back", 1.0)
            await until(lambda: queue.notes("started"))
            worker.terminate()
            await ended(worker)

        assert await queue.notes("handed_back") == []
        assert await queue.waiting() == []


async def test_a_job_that_hands_itself_back_is_gone_from_the_queue(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=0.2) as worker:
            await enqueue(queue.redis, "handing_back", job_id="run:1:1")
            await until(lambda: queue.notes("started"))
            worker.terminate()
            await ended(worker)

        assert await queue.notes("handed_back")
        assert await queue.waiting() == []
        assert await queue.keys("arq:job:*") == []
        assert await left_behind(queue) == []


async def test_a_job_that_lets_the_cancellation_pass_goes_on_elsewhere_at_once(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=0.1) as worker:
            await enqueue(queue.redis, "letting_go", job_id="one")
            await until(lambda: queue.notes("started"))
            async with working(redis_server.url, poll_delay=30):
                worker.terminate()
                signalled = time.time()
                notes = await until(lambda: queue.notes("started", least=2))
                tries = await queue.raw("arq:retry:one")
            await ended(worker)

    assert notes[1] - signalled < 10, "seconds, of 30 to the next look"
    assert tries == b"1"


async def test_a_second_signal_does_not_cut_the_cleanup_short(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=0.1) as worker:
            await enqueue(queue.redis, "handing_back", 60, 1.0)
            await until(lambda: queue.notes("started"))
            worker.terminate()
            while worker.poll() is None:
                worker.send_signal(signal.SIGTERM)
                worker.send_signal(signal.SIGINT)
                await asyncio.sleep(0.02)
            await ended(worker)

        assert await queue.notes("handed_back")
        assert await left_behind(queue) == []


@pytest.mark.parametrize("how", ["exit", "interrupt", "callback", "stop", "alarm"])
async def test_what_a_job_starts_cannot_end_the_worker_of_others(
    redis_server: RedisProcess, tmp_path: Path, how: str
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=5) as worker:
            await enqueue(queue.redis, "handing_back", 1.0)
            await until(lambda: queue.notes("started"))
            await enqueue(queue.redis, "ending_the_loop", how)
            await until(lambda: queue.notes("went_on"))
            await until(queue.none_waiting)
            await enqueue(queue.redis, "brief")
            await until(lambda: queue.notes("brief"))
            worker.terminate()
            _, lines = await asyncio.to_thread(worker.communicate, timeout=10)

        assert worker.returncode == 0
        assert await queue.notes("handed_back") == []
        assert ("loop.exit_ignored" in lines) == (how != "stop")


@pytest.mark.parametrize("how", ["ignore", "handle", "remove", "unheard", "block"])
async def test_a_worker_stops_although_a_job_has_taken_its_signals(
    redis_server: RedisProcess, tmp_path: Path, how: str
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=5) as worker:
            await enqueue(queue.redis, "taking_signals", how)
            await until(lambda: queue.notes("given_back"))

            async def has_ended() -> bool:
                worker.terminate()
                return worker.poll() is not None

            await until(has_ended)
            lines = await ended(worker)

        assert ("signal.taken_back" in lines) == (how in {"ignore", "remove"})


@pytest.mark.parametrize("how", ["thread", "executor"])
async def test_a_worker_stops_although_a_thread_of_a_job_never_ends(
    redis_server: RedisProcess, tmp_path: Path, how: str
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=0.1) as worker:
            await enqueue(queue.redis, "leaving_threads", how)
            await until(lambda: queue.notes("left"))
            worker.terminate()
            lines = await ended(worker)

        assert "process.threads_abandoned" in lines


@pytest.mark.parametrize("whose", ["all", "others"])
async def test_a_job_that_cancels_all_tasks_cancels_only_its_own(
    redis_server: RedisProcess, tmp_path: Path, whose: str
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=5) as worker:
            await enqueue(queue.redis, "handing_back", 1.0)
            await until(lambda: queue.notes("started"))
            await enqueue(queue.redis, "cancelling_all", whose)
            await until(lambda: queue.notes("cancelled"))
            await until(queue.none_waiting)
            await enqueue(queue.redis, "brief")
            await until(lambda: queue.notes("brief"))
            worker.terminate()
            await ended(worker)

        assert await queue.notes("handed_back") == []


@pytest.mark.parametrize(
    ("job", "how"),
    [("breaking_the_loop", how) for how in ("asyncgens", "executor", "replaced", "factory")]
    + [("filling_threads", None), ("forking", "goes on"), ("forking", "terminated")],
)
async def test_a_job_that_breaks_the_loop_threads_or_connections_breaks_only_its_own(
    redis_server: RedisProcess, tmp_path: Path, job: str, how: str | None
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=3) as worker:
            await enqueue(queue.redis, "handing_back", 1.0)
            await until(lambda: queue.notes("started"))
            await enqueue(queue.redis, job, *([how] if how else []))
            await until(queue.none_waiting)
            await enqueue(queue.redis, "resolving")
            await until(lambda: queue.notes("resolved"))
            ended_children = [await queue.notes(f"child_ended_{code}") for code in (1, -15)]
            worker.terminate()
            lines = await ended(worker)

        assert await queue.notes("handed_back") == []
        assert await queue.notes("child_went_on") == []
        assert bool(await queue.notes("refused")) is (job == "breaking_the_loop")
        assert [len(notes) for notes in ended_children] == [how == "goes on", how == "terminated"]
        assert ("process.forked" in lines) is (how == "goes on")


async def test_a_job_deaf_to_cancellation_does_not_keep_the_worker(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=0.1) as worker:
            await enqueue(queue.redis, "deaf", job_id="deaf")
            await until(lambda: queue.notes("started"))
            worker.terminate()
            _, lines = await asyncio.to_thread(worker.communicate, timeout=8)

        assert worker.returncode == 0
        assert "worker.jobs_abandoned" in lines
        assert await left_behind(queue) == []
        assert await queue.waiting() == ["deaf"]


async def test_no_cron_job_is_queued_while_draining(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(
            tmp_path, redis_server.url, ringing="ring", job_completion_wait=2.5
        ) as worker:
            await until(lambda: queue.notes("ring"))
            await enqueue(queue.redis, "handing_back")
            await until(lambda: queue.notes("started"))
            worker.terminate()
            await ended(worker)

        assert len(await queue.waiting()) <= 1  # the ring that was queued ahead of the signal
        assert await left_behind(queue) == []


async def test_a_cron_job_cut_short_is_dropped(redis_server: RedisProcess, tmp_path: Path) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(
            tmp_path, redis_server.url, ringing="slow_ring", job_completion_wait=0.1
        ) as worker:
            [first, *_] = await until(lambda: queue.notes("slow_ring"))
            worker.terminate()
            await ended(worker)

        ran = f"cron:slow_ring:{int(first) * 1000}"
        assert ran not in await queue.waiting()
        assert await left_behind(queue) == []


async def test_a_worker_that_never_met_its_redis_ends_well_too(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    redis_server.kill()

    with worker_process(tmp_path, redis_server.url) as worker:
        assert worker.stderr is not None
        line = ""
        while "worker.redis_away" not in line:
            line = await asyncio.to_thread(worker.stderr.readline)
        worker.terminate()
        await ended(worker)


async def test_redis_gone_at_the_end_does_not_spoil_the_end(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url) as worker:
            await until(lambda: queue.notes("startup"))
            redis_server.kill()
            worker.terminate()
            _, lines = await asyncio.to_thread(worker.communicate, timeout=5)

    assert worker.returncode == 0, lines


async def test_a_burst_worker_runs_what_is_queued_and_is_done(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        await enqueue_many(queue.redis, [("brief", (), f"b{i}") for i in range(25)])
        worker = SurvivingWorker(**settings(redis_server.url, handle_signals=False, burst=True))
        ran = await worker.run_check()
        await worker.close()

    assert ran == 25


async def test_a_signal_while_redis_hangs_ends_within_the_cleanup_time(
    redis_server: RedisProcess, tmp_path: Path
) -> None:
    async with queue_of(redis_server.url) as queue:
        with worker_process(tmp_path, redis_server.url, job_completion_wait=1) as worker:
            await until(lambda: queue.notes("startup"))
            redis_server.freeze()
            try:
                worker.terminate()
                await ended(worker, 8)
            finally:
                redis_server.thaw()
