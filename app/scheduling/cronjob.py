"""arq's cron job on our schedule: it rings at the instants the schedule names, and only rings."""

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from arq.cron import CronJob
from arq.typing import WorkerCoroutine

from app.scheduling.schedule import Schedule

RING_TIMEOUT = 30.0

_INSTANT = timedelta(microseconds=1)


def utc_now() -> datetime:
    """Read the clock."""
    return datetime.now(UTC)


@dataclass(repr=False)
class ScheduleCron(CronJob):
    """A cron job whose next instant is our schedule's; arq's own time fields say nothing here."""

    schedule: Schedule = field(kw_only=True)
    clock: Callable[[], datetime] = field(default=utc_now, kw_only=True)

    def calculate_next(self, prev_run: datetime) -> None:
        """Set `next_run` to the first ring after `prev_run`, or to the newest one missed since.

        arq would replay every missed ring, one at each poll; one ring is enough, for the ledger
        decides all that is due.
        """
        following = _ring_after(self.schedule, prev_run)
        now = self.clock()
        newest = _last_ring(self.schedule, now) if following < now else None
        self.next_run = following if newest is None else max(following, newest)


def alarm(
    name: str,
    coroutine: WorkerCoroutine,
    schedule: Schedule,
    *,
    timeout: float = RING_TIMEOUT,
    clock: Callable[[], datetime] = utc_now,
) -> ScheduleCron:
    """Declare an alarm: once per instant however many workers ring, tried once, result not kept.

    `timeout`: seconds the ring itself may take.
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


def _ring_after(schedule: Schedule, instant: datetime) -> datetime:
    """Find the first ring later than `instant`: that of the tick before it, if still to come."""
    tick = schedule.previous(instant + _INSTANT) if schedule.jitter else None
    if tick is not None and schedule.starts_at(tick) > instant:
        return schedule.starts_at(tick)
    return schedule.starts_at(schedule.next(instant))


def _last_ring(schedule: Schedule, instant: datetime) -> datetime | None:
    tick = schedule.previous(instant + _INSTANT)
    if tick is not None and schedule.starts_at(tick) > instant:
        tick = schedule.previous(tick)
    return tick if tick is None else schedule.starts_at(tick)
