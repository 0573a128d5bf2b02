"""A process that watches until it is killed: `python -m tests.alerts.watch_process`."""

import asyncio

from app.core.config import load
from app.health.alerts.watcher import AlertWatcher
from app.queue.jobs import redis_pool
from app.store.db import open_pool

EVERY = 0.1  # seconds


async def main() -> None:
    config = load()
    assert config.database_url is not None
    assert config.redis_url is not None
    pool = await open_pool(config.database_url.get_secret_value(), size=3)
    redis = redis_pool(config.redis_url.get_secret_value())
    await AlertWatcher(config, pool, redis).run_forever(EVERY)


if __name__ == "__main__":
    asyncio.run(main())
