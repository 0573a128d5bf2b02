"""Runs to claim, under leases of fifteen seconds."""

import pytest

from app.store.db import Pool
from tests.clock import SettableClock
from tests.runs.harness import Desk


@pytest.fixture
def desk(pool: Pool, clock: SettableClock) -> Desk:
    return Desk(pool, clock)
