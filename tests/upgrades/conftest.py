"""A database without a schema, to be upgraded."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest

from app.embedded import Servers
from tests import servers as real


@pytest.fixture
def empty(servers: Servers) -> Iterator[str]:
    """An empty database."""
    name = f"upgrades_{uuid4().hex}"
    yield asyncio.run(real.create_database(servers, name))
    asyncio.run(real.drop_database(servers, name))
