"""Publishes the health of jobs that changed: after their runs, and what others have changed."""

import asyncio
import time
from collections.abc import Set as AbstractSet
from contextlib import suppress

from redis.asyncio import Redis
from redis.exceptions import RedisError

from app.core.collection_keys import is_collection
from app.core.tasks import cancel_all
from app.health import keys, publish
from app.store.db import TRANSIENT, Pool
from app.store.reports import health_changes

# A query for the facts of many jobs at once costs less than one for each.
PAUSE_SECONDS = 1.0  # between two publications after runs
COMPLETE_SECONDS = 300.0  # after which all jobs are published, changed or not
MAX_EVENTS = 50_000  # above which all jobs are published, instead of those the events name
EVENTS_AGAIN = 1_000  # events that may have been committed after a later one


class HealthPublisher:
    """Publishes the facts of jobs that changed. Each process has one.

    A job is published at once if the last publication was more than `pause` seconds ago, and
    otherwise together with the others that change until then.
    """

    def __init__(
        self, pool: Pool, redis: Redis, worker: str, *, pause: float = PAUSE_SECONDS
    ) -> None:
        self._pool, self._redis, self._worker, self._pause = pool, redis, worker, pause
        self._changed: set[str] = set()
        self._stamps: dict[str, str] = {}  # of the schedules when their facts were read
        self._event = 0  # up to which runs were looked at
        self._declared: AbstractSet[str] | None = None
        self._complete_at = self._published_at = float("-inf")
        self._later: asyncio.Task[None] | None = None

    async def publish_job(self, key: str) -> None:
        """Publish a job after a run, or after a tick that created none.

        Ignores collections, which are counted.
        """
        if is_collection(key):
            return
        self._changed.add(key)
        pause = self._published_at + self._pause - time.monotonic()
        if pause <= 0:
            await self._publish_changed()
        elif self._later is None or self._later.done():
            self._later = asyncio.create_task(self._publish_later(pause))

    async def publish_changes(self) -> None:
        """Publish what changed since the last call: also by other workers, edits and alerts.

        All jobs the first time, every five minutes, if Redis lost one, and if the live workers
        declare others than before.
        """
        event = await health_changes.last_event(self._pool)
        stamps = await health_changes.stamps(self._pool)
        declared = await publish.declared_jobs(self._redis)
        if await self._is_incomplete(event, stamps, declared):
            self._changed.clear()
            self._published_at = time.monotonic()
            written = await publish.write(self._pool, self._redis, None, declared)
            self._complete_at = time.monotonic()
        else:
            since = self._event - EVENTS_AGAIN
            moved = await health_changes.moved_since(self._pool, since, self._worker)
            self._changed.update(moved)
            self._changed.update(
                key for key, stamp in stamps.items() if self._stamps.get(key) != stamp
            )
            written = await self._publish_changed()
        self._event, self._stamps, self._declared = event, stamps | written, declared

    async def close(self) -> None:
        """Publish what waits for the next publication."""
        if self._later is not None:
            await cancel_all([self._later])
        with suppress(RedisError, *TRANSIENT):  # another worker finds it changed
            await self._publish_changed()

    async def _is_incomplete(
        self, event: int, stamps: dict[str, str], declared: AbstractSet[str] | None
    ) -> bool:
        return bool(
            time.monotonic() - self._complete_at > COMPLETE_SECONDS
            or declared != self._declared
            or event - self._event > MAX_EVENTS
            or self._stamps.keys() - stamps.keys()  # retired, perhaps while Redis was away
            or not await keys.has_jobs(self._redis, list(stamps))
        )

    async def _publish_later(self, pause: float) -> None:
        await asyncio.sleep(pause)
        with suppress(RedisError, *TRANSIENT):  # kept for the next publication
            await self._publish_changed()

    async def _publish_changed(self) -> dict[str, str]:
        """Publish the changed jobs; returns their stamps."""
        changed, self._changed = self._changed, set()
        if not changed:
            return {}
        self._published_at = time.monotonic()
        try:
            stamps = await publish.write(self._pool, self._redis, sorted(changed), self._declared)
        except BaseException:
            self._changed |= changed
            raise
        self._stamps |= stamps
        return stamps
