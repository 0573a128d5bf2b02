"""Alarms go by elapsed time whatever happens to the machine's clock."""

import time
from itertools import pairwise

import pytest

from app.queue.clock import ElapsedClock
from tests.queue.harness import every_second, queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until


class Machine:
    """A machine whose clock can be set."""

    def __init__(self) -> None:
        self.wall = 1_000_000.0
        self.elapsed = 50.0

    def clock(self) -> ElapsedClock:
        return ElapsedClock(lambda: self.wall, lambda: self.elapsed)

    def pass_by(self, seconds: float) -> None:
        self.wall += seconds
        self.elapsed += seconds


def test_it_follows_the_machines_clock() -> None:
    machine = Machine()
    clock = machine.clock()

    machine.pass_by(7)

    assert clock() == machine.wall


@pytest.mark.parametrize("step", [-0.2, -300, -3600, -86_400 * 400])
def test_after_a_step_back_it_goes_on_and_meets_the_machines_clock_again(step: float) -> None:
    machine = Machine()
    clock = machine.clock()
    machine.wall += step

    readings = [clock()]
    for _ in range(10):
        machine.pass_by(1)
        readings.append(clock())

    gained = [later - earlier for earlier, later in pairwise(readings)]
    assert all(0 <= gain <= 1.2 for gain in gained), gained
    assert readings[-1] - readings[0] >= 8
    machine.pass_by(-step * 11)
    assert clock() == machine.wall


@pytest.mark.parametrize("step", [300, 3600, 86_400 * 400])
def test_after_a_step_forward_it_follows(step: float) -> None:
    machine = Machine()
    clock = machine.clock()

    machine.wall += step

    assert clock() == machine.wall


@pytest.mark.parametrize("step", [-3600.0, -300.0, 300.0, 3600.0])
async def test_a_cron_job_goes_on_after_the_clock_is_set(
    redis_server: RedisProcess, step: float
) -> None:
    error = 0.0

    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, cron_jobs=[every_second()]) as w,
    ):
        w._state.clock = ElapsedClock(  # pyright: ignore[reportPrivateUsage]
            lambda: time.time() + error
        )
        await until(lambda: queue.notes("ring", least=2))

        error = step
        before = len(await queue.notes("ring"))

        await until(lambda: queue.notes("ring", least=before + 3), 8)
