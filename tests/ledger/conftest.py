"""The ledger under test, and the proof that closes every test."""

from collections.abc import AsyncGenerator

import pytest
from hypothesis import HealthCheck, settings

from app.ledger import proof
from app.store.db import Pool
from tests.clock import SettableClock
from tests.ledger.harness import Book

settings.register_profile("long", max_examples=1500, stateful_step_count=50)


@pytest.fixture
def machine_settings() -> settings:
    """How long the state machine runs: 25 examples, or as the profile says that was asked for."""
    asked = settings()
    if settings.get_current_profile_name() != "long":
        asked = settings(max_examples=25, stateful_step_count=30)
    return settings(asked, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@pytest.fixture
async def book(pool: Pool, clock: SettableClock) -> AsyncGenerator[Book]:
    """A ledger whose books must balance when the test ends."""
    yield Book(pool, clock)

    for account in await proof.verify(pool, clock()):
        faults = (account.unaccounted, account.duplicates, account.unexpected)
        assert faults == (0, 0, 0), f"unaccounted, duplicates, invented of {account}"
