"""Counts ticks of the last day that have no outcome, for the built-in schedules.

`rollcall verify` checks the whole history tick by tick. This only compares counts for one day,
so that it can run every few minutes.
"""

from datetime import datetime, timedelta

from app.core.errors import BadSchedule
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.reports import accounting
from app.store.reports.accounting import VersionSpan

WINDOW = timedelta(days=1)
_INSTANT = timedelta(microseconds=1)


async def unaccounted(pool: Pool, now: datetime) -> int:
    """The number of ticks without an outcome in the day up to each schedule's frontier."""
    return sum(_missing(one) for one in await accounting.version_spans(pool, now - WINDOW))


def _missing(stretch: VersionSpan) -> int:
    try:
        schedule = Schedule.from_spec(stretch.spec, stamp=stretch.zone_data)
    except BadSchedule:  # its health says so; its ticks are held
        return 0
    expected = schedule.count(stretch.after, stretch.until)
    within = sum(
        schedule.count(max(first - _INSTANT, stretch.after), min(last, stretch.until))
        for first, last in stretch.gaps
    )
    return max(expected - stretch.ticks - within, 0)
