"""The web against a real Redis, well and ill."""

import asyncio
import time
import tomllib
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from redis.asyncio import Redis
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from app.core.version import VERSION
from app.health.facts import JobFacts, WorkerFacts
from app.health.keys import write_jobs, write_worker
from app.web.application import create_app
from app.web.routes import SECURITY
from app.web.ttl_cache import TtlCache
from tests.configs import NO_POSTGRES, config_for
from tests.redis_process import RedisProcess
from tests.wait import until
from tests.web.harness import JOB, Visit, good, visit

GONE: dict[str, object] = {"status": "unhealthy", "reason": "redis_unreachable", "jobs": {}}


async def test_the_process_is_alive_without_asking_anyone(web: Visit) -> None:
    async with web() as client:
        answer = await client.get("/livez")

    assert (answer.status_code, answer.json()) == (200, {"status": "alive"})


async def test_no_jobs_at_all_is_unhealthy(web: Visit) -> None:
    async with web() as client:
        answer = await client.get("/health/scheduler")

    assert answer.status_code == 503
    assert answer.json() == {"status": "unhealthy", "reason": "no_jobs", "jobs": {}}


async def test_a_job_that_never_ran_is_not_started_and_503(web: Visit, redis: Redis) -> None:
    await write_jobs(redis, [(JOB, JobFacts(job=JOB, interval_seconds=300))])

    async with web() as client:
        answer = await client.get("/health/scheduler")

    assert answer.status_code == 503
    assert answer.json()["jobs"][JOB] == {
        "status": "not_started",
        "last_run": None,
        "last_success": None,
        "last_status": None,
        "next_run": None,
        "age_seconds": None,
        "interval_seconds": 300,
        "reason": "never_ran",
    }


async def test_a_job_on_time_is_healthy(web: Visit, redis: Redis) -> None:
    await write_jobs(redis, [(JOB, good())])

    async with web() as client:
        answer = await client.get("/health/scheduler")

    assert answer.status_code == 200
    assert set(answer.json()) == {"status", "jobs"}
    assert answer.json()["jobs"][JOB]["status"] == "healthy"
    assert answer.json()["jobs"][JOB]["age_seconds"] < 5


async def test_a_silent_job_is_overdue_and_503(web: Visit, redis: Redis) -> None:
    await write_jobs(
        redis, [(JOB, replace(good(), last_run=datetime.now(UTC) - timedelta(hours=1)))]
    )

    async with web() as client:
        answer = await client.get("/health/scheduler")

    assert answer.status_code == 503
    assert answer.json()["jobs"][JOB]["reason"] == "overdue"


async def test_a_frozen_redis_is_said_within_a_second_and_forgiven(
    web: Visit, redis: Redis, redis_server: RedisProcess
) -> None:
    await write_jobs(redis, [(JOB, good())])

    async with web() as client:

        async def is_well() -> bool:
            return (await client.get("/health/scheduler")).status_code == 200

        async def is_gone() -> bool:
            started = time.monotonic()
            answer = await client.get("/health/scheduler")
            at_once = time.monotonic() - started < 1
            return at_once and answer.status_code == 503 and answer.json() == GONE

        await until(is_well)
        redis_server.freeze()
        await until(is_gone)
        redis_server.thaw()

        await until(is_well)


async def test_a_redis_that_answers_each_command_late_is_read_all_the_same(
    redis: Redis, redis_server: RedisProcess, tmp_path: Path
) -> None:
    await write_jobs(redis, [(JOB, good())])
    await write_worker(redis, "w", 60, WorkerFacts(seen_at=datetime.now(UTC)))
    web = create_app(config_for(NO_POSTGRES, f"unix://{tmp_path / 'late'}"))

    async with late(redis_server.socket, tmp_path / "late", 0.15), visit(web) as client:

        async def is_well() -> bool:
            return (await client.get("/health")).status_code == 200

        await until(is_well)


