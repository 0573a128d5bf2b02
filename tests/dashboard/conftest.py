"""What the tests of this room may use."""

from collections.abc import AsyncGenerator

import pytest
from arq.connections import ArqRedis
from playwright.async_api import Browser

from app.store.db import Pool
from tests.configs import config_for
from tests.dashboard import browser as chromium
from tests.dashboard import server as sites
from tests.dashboard.fixtures import Scene
from tests.dashboard.server import Site


@pytest.fixture
def scene(pool: Pool, redis: ArqRedis) -> Scene:
    """An empty database."""
    return Scene.of(pool, redis)


@pytest.fixture
async def site(dsn: str, redis_url: str, pool: Pool, redis: ArqRedis) -> AsyncGenerator[Site]:
    """The web process of that database, on a port of its own."""
    del redis  # emptied first
    async with sites.opened(config_for(dsn, redis_url), pool) as opened:
        yield opened


@pytest.fixture(scope="module")
async def browser() -> AsyncGenerator[Browser]:
    """A browser without a window."""
    async with chromium.launched() as launched:
        yield launched
