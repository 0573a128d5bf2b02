"""Private servers for a benchmark, and the environment of worker processes that use them."""

import asyncio
import os
import tempfile
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from app import embedded, migrations
from app.store import db
from app.store.db import Pool
from scripts.child_processes import ChildEnvironment

ROOT = Path(__file__).resolve().parents[2]
WORKER = ("arq", "app.workers.Settings")  # a worker as production starts it


@dataclass(frozen=True, slots=True)
class WorkerServers:
    """A pool of the migrated database, and the environment to start workers in."""

    pool: Pool
    environment: ChildEnvironment


@asynccontextmanager
async def worker_servers(
    pool_size: int, stop_timeout: float, **settings: str
) -> AsyncGenerator[WorkerServers]:
    """Run private servers in a temporary folder. Workers may reach this machine, and log errors.

    `settings`: further variables of the workers. `stop_timeout`: seconds that they have to end.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        servers = await asyncio.to_thread(embedded.start, folder / "servers")
        stack.push_async_callback(asyncio.to_thread, servers.close)
        await asyncio.to_thread(migrations.upgrade, servers.database_url)
        pool = await db.open_pool(servers.database_url, size=pool_size)
        stack.push_async_callback(pool.close)
        env = {
            **os.environ,  # noqa: TID251 - for the child
            "DATABASE_URL": servers.database_url,
            "REDIS_URL": servers.redis_url,
            "GUARD_ALLOW": "127.0.0.1",
            "LOG_LEVEL": "error",
            **settings,
        }
        yield WorkerServers(pool, ChildEnvironment(env, ROOT, folder, stop_timeout))