@asynccontextmanager
async def late(server: Path, at: Path, seconds: float) -> AsyncGenerator[None]:
    """Pass connections at `at` on to the server, whose answers take so many seconds more."""

    async def pass_on(source: StreamReader, target: StreamWriter, pause: float) -> None:
        with suppress(OSError):
            while data := await source.read(65_536):
                await asyncio.sleep(pause)
                target.write(data)
        target.close()

    async def connect(source: StreamReader, target: StreamWriter) -> None:
        answers, commands = await asyncio.open_unix_connection(server)
        await asyncio.gather(pass_on(source, commands, 0), pass_on(answers, target, seconds))

    async with await asyncio.start_unix_server(connect, at):
        yield


async def test_a_dead_redis_is_a_reason_not_a_traceback(
    web: Visit, redis_server: RedisProcess
) -> None:
    redis_server.kill()

    async with web() as client:
        answer = await client.get("/health/scheduler")

    assert (answer.status_code, answer.json()) == (503, GONE)


async def test_ready_names_what_does_not_answer_and_not_where_it_lives(web: Visit) -> None:
    async with web() as client:
        answer = await client.get("/readyz")

    assert answer.status_code == 503
    assert answer.json()["status"] == "not ready"
    assert answer.json()["redis"] == "ok"
    assert answer.json()["postgres"].startswith("unreachable (")
    assert "127.0.0.1" not in answer.text


async def test_the_summary_says_when_no_worker_beats(web: Visit, redis: Redis) -> None:
    await write_jobs(redis, [(JOB, good())])

    async with web() as client:
        idle = await client.get("/health")
    await write_worker(redis, "w", 45, WorkerFacts(seen_at=datetime.now(UTC)))
    async with web() as client:
        well = await client.get("/health")

    assert (idle.status_code, idle.json()["reason"]) == (503, "no_workers")
    assert well.status_code == 200
    assert well.json() == {
        "status": "healthy",
        "version": VERSION,
        "workers": 1,
        "jobs": {"healthy": 1},
    }


async def test_an_unknown_address_is_answered_in_json_with_the_security_headers(
    web: Visit,
) -> None:
    async with web() as client:
        answer = await client.get("/nothing")

    assert (answer.status_code, answer.json()["reason"]) == (404, "not_found")
    assert "default-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"


async def test_what_no_handler_answers_has_the_security_headers_too(
    redis_server: RedisProcess,
) -> None:
    async def broken(_: Request) -> Response:
        raise RuntimeError

    app = create_app(config_for(NO_POSTGRES, redis_server.url))
    app.router.routes.insert(0, Route("/broken", broken))
    async with visit(app) as client:
        failed = await client.get("/broken", headers={"accept": "text/html"})
        two_lengths = {"content-length": "0", "transfer-encoding": "chunked"}
        refused = await client.post("/broken", headers=two_lengths)

    assert (failed.status_code, refused.status_code) == (500, 400)
    for answer in (failed, refused):
        assert SECURITY.items() <= answer.headers.items()


async def test_fifty_visitors_at_once_cost_one_read() -> None:
    reads: list[int] = []

    async def read() -> int:
        reads.append(1)
        await asyncio.sleep(0)
        return len(reads)

    fresh = TtlCache(read)

    values = await asyncio.gather(*(fresh.value() for _ in range(50)))

    assert values == [1] * 50


async def test_a_visitor_who_leaves_does_not_take_the_answer_along() -> None:
    go = asyncio.Event()

    async def read() -> int:
        await go.wait()
        return 1

    fresh = TtlCache(read)
    leaver = asyncio.create_task(fresh.value())
    stayer = asyncio.create_task(fresh.value())
    await asyncio.sleep(0)
    leaver.cancel()
    go.set()

    assert await stayer == 1


def test_the_version_is_the_one_of_the_project() -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())

    assert project["project"]["version"] == VERSION
