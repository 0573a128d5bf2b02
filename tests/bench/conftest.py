"""Benchmarks run in the process of the test."""

import gc
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def leaks() -> Iterator[None]:
    """Fail the test that leaves a connection open, not the one that runs when it is collected."""
    yield
    gc.collect()
