"""An arq cron job whose run times come from a Schedule."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from arq.cron import CronJob
from arq.typing import WorkerCoroutine

from app.queue.clock import elapsed
from app.scheduling.schedule import Schedule

TRIGGER_TIMEOUT_SECONDS = 30.0

_INSTANT = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Return the present time, which never goes back."""
    return datetime.fromtimestamp(elapsed(), UTC)


@dataclass(repr=False)
class ScheduleCron(CronJob):
    """A cron job that runs at the ticks of `schedule`; arq's own time fields are not used.

    `punctual`: work in bulk makes way for its starts.
    """

    schedule: Schedule = field(kw_only=True)
    clock: Callable[[], datetime] = field(default=utc_now, kw_only=True)
    punctual: bool = field(default=False, kw_only=True)

    def calculate_next(self, prev_run: datetime) -> None:
        """Set `next_run` to the first start after `prev_run`, or to the latest one missed since.

        arq would run every missed start, one at each poll; one is enough, as the ledger decides
        all ticks that are due.
        """
        following = _start_after(self.schedule, prev_run)
        now = self.clock()
        newest = _last_start(self.schedule, now) if following < now else None
        self.next_run = following if newest is None else max(following, newest)


def cron_entry(
    name: str,
    coroutine: WorkerCoroutine,
    schedule: Schedule,
    *,
    timeout: float = TRIGGER_TIMEOUT_SECONDS,
    clock: Callable[[], datetime] = utc_now,
) -> ScheduleCron:
    """Return a cron entry that runs once per tick across all workers, without retries or results.

    `timeout`: seconds that the coroutine may take.
    """
    return ScheduleCron(
        name=name,
        coroutine=coroutine,
        month=None,
        day=None,
        weekday=None,
        hour=None,
        minute=None,
        second=None,
        microsecond=0,
        run_at_startup=False,
        unique=True,
        job_id=None,
        timeout_s=timeout,
        keep_result_s=0,
        keep_result_forever=False,
        max_tries=1,
        schedule=schedule,
        clock=clock,
    )


def _start_after(schedule: Schedule, instant: datetime) -> datetime:
    """Return the first start later than `instant`, which may be of a tick before it (jitter)."""
    tick = schedule.previous(instant + _INSTANT) if schedule.jitter else None
    if tick is not None and schedule.starts_at(tick) > instant:
        return schedule.starts_at(tick)
    return schedule.starts_at(schedule.next(instant))


def _last_start(schedule: Schedule, instant: datetime) -> datetime | None:
    tick = schedule.previous(instant + _INSTANT)
    if tick is not None and schedule.starts_at(tick) > instant:
        tick = schedule.previous(tick)
    return tick if tick is None else schedule.starts_at(tick)
