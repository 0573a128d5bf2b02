"""Which jobs are published again, and when."""

from collections.abc import AsyncGenerator
from dataclasses import replace
from typing import Any, cast

import pytest
from arq.connections import ArqRedis

from app.core.enums import RunStatus
from app.health.facts import WorkerFacts
from app.health.keys import job_key, read_jobs, write_worker
from app.health.publisher import HealthPublisher
from app.ledger import edit
from app.store.db import Pool
from app.store.reports import health
from app.store.runs.attempt_rows import RunEnding
from tests import single_run
from tests.clock import SettableClock
from tests.ledger.harness import KEY, MINUTE, Book, every
from tests.wait import until


class Calls:
    """Stands for the pool, and keeps which facts were asked for: None is all."""

    def __init__(self, pool: Pool) -> None:
        self._pool = pool
        self.keys: list[list[str] | None] = []

    async def fetch(self, query: str, *args: Any) -> Any:
        if query in (health.ALL, health.SOME):
            self.keys.append(list(args[1]) if len(args) > 1 else None)
        return await self._pool.fetch(query, *args)

    async def fetchval(self, query: str, *args: Any) -> Any:
        return await self._pool.fetchval(query, *args)


class Desk:
    """A publisher that has published five jobs once, and what it asks for after that."""

    def __init__(self, book: Book, redis: ArqRedis) -> None:
        self.book, self.redis = book, redis
        self.calls = Calls(book.pool)
        self.publisher = HealthPublisher(cast("Pool", self.calls), redis, "me", pause=0)

    async def open(self) -> None:
        await self.book.open(every(1))
        for number in range(4):
            other = replace(every(1), key=f"other_{number}")
            await edit.edit(self.book.pool, other, self.book.clock())
        assert await self.published() == [None]

    async def published(self) -> list[list[str] | None]:
        """What is published when the cron entry is due."""
        await self.publisher.publish_changes()
        asked, self.calls.keys = self.calls.keys, []
        return asked


@pytest.fixture
async def desk(pool: Pool, redis: ArqRedis, clock: SettableClock) -> AsyncGenerator[Desk]:
    made = Desk(Book(pool, clock), redis)
    await made.open()
    yield made
    await made.publisher.close()


async def test_nothing_is_published_while_nothing_changes(desk: Desk) -> None:
    assert await desk.published() == []
    assert await desk.published() == []


async def test_a_paused_job_is_published(desk: Desk) -> None:
    await desk.book.pause()

    assert await desk.published() == [[KEY]]
    assert (await read_jobs(desk.redis))[KEY].paused_at is not None


async def test_a_run_of_another_worker_is_published_when_it_begins_and_when_it_ends(
    desk: Desk,
) -> None:
    book = desk.book
    (queued,) = await book.ring(after=MINUTE)
    await desk.published()

    claimed = await book.claim(queued)
    assert await desk.published() == [[KEY]]
    assert (await read_jobs(desk.redis))[KEY].running_since == book.clock()

    assert await single_run.finish(book.pool, claimed, RunEnding(RunStatus.SUCCESS, book.clock()))
    assert await desk.published() == [[KEY]]
    assert (await read_jobs(desk.redis))[KEY].last_status is RunStatus.SUCCESS


async def test_what_is_published_after_a_run_is_not_published_again(desk: Desk) -> None:
    book = desk.book
    publisher = HealthPublisher(cast("Pool", desk.calls), desk.redis, "worker", pause=0)
    await publisher.publish_changes()
    (queued,) = await book.ring(after=MINUTE)
    await book.finish(queued)  # of "worker"
    desk.calls.keys.clear()

    await publisher.publish_job(KEY)
    await publisher.publish_changes()

    assert desk.calls.keys == [[KEY]]
    assert (await read_jobs(desk.redis))[KEY].last_status is RunStatus.SUCCESS


async def test_a_job_that_alerts_have_at_fault_is_published(desk: Desk) -> None:
    await desk.book.pool.execute(
        "INSERT INTO health_states (key, status, ill, since, ill_since, flipped_at, sequence)"
        " VALUES ($1, 'unhealthy', true, $2, $2, $2, 1)",
        KEY,
        desk.book.clock(),
    )

    assert await desk.published() == [[KEY]]


async def test_all_jobs_are_published_if_redis_lost_one(desk: Desk) -> None:
    await desk.redis.delete(job_key("other_1"))

    assert await desk.published() == [None]
    assert (await read_jobs(desk.redis))["other_1"].registered_at is not None


async def test_all_jobs_are_published_when_workers_declare_others(desk: Desk) -> None:
    facts = WorkerFacts(seen_at=desk.book.clock(), jobs=(KEY,))
    await write_worker(desk.redis, "ada", 60, facts)

    assert await desk.published() == [None]
    assert await desk.published() == []
    known = await read_jobs(desk.redis)
    assert (known[KEY].orphaned, known["other_0"].orphaned) == (False, True)
    await desk.publisher.publish_job("other_0")
    assert (await read_jobs(desk.redis))["other_0"].orphaned


async def test_jobs_that_change_soon_after_one_another_are_published_together(desk: Desk) -> None:
    publisher = HealthPublisher(cast("Pool", desk.calls), desk.redis, "me", pause=0.3)

    for number in range(4):
        await publisher.publish_job(f"other_{number}")
    assert desk.calls.keys == [["other_0"]]
    await until(lambda: len(desk.calls.keys) > 1, what="the publication")

    assert desk.calls.keys[1:] == [["other_1", "other_2", "other_3"]]


async def test_what_waits_is_published_before_the_end(desk: Desk) -> None:
    publisher = HealthPublisher(cast("Pool", desk.calls), desk.redis, "me", pause=600)
    await publisher.publish_job("other_0")
    await publisher.publish_job("other_1")

    await publisher.close()

    assert desk.calls.keys == [["other_0"], ["other_1"]]


async def test_a_job_that_was_retired_while_redis_was_away_is_deleted(desk: Desk) -> None:
    await desk.book.pool.execute("UPDATE schedules SET retired_at = now() WHERE key = 'other_1'")

    assert await desk.published() == [None]
    assert await desk.published() == []
    assert "other_1" not in await read_jobs(desk.redis)
