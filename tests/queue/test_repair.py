"""Whatever others write under our keys in Redis, work goes on within a minute."""

import asyncio
from typing import Any, cast

import pytest
from arq.connections import ArqRedis
from arq.constants import default_queue_name
from redis.exceptions import NoPermissionError, ReadOnlyError, RedisError

from app.core.messages import HostLimits
from app.fetch.limiter import RedisLimiter
from app.fetch.permits import Admission
from app.health import keys
from app.health.metrics.read import retry_budgets
from app.queue import org_queue, repair
from app.queue.jobs import enqueue, redis_pool
from app.queue.repair import RedisRepair, family_of
from tests.dispatch.orgs import add
from tests.queue.harness import Queue, queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until

HOST = "rollcall:limit:books.example:443"
OURS = (
    "rollcall:queue:collections", "rollcall:queue:collections:slow",
    "rollcall:queue:collections:later", "rollcall:queue:collections:workers",
    "rollcall:queue:collections:admitted", "rollcall:limit:resting", "rollcall:limit:retried",
    "rollcall:limit:hosts:o",
    "rollcall:limit:alive:w", HOST, f"{HOST}:slots", f"{HOST}:waiting", f"{HOST}:workers",
    f"{HOST}:waiting:vm:12:0a1b2c", f"{HOST}:of:o:1", f"{HOST}:of:o:1:slots", f"{HOST}:tenants",
    "rollcall:robots:https://books.example:443", "rollcall:health:jobs", "rollcall:health:workers",
    "rollcall:health:job:poll_news", "rollcall:health:house:accounting", "rollcall:metrics:totals",
    "rollcall:turn:minute", "rollcall:alert:postgres", "rollcall:log:1",
    "rollcall:cached:log:of:", "rollcall:cached:log:of::bytes", "rollcall:cached:robots:of:o",
    "rollcall:cached:robots:of:o:bytes", "rollcall:cached:log:tenants",
    "rollcall:login:ab", "rollcall:sign_in:ab", "rollcall:api_refused:ab", "rollcall:api:tried:o",
    "rollcall:arq:w",
)  # fmt: skip


@pytest.mark.parametrize("name", OURS)
async def test_a_key_of_another_type_is_removed(redis: ArqRedis, name: str) -> None:
    any_, family = cast("Any", redis), family_of(name)
    assert family is not None
    if family.kind == "string":
        await any_.rpush(name, "x")
    else:
        await any_.set(name, "x", ex=60)

    assert await RedisRepair().repair(redis) == 1

    assert not await any_.exists(name)


@pytest.mark.parametrize("name", OURS)
async def test_a_key_without_an_end_gets_one_or_is_removed(redis: ArqRedis, name: str) -> None:
    any_, family = cast("Any", redis), family_of(name)
    assert family is not None
    await {
        "string": lambda: any_.set(name, "1"),
        "list": lambda: any_.rpush(name, "1"),
        "set": lambda: any_.sadd(name, "1"),
        "zset": lambda: any_.zadd(name, {"1": 1}),
        "hash": lambda: any_.hset(name, "due", "1"),
    }[family.kind]()

    await RedisRepair().repair(redis)

    assert await any_.ttl(name) != -1


@pytest.mark.parametrize(
    "fields", [{"due": "abc"}, {"due": "9" * 30}, {"until": "nan"}, {"closed": "inf"}, {"slow": ""}]
)
async def test_a_host_whose_limits_are_malformed_is_requested_again(
    redis: ArqRedis, fields: dict[str, str]
) -> None:
    any_ = cast("Any", redis)
    await any_.hset(HOST, mapping=fields)
    await any_.expire(HOST, 600)

    await RedisRepair().repair(redis)

    limiter = RedisLimiter(redis)
    async with asyncio.timeout(5):
        permit = await limiter.acquire(
            "books.example:443", HostLimits(rate=10, burst=1, concurrency=1)
        )
    limiter.release(permit)
    await limiter.close()
    assert permit.admission is Admission.GO


async def test_the_budget_of_a_host_with_retries_stays_known(redis: ArqRedis) -> None:
    limiter = RedisLimiter(redis)
    limits = HostLimits(rate=10, burst=1, concurrency=1)
    limiter.release(await limiter.acquire("books.example:443", limits, again=True))
    await limiter.close()

    assert await RedisRepair().repair(redis) == 0

    assert [budget.host for budget in await retry_budgets(redis)] == ["books.example:443"]


async def test_slots_held_for_ever_are_freed(redis: ArqRedis) -> None:
    any_ = cast("Any", redis)
    await any_.zadd(f"{HOST}:slots", {f"t{n}": 1e18 for n in range(9)})
    await any_.expire(f"{HOST}:slots", 600)

    await RedisRepair().repair(redis)

    assert not await any_.exists(f"{HOST}:slots")


async def test_a_malformed_worker_does_not_stop_organisations_runs(redis: ArqRedis) -> None:
    any_ = cast("Any", redis)
    await any_.zadd(f"{org_queue.ORG_QUEUE}:workers", {"evil": 9e15, "99999999 x": 9e15})
    await any_.zadd(f"{org_queue.ORG_QUEUE}:admitted", {"run:x:1": 1e300})
    await org_queue.announce_slots(redis, "w1", 2, 60)
    await add(redis, 5)

    assert await org_queue.admit_runs(redis) == 2


