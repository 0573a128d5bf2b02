"""Retention of ticks: days are dropped whole, the rest is deleted in batches; numbers stay.

Safe to run twice and to interrupt.
"""

import asyncio
from datetime import datetime, timedelta

import asyncpg

from app.core import log
from app.core.errors import BadSchedule
from app.scheduling.schedule import Schedule
from app.store import retention
from app.store.content import partitions
from app.store.db import LOCKED, Connection, Pool
from app.store.schedules import tick_days
from app.store.schedules.tick_days import CountedDay, CountedVersion

BATCH_ROWS = 1_000
# Seconds between two batches, so that other transactions get locks and I/O.
BATCH_PAUSE_SECONDS = 0.01
COUNTS = 3  # how often a day is counted if it changes before it can be dropped
_MOMENT = timedelta(microseconds=1)

_log = log.logger(__name__)


async def prune(pool: Pool, before: datetime) -> int:
    """Replace the ticks of days that ended before `before` by counts; returns their number.

    A day that cannot be dropped now, and all later ones, are left to the next time.
    """
    before, deleted = partitions.day_start(before), 0
    for name, since, until in await tick_days.ended(pool, before):
        # Days are dropped in order, after all that is older than them.
        deleted += await _prune_rows(pool, since)
        dropped = await _drop_day(pool, name, since, until)
        if dropped is None:
            return deleted
        deleted += dropped
    return deleted + await _prune_rows(pool, before)


async def count(pool: Pool, before: datetime) -> int:
    """Count the ticks that `prune` would replace."""
    return await retention.count_ticks(pool, partitions.day_start(before))


async def _drop_day(pool: Pool, name: str, since: datetime, until: datetime) -> int | None:
    """Drop one partition; returns the number of ticks in it, or None if it is still there."""
    deleted = 0
    try:
        for _ in range(COUNTS):
            day = await tick_days.count(pool, name, since, until)
            for schedule_id in sorted(day.slow):
                deleted += await _prune_schedule(pool, schedule_id, until)
            numbers = await asyncio.to_thread(_numbers, day)
            if await partitions.briefly(lambda: tick_days.drop(pool, day, numbers)):  # noqa: B023 - awaited here
                _log.info("ticks.day_dropped", name=name, rows=day.rows)
                await _fold(pool, day)
                return deleted + day.rows
    except LOCKED as error:
        _log.warning("ticks.day_kept", name=name, error=str(error))
    except asyncpg.UndefinedTableError:  # another process dropped it
        return deleted
    return None


def _numbers(day: CountedDay) -> list[tuple[CountedVersion, datetime | None, int]]:
    """Return up to where the ticks of each version become numbers, and how many it should have."""
    numbers: list[tuple[CountedVersion, datetime | None, int]] = []
    for one in day.versions:
        since = one.pruned_through or one.effective_from
        until = min(day.until - _MOMENT, one.answers_until or day.until)
        if one.effective_from < until and since < until:
            numbers.append((one, until, _count(one, since, until)))
        elif one.recorded:
            numbers.append((one, None, 0))
    return numbers


def _count(one: CountedVersion, since: datetime, until: datetime) -> int:
    try:
        schedule = Schedule.from_spec(one.spec, stamp=one.zone_data)
    except BadSchedule:  # what was recorded is all that there is to count
        return sum(one.recorded.values())
    return schedule.count(since, until)


async def _fold(pool: Pool, day: CountedDay) -> None:
    counted = sorted({one.schedule_id for one in day.versions})
    for schedule_id in await tick_days.with_several_versions(pool, counted):
        await retention.fold_versions(pool, schedule_id)


async def _prune_rows(pool: Pool, before: datetime) -> int:
    deleted = 0
    for schedule_id in await retention.with_old_ticks(pool, before):
        deleted += await _prune_schedule(pool, schedule_id, before)
    return deleted


async def _prune_schedule(pool: Pool, schedule_id: int, before: datetime) -> int:
    deleted = 0
    while count := await prune_ticks(pool, schedule_id, before):
        deleted += count
        await asyncio.sleep(BATCH_PAUSE_SECONDS)
    return deleted


async def prune_ticks(
    pool: Pool, schedule_id: int, before: datetime, batch: int = BATCH_ROWS
) -> int:
    """Replace a batch of one schedule's ticks by counts, under its row lock.

    Returns the number of ticks deleted.
    """
    async with pool.acquire() as connection, connection.transaction():
        through = await retention.prune_boundary(connection, schedule_id, before, batch)
        if through is None:
            return 0
        # `verify` needs both counts: the expected ticks of each version, and the outcomes stored.
        counted = [
            (span, await _count_expected(connection, schedule_id, span))
            for span in await retention.prunable_spans(connection, schedule_id, through)
        ]
        return await retention.prune_ticks(connection, schedule_id, through, counted)


async def _count_expected(
    connection: Connection, schedule_id: int, span: retention.PrunableSpan
) -> int:
    try:
        schedule = Schedule.from_spec(span.spec, stamp=span.zone_data)
    except BadSchedule:  # what was recorded is all that there is to count
        return await retention.count_recorded(connection, schedule_id, span)
    return schedule.count(span.since, span.until)
