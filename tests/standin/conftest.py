"""A stand-in web for each module, and one with faults of its own for each test that breaks it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import httpx
import pytest

from scripts.standin.testing import Standin

START = datetime(2026, 9, 1, 12, tzinfo=UTC)


@pytest.fixture(scope="module")
def web() -> Iterator[Standin]:
    with Standin.start(events=600, start=START) as standin:
        yield standin


@pytest.fixture
def broken() -> Iterator[Standin]:
    with Standin.start(events=60, start=START, move_share=1.0) as standin:
        yield standin


@pytest.fixture
def client() -> Iterator[httpx.Client]:
    with httpx.Client(timeout=5, trust_env=False) as client:
        yield client