async def test_a_due_run_that_waits_in_the_far_future_is_not_queued(redis: ArqRedis) -> None:
    await enqueue(redis, "scrape", "x", job_id="run:far:1", defer_by=3600)
    await enqueue(redis, "scrape", "x", job_id="run:near:1", defer_by=5)

    assert await org_queue.are_queued(redis, ["run:far:1", "run:near:1"]) == [False, True]


async def test_an_instant_that_cannot_be_calculated_with_is_not_known(redis: ArqRedis) -> None:
    any_ = cast("Any", redis)
    await any_.sadd(keys.JOBS, "poll_news")
    await any_.expire(keys.JOBS, 600)
    text = '{"job": "poll_news", "last_run": "9999-12-31T23:59:59-14:00", "finished": 3}'
    await any_.set(keys.job_key("poll_news"), text, ex=600)

    facts = (await keys.read_jobs(redis))["poll_news"]

    assert (facts.last_run, facts.finished) == (None, 3)


async def test_caches_are_bounded_in_all_and_the_largest_goes_first(redis: ArqRedis) -> None:
    any_ = cast("Any", redis)
    for n in range(5):
        await any_.set(f"rollcall:robots:https://h{n}:443", "x" * (n + 1) * 2_000_000, ex=600)

    await RedisRepair().repair(redis)

    kept = sorted([key.decode() async for key in any_.scan_iter("rollcall:robots:*")])
    assert kept == [f"rollcall:robots:https://h{n}:443" for n in range(3)]


async def test_when_redis_is_nearly_full_caches_give_way_and_jobs_go_on(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repair, "REPAIR_SECONDS", 0.5)
    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, ctx={"lease_seconds": 1.5}),
    ):
        any_ = cast("Any", queue.redis)
        await any_.config_set("maxmemory-policy", "noeviction")
        used = (await any_.info("memory"))["used_memory"]
        for n in range(20):
            await any_.set(f"rollcall:robots:https://h{n}:443", "x" * 500_000, ex=86_400)
        await any_.config_set("maxmemory", used + 8_000_000)

        async def done() -> list[float]:
            try:
                await enqueue(queue.redis, "brief", "after", job_id="after")
            except RedisError:  # full, until the caches give way
                return []
            return await queue.notes("after")

        assert await until(done, 20)
        assert not await queue.keys("rollcall:robots:*")


async def _queue_of_wrong_type(queue: Queue) -> None:
    await queue.put(default_queue_name, "x")


async def _held_entries(queue: Queue) -> None:
    any_ = cast("Any", queue.redis)
    for start in range(0, 3_000, 500):
        ids = [f"held{n}" for n in range(start, start + 500)]
        await any_.zadd(default_queue_name, dict.fromkeys(ids, 1))
        await any_.mset({f"arq:in-progress:{one}": "x" for one in ids})


async def _broken_parts(queue: Queue) -> None:
    any_ = cast("Any", queue.redis)
    await any_.zadd(
        default_queue_name, {"bad-body": 1, "bad-try": 1, "bad-claim": 1, "bad-text": 1}
    )
    await any_.hset("arq:job:bad-body", "a", "b")
    await any_.set("arq:retry:bad-try", "not a number")
    await any_.rpush("arq:in-progress:bad-claim", "x")
    await any_.set("arq:job:bad-text", b"\xff not JSON")


@pytest.mark.parametrize("harm", [_queue_of_wrong_type, _held_entries, _broken_parts])
async def test_jobs_go_on_whatever_is_in_arqs_queue(
    redis_server: RedisProcess, monkeypatch: pytest.MonkeyPatch, harm: Any
) -> None:
    monkeypatch.setattr(repair, "REPAIR_SECONDS", 0.5)
    async with (
        queue_of(redis_server.url) as queue,
        working(redis_server.url, ctx={"lease_seconds": 1.5}),
    ):
        await harm(queue)

        async def done() -> list[float]:
            try:
                await enqueue(queue.redis, "brief", "after", job_id="after")
            except Exception:  # noqa: BLE001 - until the queue is repaired
                return []
            return await queue.notes("after")

        assert await until(done, 20)


async def test_a_redis_that_takes_no_writes_is_told_of_as_that(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        await cast("Any", queue.redis).execute_command("REPLICAOF", "127.0.0.1", "1")

        with pytest.raises(ReadOnlyError):
            await RedisRepair().repair(queue.redis)


@pytest.mark.parametrize("refused", ["type", "pttl"])
async def test_nothing_is_removed_because_redis_answered_with_an_error(
    redis_server: RedisProcess, refused: str
) -> None:
    async with queue_of(redis_server.url) as queue:
        any_ = cast("Any", queue.redis)
        await any_.execute_command(
            "ACL", "SETUSER", "rollcall", "on", ">x", "~*", "&*", "+@all", f"-{refused}"
        )
        await any_.zadd(default_queue_name, {"job": 1})
        await any_.set("rollcall:turn:minute", "w", ex=60)
        limited = redis_pool(redis_server.url.replace("unix://", "unix://rollcall:x@"))
        try:
            with pytest.raises(NoPermissionError):
                await RedisRepair().repair(limited)
        finally:
            await limited.aclose(close_connection_pool=True)

        assert await any_.exists(default_queue_name, "rollcall:turn:minute") == 2
