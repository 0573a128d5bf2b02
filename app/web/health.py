"""What is known of everything, read from Redis and judged once a second, for whoever asks."""

from dataclasses import dataclass, field
from datetime import UTC, datetime

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from app.config import Config
from app.health.facts import CollectionFacts, HouseFacts, JobFacts, WorkerFacts
from app.health.judge import DEFAULT, OverallReason, Rules, Verdict, all_well, judge
from app.health.keys import read_collections, read_house, read_jobs, read_workers
from app.web import answers
from app.web.fresh import within

VERSION = answers.VERSION
READ_SECONDS = 0.8


@dataclass(frozen=True, slots=True)
class Known:
    """What Redis said."""

    jobs: dict[str, JobFacts]
    workers: dict[str, WorkerFacts]
    collections: CollectionFacts | None = None
    house: HouseFacts = field(default_factory=HouseFacts)


@dataclass(frozen=True, slots=True)
class JudgedJob:
    """What is known of a job, and what was made of it."""

    facts: JobFacts
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Snapshot:
    """How all stood at `taken_at`, with two answers already encoded.

    `well`: no job is at fault. `summary_well`: and a worker beats. `reason`: why nothing can be
    said of the jobs, or why none of them will run.
    """

    taken_at: datetime
    jobs: dict[str, JudgedJob]
    workers: dict[str, WorkerFacts]
    collections: CollectionFacts | None
    house: HouseFacts
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


async def take(redis: Redis, rules: Rules = DEFAULT) -> Snapshot:
    """Read and judge everything, within a second whatever Redis does."""
    try:
        known = await within(READ_SECONDS, _read(redis))
    except (RedisError, OSError, TimeoutError):
        nothing = Known({}, {})
        return _snapshot(nothing, rules, OverallReason.REDIS_UNREACHABLE, datetime.now(UTC))
    reason = None if known.jobs else OverallReason.NO_JOBS
    return _snapshot(known, rules, reason, datetime.now(UTC))


async def _read(redis: Redis) -> Known:
    return Known(
        await read_jobs(redis),
        await read_workers(redis),
        await read_collections(redis),
        await read_house(redis),
    )


def _snapshot(known: Known, rules: Rules, reason: OverallReason | None, now: datetime) -> Snapshot:
    jobs = {key: JudgedJob(one, judge(one, now, rules)) for key, one in known.jobs.items()}
    statuses = [job.verdict.status for job in jobs.values()]
    well = all_well(statuses)
    # Every job may still be young when the last worker dies; only the summary can say so at once.
    idle = None if known.workers or reason else OverallReason.NO_WORKERS
    summary_well = well and idle is None
    told = {key: answers.job(job.facts, job.verdict) for key, job in jobs.items()}
    beside = answers.Beside(len(known.workers), reason or idle, known.collections, known.house)
    return Snapshot(
        taken_at=now,
        jobs=jobs,
        workers=known.workers,
        collections=known.collections,
        house=known.house,
        reason=reason or idle,
        well=well,
        scheduler=answers.scheduler(told, reason or (None if well else idle), well=well),
        summary_well=summary_well,
        summary=answers.summary(statuses, beside, well=summary_well),
    )
