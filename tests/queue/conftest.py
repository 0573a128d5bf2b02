"""A real Redis for each test of the worker."""

from collections.abc import Iterator

import pytest

from tests.queue.harness import Valkey, valkey_server


@pytest.fixture
def valkey() -> Iterator[Valkey]:
    with valkey_server() as server:
        yield server
