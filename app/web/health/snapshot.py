"""The health snapshot: facts read from Redis, the status of every job, encoded responses."""

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.enums import COLLECTION_TASK, SOURCE_TASK
from app.health.facts import CollectionFacts, JobFacts, SystemFacts, WorkerFacts
from app.health.judge import (
    DEFAULT_RULES,
    HealthRules,
    HealthStatus,
    OverallReason,
    all_healthy,
    judge,
)
from app.health.keys import read_collections, read_jobs, read_system, read_workers, write_refusal
from app.web.health import responses
from app.web.ttl_cache import with_deadline

READ_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class HealthFacts:
    """The facts read from Redis. `writable`: asked only if there is no live worker."""

    jobs: dict[str, JobFacts]
    workers: dict[str, WorkerFacts]
    collections: CollectionFacts | None = None
    system: SystemFacts = field(default_factory=SystemFacts)
    writable: bool = True


@dataclass(frozen=True, slots=True)
class JudgedJob:
    """The facts of a job and its health."""

    facts: JobFacts
    health: HealthStatus


@dataclass(frozen=True, slots=True)
class HealthSnapshot:
    """The health of everything at `taken_at`, with two responses already encoded.

    `healthy`: no job is at fault. `summary_healthy`: no job is at fault and a worker is live.
    `reason`: why the state of the jobs is unknown, or why no job will run.
    """

    taken_at: datetime
    jobs: dict[str, JudgedJob]
    workers: dict[str, WorkerFacts]
    collections: CollectionFacts | None
    system: SystemFacts
    reason: OverallReason | None
    healthy: bool
    scheduler: bytes
    summary_healthy: bool
    summary: bytes

    @property
    def run_by_hand(self) -> list[str]:
        """The jobs of the live workers that have no schedule."""
        known = {task for worker in self.workers.values() for task in worker.tasks or ()}
        return sorted(known - {SOURCE_TASK, COLLECTION_TASK} - self.jobs.keys())


async def take_snapshot(redis: Redis, rules: HealthRules = DEFAULT_RULES) -> HealthSnapshot:
    """Read and judge everything. Takes at most READ_SECONDS and never raises for Redis."""
    try:
        known = await with_deadline(READ_SECONDS, _read(redis))
    except (RedisError, OSError, TimeoutError):
        return _snapshot(
            HealthFacts({}, {}), rules, OverallReason.REDIS_UNREACHABLE, datetime.now(UTC)
        )
    reason = None if known.jobs else OverallReason.NO_JOBS
    return _snapshot(known, rules, reason, datetime.now(UTC))


async def _read(redis: Redis) -> HealthFacts:
    # At once: one that is far away would not answer them one after the other in time.
    jobs, workers, collections, system = await asyncio.gather(
        read_jobs(redis), read_workers(redis), read_collections(redis), read_system(redis)
    )
    writable = bool(workers) or await write_refusal(redis) is None
    return HealthFacts(jobs, workers, collections, system, writable)


def _snapshot(
    known: HealthFacts, rules: HealthRules, reason: OverallReason | None, now: datetime
) -> HealthSnapshot:
    jobs = {key: JudgedJob(facts, judge(facts, now, rules)) for key, facts in known.jobs.items()}
    verdicts = [job.health for job in jobs.values()]
    well = all_healthy(verdicts)
    # Jobs stay healthy for a while after the last worker dies; the summary shows it at once.
    no_workers = None if known.workers or reason else OverallReason.NO_WORKERS
    if not known.writable:
        reason, no_workers = None, OverallReason.REDIS_REFUSES_WRITES
    summary_well = well and no_workers is None
    entries = {key: responses.job(job.facts, job.health) for key, job in jobs.items()}
    beside = responses.SummaryContext(
        len(known.workers),
        reason or no_workers,
        known.collections,
        known.system,
        len({fault for worker in known.workers.values() for fault in worker.faulty_jobs}),
    )
    return HealthSnapshot(
        taken_at=now,
        jobs=jobs,
        workers=known.workers,
        collections=known.collections,
        system=known.system,
        reason=reason or no_workers,
        healthy=well,
        scheduler=responses.scheduler(
            entries, reason or (None if well else no_workers), healthy=well
        ),
        summary_healthy=summary_well,
        summary=responses.summary([one.status for one in verdicts], beside, healthy=summary_well),
    )
