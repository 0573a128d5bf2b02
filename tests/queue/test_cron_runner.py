"""Cron entries without a queue: each start in one process, and what was claimed is run."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from typing import Any

from arq.connections import ArqRedis
from structlog.testing import capture_logs

from app.queue.cron import ScheduleCron, cron_entry
from app.queue.cron_runner import BATCH_SIZE, CronRunner
from app.queue.jobs import redis_pool
from app.scheduling.schedule import Schedule
from tests.queue.harness import queue_of
from tests.redis_process import RedisProcess
from tests.wait import until

SOON = timedelta(seconds=0.4)  # within what a runner claims at once


def entry(name: str, step: Any, every: float = 3600, *, timeout: float = 30) -> ScheduleCron:
    """An entry that is due soon, and then every so many seconds."""
    anchor = datetime.now(UTC) + SOON
    return cron_entry(name, step, Schedule.every(every, anchor=anchor), timeout=timeout)


def runner_of(redis: ArqRedis, *entries: ScheduleCron) -> CronRunner:
    async def beat() -> None:
        """Do nothing."""

    return CronRunner(redis, entries, {}, 64, beat, 5)


@contextlib.asynccontextmanager
async def running(url: str, *entries: ScheduleCron) -> AsyncGenerator[CronRunner]:
    redis = redis_pool(url)
    runner = runner_of(redis, *entries)
    task = asyncio.create_task(runner.run())
    try:
        yield runner
    finally:
        runner.stop()
        await task
        await redis.aclose(close_connection_pool=True)


class Seen:
    """The starts that were run, by job id."""

    def __init__(self) -> None:
        self.ids: list[str] = []

    async def __call__(self, ctx: dict[str, Any]) -> None:
        self.ids.append(ctx["job_id"])


async def test_each_start_is_run_by_one_of_two_processes_and_none_twice(
    redis_server: RedisProcess,
) -> None:
    one, other = Seen(), Seen()
    number = 5 * BATCH_SIZE
    first = [entry(f"e{n}", one) for n in range(number)]
    second = [cron_entry(each.name, other, each.schedule) for each in first]

    async with running(redis_server.url, *first), running(redis_server.url, *second):
        await until(lambda: len(one.ids) + len(other.ids) >= number)

    assert len({*one.ids, *other.ids}) == len(one.ids) + len(other.ids) == number
    assert one.ids
    assert other.ids


async def test_a_start_is_not_early_and_names_its_instant(redis_server: RedisProcess) -> None:
    begun: list[tuple[str, datetime]] = []

    async def step(ctx: dict[str, Any]) -> None:
        begun.append((ctx["job_id"], datetime.now(UTC)))

    tick = entry("tick", step)
    async with running(redis_server.url, tick):
        await until(lambda: begun)

    ((job_id, at),) = begun
    due = datetime.fromtimestamp(int(job_id.removeprefix("tick:")) / 1000, UTC)
    tick_at = tick.schedule.previous(at)
    assert tick_at is not None, "it was early"
    assert abs(due - tick_at) < timedelta(milliseconds=1)  # an id has whole milliseconds


async def test_what_was_claimed_is_run_before_the_end(redis_server: RedisProcess) -> None:
    seen = Seen()
    async with queue_of(redis_server.url) as queue:
        async with running(redis_server.url, entry("late", seen)):
            await until(lambda: queue.keys("arq:in-progress:late:*"))
            assert not seen.ids

        assert len(seen.ids) == 1


async def test_an_entry_that_fails_or_hangs_does_not_stop_the_others(
    redis_server: RedisProcess,
) -> None:
    seen, hung = Seen(), asyncio.Event()

    async def fail(ctx: dict[str, Any]) -> None:
        raise ValueError(ctx["job_id"])

    async def hang(_: dict[str, Any]) -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            hung.set()

    with capture_logs() as lines:
        entries = [entry("fails", fail), entry("hangs", hang, timeout=0.05), entry("s", seen, 1)]
        async with running(redis_server.url, *entries):
            await until(lambda: len(seen.ids) >= 2)
            await until(hung.is_set)

    failed = {line["entry"] for line in lines if line["event"] == "cron.failed"}
    assert failed == {"fails", "hangs"}


async def test_it_goes_on_when_redis_was_away(redis_server: RedisProcess) -> None:
    seen = Seen()
    with capture_logs() as lines:
        async with running(redis_server.url, entry("s", seen, 1)):
            await until(lambda: seen.ids)
            redis_server.kill()
            await until(lambda: any(line["event"] == "worker.redis_away" for line in lines))
            before = len(seen.ids)
            redis_server.start()
            await until(lambda: len(seen.ids) > before)

    assert any(line["event"] == "worker.redis_back" for line in lines)
    assert len(set(seen.ids)) == len(seen.ids)


async def test_the_starts_of_punctual_entries_are_expected_also_when_another_process_runs_them(
    redis_server: RedisProcess,
) -> None:
    seen = Seen()
    punctual, other = entry("punctual", seen), entry("other", seen, 0.5)
    punctual.punctual = True

    async with running(redis_server.url, other), running(redis_server.url, punctual) as runner:
        due = punctual.next_run
        assert due is not None
        await until(lambda: runner.starts.rest(0.2) > 0)
        assert due - datetime.now(UTC) < timedelta(seconds=0.3), "not before it is near"
        await until(lambda: len([one for one in seen.ids if one.startswith("punctual")]) == 1)
