"""Statements of a decision find open runs through indexes, though statistics say that none is open.

So it is if `runs` was analysed after all had succeeded, and many are queued then.
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest
from asyncpg import Record

from app.core.enums import RunStatus
from app.embedded import Servers
from app.scheduling.policies import Policies
from app.scheduling.schedule import Schedule
from app.store.db import Pool, open_pool
from app.store.orgs import selections
from app.store.schedules import decisions
from tests import servers as real
from tests.dispatch import orgs
from tests.store.plans import rows_scanned

BEFORE = datetime(2026, 1, 1, tzinfo=UTC)
DUE = datetime(2026, 1, 1, 0, 5, tzinfo=UTC)
SOME = "SELECT execution_id, schedule_id, org_id FROM runs WHERE status = 'queued' LIMIT 20"
READ_AT_MOST = 25
READS: dict[str, Callable[[Any, Sequence[Record]], Awaitable[Any]]] = {
    "open runs of schedules": lambda c, runs: decisions.open_runs(
        c, [run["schedule_id"] for run in runs]
    ),
    "last durations": lambda c, runs: decisions.last_durations(
        c, [run["execution_id"] for run in runs]
    ),
    "runs of an organisation": lambda c, runs: selections.runs_since(c, runs[0]["org_id"], BEFORE),
}


@pytest.fixture(scope="module")
async def queued(servers: Servers, template: str) -> AsyncGenerator[Pool]:
    """Organisations that each have a run, queued after `runs` was analysed."""
    name = f"open_{uuid4().hex}"
    opened = await open_pool(await real.create_database(servers, name, template=template), size=2)
    await orgs.found(opened, BEFORE, [Schedule.cron("*/5 * * * *")] * 3_000, Policies())
    await orgs.add_runs(opened, BEFORE, RunStatus.SUCCESS)
    await opened.execute("VACUUM ANALYZE runs, schedules, organizations")
    await orgs.add_runs(opened, DUE, RunStatus.QUEUED)
    yield opened
    await opened.close()
    await real.drop_database(servers, name)


@pytest.mark.parametrize("name", READS)
async def test_no_statement_reads_the_open_runs_of_others(queued: Pool, name: str) -> None:
    runs = await queued.fetch(SOME)

    scanned = await rows_scanned(queued, lambda c: READS[name](c, runs), {"runs"})

    assert scanned
    assert max(scanned) <= READ_AT_MOST, scanned
