"""What a run says of itself is recorded as it is logged: without the secrets of the settings."""

import json
from collections.abc import AsyncGenerator, Generator, Sequence
from urllib.parse import quote
from uuid import UUID

import asyncpg
import pytest
from arq.connections import ArqRedis
from pydantic import SecretStr

from app.context import WorkerContext
from app.core.records import Record
from app.jobs import HostLimits, ListingEnd, Partition, RawPage, Run, SourceRequest
from app.runs.attempts import MAX_MESSAGE_LENGTH
from tests import worker_harness
from tests.configs import config_for
from workers.job import Function

PASSWORD = 'pw/7 of"the&house'  # noqa: S105 - of nobody
SHAPES = (PASSWORD, quote(PASSWORD, safe=""), quote(PASSWORD), json.dumps(PASSWORD)[1:-1])
FAST = HostLimits(rate=1_000, burst=1_000, concurrency=2)


@pytest.fixture
async def context(dsn: str, redis: ArqRedis, redis_url: str) -> AsyncGenerator[WorkerContext]:
    config = config_for(dsn, redis_url, metrics_token=SecretStr(PASSWORD))
    async with worker_harness.opened(config, redis) as opened:
        yield opened


async def recorded(context: WorkerContext, run_id: UUID) -> str:
    """The run, its events and its sources, as text."""
    rows = await context.pool.fetch(
        "SELECT r::text FROM runs r WHERE execution_id = $1"
        " UNION ALL SELECT e::text FROM run_events e WHERE execution_id = $1"
        " UNION ALL SELECT s::text FROM run_sources s WHERE execution_id = $1",
        run_id,
    )
    # A row's text doubles quotes and backslashes.
    return " ".join(row[0] for row in rows).replace('""', '"').replace("\\\\", "\\")


async def raises(_: Run) -> None:
    raise RuntimeError(f"cannot reach it with {' or '.join(SHAPES)}")


async def raises_at_the_cut(_: Run) -> None:
    raise RuntimeError("x" * (MAX_MESSAGE_LENGTH - 5) + PASSWORD)


async def fails_in_parts(run: Run) -> None:
    run.part_failed("one", RuntimeError(f"refused: {PASSWORD}"))


async def defers(run: Run) -> None:
    raise run.defer(5, f"busy with {PASSWORD}")


async def defers_too_long(run: Run) -> None:
    raise run.defer(86_400, f"busy with {PASSWORD}")


async def loses_postgres(_: Run) -> None:
    raise asyncpg.ConnectionDoesNotExistError(f"closed: {PASSWORD}")


@pytest.mark.parametrize(
    "body",
    [raises, raises_at_the_cut, fails_in_parts, defers, defers_too_long, loses_postgres],
)
async def test_no_outcome_of_a_run_is_recorded_with_a_secret(
    context: WorkerContext, body: Function
) -> None:
    run_id = await worker_harness.perform(context, job=worker_harness.job_of(body))

    said = await recorded(context, run_id)

    assert "***" in said or body is raises_at_the_cut
    assert [shape for shape in (*SHAPES, PASSWORD[:5]) if shape in said] == []


class Talkative:
    """A source whose code fails with a secret in its message."""

    name = "talkative"
    limits = FAST

    def partitions(self) -> Generator[SourceRequest, RawPage, list[Partition]]:
        yield from ()
        return [Partition("a"), Partition("b")]

    def pages(self, part: Partition) -> Generator[SourceRequest, RawPage, ListingEnd]:
        yield from ()
        raise RuntimeError(f"cannot read {part.key} with {PASSWORD}")

    def parse(self, raw: RawPage) -> Sequence[Record]:
        del raw  # there is none
        return ()


async def test_no_failure_of_a_source_is_recorded_with_a_secret(context: WorkerContext) -> None:
    run_id = await worker_harness.perform(context, job=worker_harness.collecting(Talkative()))

    said = await recorded(context, run_id)

    assert "cannot read a with ***" in said
    assert PASSWORD not in said
