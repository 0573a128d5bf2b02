"""A real Redis for each test of the worker."""

from collections.abc import Iterator

import pytest

from tests.redis_process import RedisProcess, redis_process


@pytest.fixture
def redis_server() -> Iterator[RedisProcess]:
    with redis_process(durable=True) as server:
        yield server
