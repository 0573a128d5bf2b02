"""What the health addresses answer: read from Redis, judged, encoded once a second."""

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from app.config import Config
from app.health.facts import JobFacts, WorkerFacts
from app.health.judge import OverallReason, Verdict, all_well, judge
from app.health.keys import read_jobs, read_workers
from app.web.fresh import within
from app.words import HealthReason, JobStatus, RunStatus

VERSION = "0.1.0"
READ_SECONDS = 0.8

Overall = Literal["healthy", "unhealthy"]


class JobHealth(msgspec.Struct, frozen=True):
    """One job in `/health/scheduler`. Instants are UTC, ages and intervals seconds."""

    status: JobStatus
    last_run: datetime | None
    last_success: datetime | None
    last_status: RunStatus | None
    next_run: datetime | None
    age_seconds: float | None
    interval_seconds: float | None
    reason: HealthReason | None


class SchedulerHealth(msgspec.Struct, frozen=True):
    """The body of `/health/scheduler`. `reason` is there only if no job can be told of."""

    status: Overall
    jobs: dict[str, JobHealth]
    reason: OverallReason | msgspec.UnsetType = msgspec.UNSET


class Summary(msgspec.Struct, frozen=True):
    """The body of `/health`. `jobs` counts by status, `workers` those that beat."""

    status: Overall
    version: str
    workers: int
    jobs: dict[JobStatus, int]
    reason: OverallReason | msgspec.UnsetType = msgspec.UNSET


@dataclass(frozen=True, slots=True)
class JudgedJob:
    """What is known of a job, and what was made of it."""

    facts: JobFacts
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How all stood at `taken_at`, with the two answers already encoded."""

    taken_at: datetime
    jobs: dict[str, JudgedJob]
    workers: dict[str, WorkerFacts]
    reason: OverallReason | None
    well: bool
    scheduler: bytes
    summary_well: bool
    summary: bytes


def open_redis(config: Config, url: str) -> Redis:
    """A small client that gives up before a second is over."""
    tls = {"ssl_cert_reqs": config.redis_ssl_cert_reqs} if url.startswith("rediss://") else {}
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType]  # redis-py 5 has no types here
        url,
        max_connections=4,
        timeout=READ_SECONDS,
        socket_timeout=READ_SECONDS,
        socket_connect_timeout=READ_SECONDS,
        **tls,
    )
    return Redis.from_pool(pool)


async def take(redis: Redis) -> Snapshot:
    """Read and judge everything, within a second whatever Redis does."""
    try:
        jobs, workers = await within(READ_SECONDS, _read(redis))
    except (RedisError, OSError, TimeoutError):
        return _snapshot({}, {}, OverallReason.REDIS_UNREACHABLE, datetime.now(UTC))
    return _snapshot(jobs, workers, None if jobs else OverallReason.NO_JOBS, datetime.now(UTC))


async def _read(redis: Redis) -> tuple[dict[str, JobFacts], dict[str, WorkerFacts]]:
    return await read_jobs(redis), await read_workers(redis)


def _snapshot(
    facts: dict[str, JobFacts],
    workers: dict[str, WorkerFacts],
    reason: OverallReason | None,
    now: datetime,
) -> Snapshot:
    jobs = {key: JudgedJob(known, judge(known, now)) for key, known in facts.items()}
    statuses = [job.verdict.status for job in jobs.values()]
    well = all_well(statuses)
    # Every job may still be young when the last worker dies; only the summary can say so at once.
    idle = None if workers or reason else OverallReason.NO_WORKERS
    summary_well = well and idle is None
    scheduler = SchedulerHealth(
        _overall(well), {key: _shown(job) for key, job in jobs.items()}, reason or msgspec.UNSET
    )
    summary = Summary(
        _overall(summary_well),
        VERSION,
        len(workers),
        dict(Counter(statuses)),
        reason or idle or msgspec.UNSET,
    )
    return Snapshot(
        taken_at=now,
        jobs=jobs,
        workers=workers,
        reason=reason or idle,
        well=well,
        scheduler=msgspec.json.encode(scheduler),
        summary_well=summary_well,
        summary=msgspec.json.encode(summary),
    )


def _overall(well: bool) -> Overall:
    return "healthy" if well else "unhealthy"


def _shown(job: JudgedJob) -> JobHealth:
    facts, verdict = job.facts, job.verdict
    return JobHealth(
        status=verdict.status,
        last_run=facts.last_run,
        last_success=facts.last_success,
        last_status=facts.last_status,
        next_run=facts.next_run,
        age_seconds=None if verdict.age_seconds is None else round(verdict.age_seconds, 3),
        interval_seconds=facts.interval_seconds,
        reason=verdict.reason,
    )
