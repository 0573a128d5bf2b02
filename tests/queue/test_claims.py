"""The claim of a job brings its body and counts its try, whatever others wrote under its keys."""

import asyncio
from typing import Any

from app.queue.claimed_jobs import ClaimedJob
from app.queue.job_claims import CLAIM, FINISH, RELEASE
from app.queue.jobs import enqueue, enqueue_many
from tests.queue.harness import Queue, queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until

CLAIMS, JOBS, TRIES = "arq:in-progress:", "arq:job:", "arq:retry:"


async def claim(queue: Queue, token: str) -> list[ClaimedJob]:
    answer: Any = await CLAIM(
        queue.redis, "arq:queue", CLAIMS, JOBS, TRIES, token, 60_000, 10, 1_000, 100, 10, 0
    )
    return ClaimedJob.read(answer[0])


async def release(queue: Queue, token: str) -> None:
    await RELEASE(queue.redis, "arq:queue", CLAIMS, TRIES, token, 100)


async def test_a_claim_brings_the_body_and_the_number_of_the_try(
    redis_server: RedisProcess,
) -> None:
    async with queue_of(redis_server.url) as queue:
        await enqueue(queue.redis, "brief", "x", job_id="one")

        (job,) = await claim(queue, "a")

        assert (job.id, job.tries) == ("one", 1)
        assert job.body == await queue.raw("arq:job:one")
        assert await claim(queue, "b") == []


async def test_a_claim_that_is_given_back_was_no_try(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        await enqueue(queue.redis, "brief", "x", job_id="one")
        for _ in range(3):
            (job,) = await claim(queue, "a")
            assert job.tries == 1
            await release(queue, "another")
            assert await claim(queue, "a") == []
            await release(queue, "a")


async def test_the_try_of_a_job_that_a_worker_returns_is_forgotten_before_others_can_claim_it(
    redis_server: RedisProcess,
) -> None:
    wanted = [("letting_go", (), f"j{i}") for i in range(20)]
    tries: dict[str, int] = {}

    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, max_jobs=20, job_completion_wait=0) as worker,
    ):
        await enqueue_many(queue.redis, wanted)
        await until(lambda: queue.notes("started", least=20))
        closing = asyncio.create_task(worker.close())
        async with asyncio.timeout(30):
            while len(tries) < len(wanted):
                tries |= {job.id: job.tries for job in await claim(queue, "another")}
        await closing

    assert tries == {job_id: 1 for _, _, job_id in wanted}


async def test_keys_of_another_type_and_lost_bodies_do_not_stop_a_claim(
    redis_server: RedisProcess,
) -> None:
    async with queue_of(redis_server.url) as queue:
        redis: Any = queue.redis
        for name in ("lost", "list", "words"):
            await enqueue(queue.redis, "brief", name, job_id=name)
        await redis.delete("arq:job:lost", "arq:job:list")
        await redis.rpush("arq:job:list", "x")
        await redis.rpush("arq:retry:list", "x")
        await redis.set("arq:retry:words", "many")

        jobs = {job.id: job for job in await claim(queue, "a")}

        assert {name: job.tries for name, job in jobs.items()} == {"lost": 1, "list": 1, "words": 1}
        assert jobs["lost"].body is jobs["list"].body is None
        assert jobs["words"].body
        assert await queue.lives_ms("arq:retry:words") > 0


async def test_a_finished_job_leaves_nothing(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        await enqueue(queue.redis, "brief", "x", job_id="one")
        await claim(queue, "a")

        await FINISH(queue.redis, "arq:queue", "one", *(p + "one" for p in (CLAIMS, JOBS, TRIES)))

        assert await queue.keys("arq:*") == []
