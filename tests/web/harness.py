"""A Redis of the test's own, which can be frozen and killed, and the web on top of it."""

from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import UTC, datetime, timedelta

import httpx
import pytest
from arq.connections import ArqRedis
from starlette.applications import Starlette
from starlette.types import Receive, Scope, Send

from app.core.enums import RunStatus
from app.health.facts import JobFacts
from app.web.application import create_app
from tests.configs import NO_POSTGRES, config_for
from tests.redis_process import RedisProcess, redis_process


@pytest.fixture
def redis_server() -> Iterator[RedisProcess]:
    with redis_process() as server:
        yield server


@pytest.fixture
async def redis(redis_server: RedisProcess) -> AsyncGenerator[ArqRedis]:
    client = ArqRedis(unix_socket_path=str(redis_server.socket))
    yield client
    await client.aclose()


@asynccontextmanager
async def visit(app: Starlette) -> AsyncGenerator[httpx.AsyncClient]:
    """A browser on the running app."""
    async with app.router.lifespan_context(app) as state:

        async def served(scope: Scope, receive: Receive, send: Send) -> None:
            await app({**scope, "state": state}, receive, send)

        transport = httpx.ASGITransport(served, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://web") as client:
            yield client


Visit = Callable[[], AbstractAsyncContextManager[httpx.AsyncClient]]


@pytest.fixture
def web(redis_server: RedisProcess) -> Visit:
    return lambda: visit(create_app(config_for(NO_POSTGRES, redis_server.url)))


JOB = "scrape_all_platforms"


def good() -> JobFacts:
    now = datetime.now(UTC)
    return JobFacts(
        job=JOB,
        last_run=now,
        last_success=now,
        last_status=RunStatus.SUCCESS,
        next_run=now + timedelta(seconds=300),
        interval_seconds=300,
    )
