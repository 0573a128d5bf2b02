"""Runs whose pages are kept."""

from datetime import timedelta
from typing import Any

from app.context import WorkerContext
from app.sources.base import Source
from scripts.standin.testing import Standin
from tests import worker_harness
from workers import odds

DAY = timedelta(days=1)


def source(context: WorkerContext) -> Source:
    return odds.every_source(context.config)[1]


def only(context: WorkerContext, read: Source | None = None) -> Any:
    """The job with one source alone."""
    return worker_harness.collecting(read or source(context))


async def scraped(
    context: WorkerContext, standin: Standin, rounds: int = 3, read: Any = None
) -> None:
    for _ in range(rounds):
        await worker_harness.perform(context, job=only(context, read))
        standin.advance()
