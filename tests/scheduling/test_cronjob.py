"""Rules of the alarm clock: it rings at the schedule's instants and replays no backlog."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from arq.cron import CronJob
from arq.worker import Worker

from app.queue.cron import ScheduleCron, cron_entry
from app.scheduling.schedule import Schedule

NOON = datetime(2026, 3, 20, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)

SCHEDULES = [
    Schedule.every(420, name="plain"),
    Schedule.every(420, name="spread", jitter=timedelta(minutes=9)),
    Schedule.cron("*/7 * * * *", "Europe/Berlin", name="cron"),
    Schedule.cron("*/7 * * * *", "Europe/Berlin", name="cron", jitter=timedelta(minutes=5)),
]


async def ring(ctx: dict[Any, Any]) -> None:
    """Ring, and nothing else."""
    del ctx


class Clock:
    """A clock that stands where it is put."""

    def __init__(self, now: datetime) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now


def rung(job: ScheduleCron, after: datetime) -> datetime:
    job.calculate_next(after)
    assert job.next_run is not None
    return job.next_run


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_tick_rings_once_at_its_start(schedule: Schedule) -> None:
    job = cron_entry("ring", ring, schedule, clock=Clock(NOON))
    ticks = list(schedule.ticks(NOON, NOON + 600 * MINUTE))

    rings = [rung(job, schedule.starts_at(ticks[0]) - timedelta(microseconds=1))]
    while len(rings) < len(ticks):
        rings.append(rung(job, rings[-1]))

    assert rings == [schedule.starts_at(tick) for tick in ticks]


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_tick_that_waits_for_its_jitter_rings_after_a_restart(schedule: Schedule) -> None:
    tick = schedule.next(NOON)
    start = schedule.starts_at(tick)
    job = cron_entry("ring", ring, schedule, clock=Clock(tick))

    first = rung(job, tick - timedelta(microseconds=1))

    assert first == start


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_a_backlog_rings_once_for_the_newest_missed_tick(schedule: Schedule) -> None:
    now = NOON + timedelta(days=3, seconds=17)
    job = cron_entry("ring", ring, schedule, clock=Clock(now))

    missed = rung(job, NOON)
    following = rung(job, missed)

    assert missed <= now < following
    assert missed == max(
        start
        for start in map(schedule.starts_at, schedule.ticks(now - 60 * MINUTE, now))
        if start <= now
    )


def test_a_clock_gone_back_rings_what_comes_after_the_last_ring() -> None:
    schedule = Schedule.every(60)
    job = cron_entry("ring", ring, schedule, clock=Clock(NOON - 60 * MINUTE))

    following = rung(job, NOON)

    assert following == NOON + MINUTE


async def test_an_alarm_is_a_cron_job_as_arq_knows_it() -> None:
    job = cron_entry("ring", ring, Schedule.every(60), timeout=5)

    worker = Worker(cron_jobs=[job], handle_signals=False)

    assert isinstance(job, CronJob)
    assert worker.functions["ring"] is job
    assert (job.unique, job.run_at_startup, job.max_tries) == (True, False, 1)
    assert (job.keep_result_s, job.timeout_s, job.next_run) == (0, 5, None)


def test_an_alarm_compares_with_the_clock_of_a_worker_in_any_zone() -> None:
    job = cron_entry("ring", ring, Schedule.every(60), clock=Clock(NOON))
    local = NOON.astimezone(tz=None)

    following = rung(job, local)

    assert following == NOON + MINUTE
    assert following > local
