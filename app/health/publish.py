"""From the record to Redis: what health is judged by, after every run and every ten seconds."""

from collections.abc import Iterable, Iterator
from functools import lru_cache

from redis.asyncio import Redis

from app.health import keys
from app.health.facts import JobFacts
from app.scheduling.schedule import Schedule
from app.store import health
from app.store.db import Pool
from app.store.health import JobRow
from app.words import RunStatus


async def job(pool: Pool, redis: Redis, key: str) -> None:
    """Write what is known of one job."""
    await keys.write_jobs(redis, _told(await health.facts(pool, key)))


async def all_jobs(pool: Pool, redis: Redis) -> None:
    """Write every built-in job again: Redis may have been emptied."""
    await keys.write_jobs(redis, _told(await health.facts(pool)))


def _told(rows: Iterable[JobRow]) -> Iterator[tuple[str, JobFacts]]:
    return ((row.key, _facts(row)) for row in rows)


@lru_cache(maxsize=4096)
def _interval(schedule: Schedule) -> float | None:
    interval = schedule.interval  # of a cron expression, found by walking it
    return None if interval is None else interval.total_seconds()


def _facts(row: JobRow) -> JobFacts:
    interval = _interval(Schedule.from_spec(row.spec))
    return JobFacts(
        job=row.job,
        last_run=row.last_run,
        last_success=row.last_success,
        last_status=None if row.last_status is None else RunStatus(row.last_status),
        next_run=row.next_tick_at,
        interval_seconds=interval,
        enabled=row.enabled,
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        paused_note=row.paused_note,
        running_since=row.running_since,
        last_error=row.last_error,
        consecutive_failures=row.consecutive_failures,
        registered_at=row.registered_at,
    )
