"""A ledger whose books a test may spoil."""

import pytest

from app.store.db import Pool
from tests.clock import SettableClock
from tests.ledger.harness import Book


@pytest.fixture
def book(pool: Pool, clock: SettableClock) -> Book:
    return Book(pool, clock)
