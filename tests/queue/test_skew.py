"""What is due is decided by Redis' clock, however wrong the clocks of the machines are."""

import time
from typing import Any

import arq.connections
import arq.worker
import pytest
from arq import Retry
from arq.worker import func

from app.queue import jobs
from app.queue import worker as worker_module
from app.queue.clock import ElapsedClock
from app.queue.jobs import enqueue
from tests.queue.harness import FUNCTIONS, Ctx, every_second, note, queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until

SKEWS = pytest.mark.parametrize("ahead", [-60.0, 60.0], ids=["slow", "fast"])


def set_clock(monkeypatch: pytest.MonkeyPatch, ahead: float) -> None:
    """Put the clock of this machine wrong, as far as arq and the queue read it."""

    def machine_ms() -> int:
        return round((time.time() + ahead) * 1000)

    for module in (arq.connections, arq.worker, jobs, worker_module):
        monkeypatch.setattr(module, "timestamp_ms", machine_ms)


def wrong(ahead: float) -> ElapsedClock:
    return ElapsedClock(lambda: time.time() + ahead)


@SKEWS
async def test_a_job_starts_at_once_for_whoever_asked_and_whoever_takes_it(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    async with queue_of(redis_server.url) as queue, working(redis_server.url) as worker:
        worker._state.clock = wrong(-ahead)  # pyright: ignore[reportPrivateUsage]
        set_clock(monkeypatch, ahead)
        asked = time.time()

        await enqueue(queue.redis, "brief", "asked")
        await enqueue(queue.redis, "brief", "deferred", defer_by=1.0)

        [started] = await until(lambda: queue.notes("asked"))
        [deferred] = await until(lambda: queue.notes("deferred"))
    assert started - asked < 2
    assert 1.0 <= deferred - asked < 3


@SKEWS
async def test_a_job_that_is_put_off_waits_for_its_delay(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    async def put_off(ctx: Ctx) -> None:
        await note(ctx, "try")
        if ctx["job_try"] == 1:
            raise Retry(defer=0.5)

    functions: list[Any] = [*FUNCTIONS, func(put_off, name="put_off", max_tries=5)]
    set_clock(monkeypatch, ahead)

    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, functions=functions),
    ):
        await enqueue(queue.redis, "put_off")
        first, second = await until(lambda: queue.notes("try", least=2))

    assert 0.45 <= second - first < 2.5


@SKEWS
async def test_a_cron_job_fires_each_second(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch, ahead: float
) -> None:
    set_clock(monkeypatch, ahead)
    worker_settings: dict[str, Any] = {"cron_jobs": [every_second()]}

    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, **worker_settings) as worker,
    ):
        worker._state.clock = wrong(ahead)  # pyright: ignore[reportPrivateUsage]
        notes = await until(lambda: queue.notes("ring", least=3))

    assert notes[-1] - notes[0] < 4
