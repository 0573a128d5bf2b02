"""What every test may use: a real Postgres and Redis of the suite's own, a clock, a worker context.

A server is started by the first test that uses one.
"""

import asyncio
import gc
import signal
import time
from collections.abc import AsyncGenerator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import cast

import asyncpg
import pytest
from arq.connections import ArqRedis
from hypothesis import settings

from app import migrations
from app.context import WorkerContext
from app.embedded import Servers
from app.queue.clock import elapsed
from app.queue.jobs import redis_pool
from app.store.db import Pool, open_pool
from scripts.standin.testing import Standin
from tests import limiter_tasks, worker_harness
from tests import servers as real
from tests.clock import SettableClock
from tests.configs import config_for
from tests.databases import Databases
from tests.forked.processes import forked

OURS = "rollcall:*"

# pytest-xdist runs a file in one process: those that take minutes begin first, or one process would
# still be at work on them when the others have ended.
LONGEST = (
    "dashboard/test_every_page.py",
    "upgrades/test_data.py",
    "commands/test_export.py",
    "embedded/test_embedded.py",
    "api/test_document.py",
    "own_jobs/test_kit.py",
    "api/test_door.py",
    "recipes/test_incomplete.py",
    "dashboard/test_in_the_browser.py",
    "crash/test_crash.py",
    "ledger/test_machine.py",
    "orgs/test_matrix.py",
    "dispatch/test_bulk.py",
    "collections/test_restart.py",
    "acceptance/test_alerts.py",
    "acceptance/test_demo.py",
    "upgrades/test_deploy.py",
    "bench/test_ad_hoc_smoke.py",
)
FOLDER = Path(__file__).parent

# The suite makes the same examples in every run, however long one takes on a busy machine;
# --hypothesis-profile=default makes others.
settings.register_profile("suite", derandomize=True, deadline=None)
settings.load_profile("suite")

# A shell starts what runs in its background with SIGINT ignored, and so would be the commands that
# tests interrupt.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# What is made before the first test is kept to the end: to look through it for garbage again and
# again, while it grows, is 40 % of the time for collecting.
gc.disable()


@pytest.hookimpl(tryfirst=True)
def pytest_runtestloop() -> None:
    """Look for garbage from the first test on, in what tests make."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(trylast=True)  # pytest-randomly has shuffled them
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first; the others as they come."""
    place = {FOLDER / name: number for number, name in enumerate(LONGEST)}
    items.sort(key=lambda item: place.get(item.path, len(place)))


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
def forked_processes() -> Iterator[None]:
    """Processes of our modules are forked, not started from nothing."""
    with forked():
        yield


@pytest.fixture(scope="session", autouse=True)
def no_public_certificates(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test asks a public server, and each client would read all certificates: 24 ms."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSL_CERT_FILE", "")
        patch.setenv("SSL_CERT_DIR", str(tmp_path_factory.mktemp("certificates")))
        yield


@pytest.fixture(autouse=True)
def time_of_cron_entries() -> Iterator[None]:
    """The clock of the process, which a worker that a test opens here lets follow its own."""
    yield
    elapsed.follow(time.time)


@pytest.fixture(scope="session")
def servers(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Iterator[Servers]:
    """The session's Postgres and Redis, shared by all pytest-xdist workers."""
    started = real.start_shared(tmp_path_factory, worker_id)
    yield started
    started.close()


@pytest.fixture(scope="session")
def template(servers: Servers, worker_id: str) -> str:
    """The name of a database with the schema and nothing in it, migrated once for each worker."""
    name = f"template_{worker_id}"
    with ThreadPoolExecutor(1) as thread:  # Alembic runs a loop of its own
        thread.submit(_migrated, servers, name).result()
    return name


def _migrated(servers: Servers, name: str) -> None:
    with suppress(asyncpg.DuplicateDatabaseError):  # from the last mutant: scripts/mutants.py
        migrations.upgrade(asyncio.run(real.create_database(servers, name)))


@pytest.fixture(scope="session")
def databases(servers: Servers, template: str) -> Iterator[Databases]:
    """The database that the tests of this process take in turn."""
    kept = Databases(servers, template)
    yield kept
    kept.close()


@pytest.fixture
def dsn(databases: Databases) -> Iterator[str]:
    """A database of the test's own, with the schema and nothing in it."""
    yield databases.take()
    databases.give_back()


@pytest.fixture
async def pool(dsn: str) -> AsyncGenerator[Pool]:
    """Up to ten connections to the test's database."""
    opened = await open_pool(dsn, size=10)
    yield opened
    opened.terminate()


@pytest.fixture(scope="session")
def redis_url(servers: Servers, worker_id: str) -> str:
    """The Redis database of this pytest-xdist worker."""
    return real.redis_url(servers, worker_id)


@pytest.fixture
async def redis(redis_url: str) -> AsyncGenerator[ArqRedis]:
    """An empty Redis. Fails the test that leaves a key of ours without a TTL."""
    opened = redis_pool(redis_url)
    await opened.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    yield opened
    await limiter_tasks.ended()
    kept = await _kept_for_ever(opened)
    await opened.execute_command("FLUSHDB")  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    await opened.aclose(close_connection_pool=True)
    assert not kept, f"keys without a TTL: {', '.join(kept)}"


async def _kept_for_ever(redis: ArqRedis) -> list[str]:
    found = cast("list[bytes]", await redis.keys(OURS))  # pyright: ignore[reportUnknownMemberType] - redis-py has no types here
    return [key.decode() for key in found if await redis.pttl(key) == -1]


@pytest.fixture
def clock() -> SettableClock:
    """A clock that stands until the test sets it."""
    return SettableClock()


@pytest.fixture
def standin() -> Iterator[Standin]:
    """A pretend web of thirty matches a site."""
    with Standin.start(events=30, move_share=0.2) as web:
        yield web


@pytest.fixture
async def context(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin
) -> AsyncGenerator[WorkerContext]:
    """All that a worker has open, on real servers and the pretend web."""
    async with worker_harness.opened(config_for(dsn, redis_url, standin), redis) as opened:
        yield opened
