"""Whatever happens, in whatever order: `verify` is sound. For longer: --hypothesis-profile=long."""

import asyncio
from collections.abc import Iterator
from uuid import uuid4

import pytest
from hypothesis import settings
from hypothesis.stateful import run_state_machine_as_test

from app.embedded import Servers
from app.store.db import Pool, open_pool
from tests import servers as real
from tests.ledger.state_machine import LedgerMachine


@pytest.fixture
def runner() -> Iterator[asyncio.Runner]:
    with asyncio.Runner() as runner:
        yield runner


@pytest.fixture
def machine_dsn(runner: asyncio.Runner, servers: Servers, template: str) -> Iterator[str]:
    name = f"machine_{uuid4().hex}"
    yield runner.run(real.create_database(servers, name, template=template))
    runner.run(real.drop_database(servers, name))


@pytest.fixture
def machine_pool(runner: asyncio.Runner, machine_dsn: str) -> Iterator[Pool]:
    """`pool`, on the machine's own loop: Hypothesis calls its steps from outside of any."""
    pool = runner.run(open_pool(machine_dsn, size=8))
    yield pool
    pool.terminate()


@pytest.mark.timeout(7200)
def test_every_tick_answers_whatever_happens(
    runner: asyncio.Runner, machine_pool: Pool, machine_dsn: str, machine_settings: settings
) -> None:
    class Machine(LedgerMachine):
        def __init__(self) -> None:
            super().__init__(runner, machine_pool, machine_dsn)

    run_state_machine_as_test(Machine, settings=machine_settings)
