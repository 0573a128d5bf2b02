"""One scrape of `/metrics`. Without Postgres its counters are those last stored in Redis."""

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.health.metrics import read
from app.health.metrics.families import ScrapeData, exposition
from app.store.db import Pool
from app.store.reports.metrics import MetricTotal, QueueBacklog
from app.web.health.readiness import CHECK_SECONDS, POSTGRES_ERRORS
from app.web.health.snapshot import HealthSnapshot
from app.web.ttl_cache import TtlCache, with_deadline


async def scrape(redis: Redis, pool: Pool, snapshot: TtlCache[HealthSnapshot]) -> bytes:
    """Read all metrics and encode them. Never raises for Redis or Postgres."""
    health = await snapshot.value()
    counted = await _counted(pool)
    try:
        breakers, depth, kept = await with_deadline(CHECK_SECONDS, _from_redis(redis, counted))
        redis_up = True
    except (RedisError, OSError, TimeoutError):
        breakers, depth, kept, redis_up = [], {}, [], False
    data = ScrapeData(
        now=health.taken_at,
        jobs={key: (job.facts, job.health) for key, job in health.jobs.items()},
        workers=len(health.workers),
        redis_up=redis_up,
        totals=counted and counted[0],
        stored_totals=kept,
        waiting=counted and counted[1],
        collections=health.collections,
        system=health.system,
        open_breakers=breakers,
        queue_depths=depth,
    )
    return exposition(data)


async def _counted(pool: Pool) -> tuple[list[MetricTotal], QueueBacklog] | None:
    try:
        return await with_deadline(CHECK_SECONDS, read.read_totals(pool))
    except POSTGRES_ERRORS:
        return None


async def _from_redis(
    redis: Redis, counted: tuple[list[MetricTotal], QueueBacklog] | None
) -> tuple[list[str], dict[str, int], list[MetricTotal]]:
    if counted is not None:
        await read.store_totals(redis, counted[0])
    kept = [] if counted is not None else await read.stored_totals(redis)
    return await read.open_breakers(redis), await read.queue_depths(redis), kept
