"""What goes over the queue: JSON, once per id, in few round trips."""

import asyncio
import json
import time
import uuid
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from arq.jobs import Job, SerializationError
from redis.asyncio import BlockingConnectionPool, SSLConnection, UnixDomainSocketConnection

from app.queue.jobs import dumps, enqueue, enqueue_many, loads, redis_pool
from tests.queue.harness import queue_of, working
from tests.redis_process import RedisProcess
from tests.wait import until


class Broken:
    def __repr__(self) -> str:
        raise ValueError("not even this")


@pytest.mark.parametrize(
    ("returned", "read"),
    [
        (ValueError("no"), {"error": "ValueError", "message": "no"}),
        (asyncio.CancelledError(), {"error": "CancelledError", "message": ""}),
        (Path("a/b"), "PosixPath('a/b')"),
        (Broken(), "<Broken>"),
        (b"ab", "YWI="),
        (Decimal("1.50"), "1.50"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        ({"deep": [KeyError("k")]}, {"deep": [{"error": "KeyError", "message": "'k'"}]}),
        ("lone \ud800", "lone ?"),
        ({(1, 2): 2**70, "set": {1}}, {"(1, 2)": float(2**70), "set": [1]}),
    ],
)
def test_a_result_is_written_as_json_whatever_it_is(returned: object, read: object) -> None:
    message = {"f": "job", "r": returned}

    back = loads(dumps(message))

    assert back == {"f": "job", "r": read}


def test_a_job_whose_arguments_are_not_json_is_refused_and_not_guessed_at() -> None:
    message: dict[str, Any] = {"f": "job", "a": (Path("a"),), "k": {}}

    with pytest.raises(TypeError):
        dumps(message)


def test_a_pickle_is_not_read() -> None:
    pickled = b"\x80\x04\x95\x05\x00\x00\x00\x00\x00\x00\x00}\x94."

    with pytest.raises(msgspec.DecodeError):
        loads(pickled)


async def test_nothing_on_the_queue_or_among_the_results_is_a_pickle(
    redis_server: RedisProcess,
) -> None:
    async with queue_of(redis_server.url) as queue, working(redis_server.url, keep_result=60):
        await enqueue(queue.redis, "failing", job_id="f")
        result = await until(lambda: queue.raw("arq:result:f"))
        await enqueue(queue.redis, "brief", "x", job_id="later", defer_by=3600)
        job = await queue.raw("arq:job:later")

    assert job is not None
    assert json.loads(job)["f"] == "brief"
    assert json.loads(result)["r"] == {"error": "ValueError", "message": "no such luck"}


async def test_a_job_is_queued_once_per_id(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        first = await enqueue(queue.redis, "brief", job_id="one")
        second = await enqueue(queue.redis, "brief", job_id="one")
        bulk = await enqueue_many(queue.redis, [("brief", (), "one"), ("brief", (), "two")])

        assert [first, second, bulk] == [True, False, [False, True]]
        assert await queue.waiting() == ["one", "two"]


async def test_an_id_whose_result_is_kept_is_not_queued_again(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue, working(redis_server.url, keep_result=60):
        await enqueue(queue.redis, "brief", job_id="one")
        await until(lambda: queue.raw("arq:result:one"))

        assert not await enqueue(queue.redis, "brief", job_id="one")


async def test_half_a_job_does_not_block_its_id(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        await queue.put("arq:job:one", "no queue entry")

        assert await enqueue(queue.redis, "brief", job_id="one")


async def test_arq_reads_what_we_enqueue(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        await enqueue(queue.redis, "brief", "x", 2, job_id="one", defer_by=3600)
        info = await Job("one", queue.redis, _deserializer=loads).info()
        lives = await queue.lives_ms("arq:job:one")

    assert info is not None
    assert (info.function, info.args) == ("brief", ["x", 2])
    assert info.score is not None
    assert 3_590 < info.score / 1000 - time.time() <= 3_600
    assert 86_400_000 < lives <= 86_400_000 + 3_600_000


async def test_jobs_in_bulk_keep_their_order_and_all_run(redis_server: RedisProcess) -> None:
    wanted = [("brief", ("bulk",), f"b{i:04}") for i in range(1_200)]

    async with queue_of(redis_server.url) as queue:
        answers = await enqueue_many(queue.redis, wanted)
        waiting = await queue.waiting()
        async with working(redis_server.url):
            await until(lambda: queue.notes("bulk", least=1_200), 20)

    assert answers == [True] * 1_200
    assert sorted(waiting) == [job_id for _, _, job_id in wanted]


async def test_arguments_that_are_not_json_are_refused_by_name(redis_server: RedisProcess) -> None:
    async with queue_of(redis_server.url) as queue:
        with pytest.raises(SerializationError, match="brief"):
            await enqueue(queue.redis, "brief", object())

        assert await queue.waiting() == []


def test_a_pool_is_made_without_a_loop_and_makes_callers_wait() -> None:
    redis: Any = redis_pool("redis://user:word@host:7000/2", max_connections=7)
    options = redis.connection_pool.connection_kwargs

    assert isinstance(redis.connection_pool, BlockingConnectionPool)
    assert redis.connection_pool.max_connections == 7
    assert (options["socket_timeout"], options["db"]) == (5, 2)


def test_a_pool_knows_unix_sockets() -> None:
    redis: Any = redis_pool("unix:///run/redis.sock?db=3")
    pool = redis.connection_pool

    assert issubclass(pool.connection_class, UnixDomainSocketConnection)
    assert isinstance(pool.make_connection(), UnixDomainSocketConnection)
    assert pool.connection_kwargs["db"] == 3


@pytest.mark.parametrize(("reqs", "checks"), [("required", True), ("none", False)])
def test_a_pool_accepts_a_self_signed_certificate_only_when_told(reqs: Any, checks: bool) -> None:
    pool = redis_pool("rediss://host:7000", ssl_cert_reqs=reqs).connection_pool

    connection = pool.make_connection()

    assert isinstance(connection, SSLConnection)
    assert connection.ssl_context.cert_reqs.name == f"CERT_{reqs.upper()}"
    assert connection.ssl_context.check_hostname is checks
