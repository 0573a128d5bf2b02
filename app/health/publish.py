"""Publishes health facts from Postgres to Redis."""

from collections.abc import Sequence
from collections.abc import Set as AbstractSet
from dataclasses import replace
from datetime import UTC, datetime
from functools import lru_cache

from redis.asyncio import Redis

from app.core.collection_keys import is_collection
from app.core.errors import BadSchedule
from app.core.tasks import Slices
from app.health import history, keys
from app.health.facts import CollectionFacts, JobFacts
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool
from app.store.reports import health
from app.store.reports.health import JobRow


async def publish_job(pool: Pool, redis: Redis, key: str) -> None:
    """Publish the facts of a job now. Ignores collections, which are counted."""
    if not is_collection(key):
        await write(pool, redis, [key], None)


async def declared_jobs(redis: Redis) -> AbstractSet[str] | None:
    """Return the jobs that live workers declare; None unless all of them say what they declare."""
    declared = [worker.jobs for worker in (await keys.read_workers(redis)).values()]
    if not declared or None in declared:
        return None
    return {key for jobs in declared if jobs is not None for key in jobs}


async def write(
    pool: Pool, redis: Redis, jobs: Sequence[str] | None, declared: AbstractSet[str] | None
) -> dict[str, str]:
    """Write the facts of these built-in jobs, or of all; one that is not `declared` is orphaned.

    Returns the stamp of each (`health_changes`) when its facts were read.
    """
    slices, published = Slices(rest=1), list[tuple[str, JobFacts]]()
    rows = await health.facts(pool, datetime.now(UTC), jobs)
    for row in rows:
        facts = _facts(row)
        if declared is not None and row.key not in declared:
            facts = replace(facts, orphaned=True)
        published.append((row.key, facts))
        await slices.checkpoint()
    await keys.write_jobs(redis, published)
    if jobs is None:
        await keys.delete_other_jobs(redis, {row.key for row in rows})
    return {row.key: row.stamp for row in rows}


async def publish_collections(pool: Pool, redis: Redis, now: datetime) -> None:
    """Count the collections by status and publish the numbers."""
    counted = await health.count_collections(pool, now)
    overdue, failing = counted.get("overdue", 0), counted.get("failing", 0)
    facts = CollectionFacts(
        as_of=now,
        healthy=counted.get("healthy", 0),
        unhealthy=overdue + failing,
        not_started=counted.get("not_started", 0),
        paused=counted.get("paused", 0),
        overdue=overdue,
        failing=failing,
    )
    await keys.write_collections(redis, facts)


@lru_cache(maxsize=4096)
def _interval(schedule: Schedule) -> float | None:
    interval = schedule.interval  # computed by iteration for a cron expression
    return None if interval is None else interval.total_seconds()


def _facts(row: JobRow) -> JobFacts:
    known = JobFacts(
        job=row.job,
        last_run=row.ends[0][3] if row.ends else None,
        last_success=row.last_success,
        enabled=row.enabled,
        paused_at=row.paused_at,
        paused_by=row.paused_by,
        paused_note=row.paused_note,
        running_since=row.running_since,
        last_error=row.last_error,
        registered_at=row.registered_at,
    )
    try:
        schedule = Schedule.from_spec(row.spec, stamp=row.zone_data)
        policies = Policies.from_spec(row.policies)
    except BadSchedule as error:
        return replace(known, unreadable=str(error))
    known = history.with_runs(known, row.ends, row.ill_since)
    known = history.with_ticks(known, row.ticks, row.ill_since)
    jitter = policies.jitter.total_seconds()
    return replace(
        known,
        next_run=policies.next_run_from(schedule, row.next_tick_at),
        interval_seconds=_interval(schedule),
        silent_after=history.silent_after(
            schedule, policies, _last_activity(known, row.registered_at)
        ),
        late_by=None if row.late_by is None else row.late_by - jitter,
        grace_seconds=policies.misfire_grace.total_seconds(),
        last_new=row.last_new,
        sources=history.source_facts(row.sources, dict(row.sources_new), row.ill_since),
    )


def _last_activity(facts: JobFacts, registered_at: datetime) -> datetime:
    last = facts.last_run or registered_at
    return last if facts.rested_until is None else max(last, facts.rested_until)
