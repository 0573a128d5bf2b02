"""Health facts of all jobs, as a worker publishes them when it starts."""

from redis.asyncio import Redis

from app.health import publish
from app.store.db import Pool


async def publish_all_jobs(pool: Pool, redis: Redis) -> None:
    await publish.write(pool, redis, None, await publish.declared_jobs(redis))
