"""One scrape of `/metrics`. Without Postgres its counters are those last stored in Redis."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.health.facts import RetryBudget
from app.health.metrics import read
from app.health.metrics.families import ScrapeData, exposition
from app.store.db import Pool
from app.store.reports.metrics import MetricTotal, QueueBacklog
from app.store.runs import source_usage
from app.web.health.readiness import CHECK_SECONDS, POSTGRES_ERRORS
from app.web.health.snapshot import HealthSnapshot
from app.web.ttl_cache import TtlCache, with_deadline


@dataclass(frozen=True, slots=True)
class _FromRedis:
    breakers: list[str] = field(default_factory=list[str])
    retries: list[RetryBudget] = field(default_factory=list[RetryBudget])
    depths: dict[str, int] = field(default_factory=dict[str, int])
    kept: list[MetricTotal] = field(default_factory=list[MetricTotal])


async def scrape(
    redis: Redis,
    pool: Pool,
    snapshot: TtlCache[HealthSnapshot],
    monthly_requests: Mapping[str, int],
) -> bytes:
    """Read all metrics and encode them. Never raises for Redis or Postgres."""
    health = await snapshot.value()
    counted = await _counted(pool)
    try:
        values = await with_deadline(CHECK_SECONDS, _from_redis(redis, counted))
        redis_up = True
    except (RedisError, OSError, TimeoutError):
        values, redis_up = _FromRedis(), False
    data = ScrapeData(
        now=health.taken_at,
        jobs={key: (job.facts, job.health) for key, job in health.jobs.items()},
        workers=len(health.workers),
        redis_up=redis_up,
        totals=counted and counted[0],
        stored_totals=values.kept,
        waiting=counted and counted[1],
        collections=health.collections,
        system=health.system,
        open_breakers=values.breakers,
        retry_budgets=values.retries,
        monthly_requests=monthly_requests,
        month_used=await _month_used(pool) if monthly_requests else None,
        queue_depths=values.depths,
    )
    return exposition(data)


async def _counted(pool: Pool) -> tuple[list[MetricTotal], QueueBacklog] | None:
    try:
        return await with_deadline(CHECK_SECONDS, read.read_totals(pool))
    except POSTGRES_ERRORS:
        return None


async def _month_used(pool: Pool) -> dict[str, int] | None:
    try:
        return await with_deadline(CHECK_SECONDS, source_usage.used_this_month(pool))
    except POSTGRES_ERRORS:
        return None


async def _from_redis(
    redis: Redis, counted: tuple[list[MetricTotal], QueueBacklog] | None
) -> _FromRedis:
    if counted is not None:
        await read.store_totals(redis, counted[0])
    kept = [] if counted is not None else await read.stored_totals(redis)
    return _FromRedis(
        await read.open_breakers(redis),
        await read.retry_budgets(redis),
        await read.queue_depths(redis),
        kept,
    )
