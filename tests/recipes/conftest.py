"""A worker context whose recipes stand in a folder, and a shop for them to read."""

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from arq.connections import ArqRedis

from app.context import WorkerContext
from scripts.standin.testing import Standin
from tests import worker_harness
from tests.configs import config_for
from tests.recipes.shop import Shop, open_shop


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """SOURCES_DIR."""
    made = tmp_path / "sources"
    made.mkdir()
    return made


@pytest.fixture
async def shop() -> AsyncGenerator[Shop]:
    """A shop of seven wares on loopback."""
    async with open_shop(Shop()) as opened:
        yield opened


@pytest.fixture
async def kitchen(
    dsn: str, redis: ArqRedis, redis_url: str, standin: Standin, folder: Path
) -> AsyncGenerator[WorkerContext]:
    """A worker context that reads the folder, and may request loopback."""
    config = config_for(dsn, redis_url, standin, sources_dir=folder, guard_allow=("127.0.0.1",))
    async with worker_harness.opened(config, redis) as context:
        yield context
